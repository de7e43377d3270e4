"""kernels/machine.py for Numba: its lanes, and what _numba_pointers.py has."""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from fastlogits.backends._numba_compiler import TEXT
from fastlogits.backends._numba_pointers import (  # noqa: F401
    cast,
    copy,
    end_streams,
    halves,
    pointers,
    prefetch,
    stack,
    stretch,
    until_line,
)

LANE_BYTES = 64


def typed(f32, f64):
    """A function that Numba resolves to f32 or f64 by the type of the first argument."""

    def primitive(*args):
        raise NotImplementedError

    @overload(primitive, jit_options=TEXT, strict=False)
    def choose(value, *rest):
        return f64 if getattr(value, "dtype", value) == types.float64 else f32

    return primitive


class Lanes(types.Type):
    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Lanes({dtype})")


def lanes_of(dtype):
    """The LLVM type."""
    real, size = (ir.DoubleType(), 8) if dtype == types.float64 else (ir.FloatType(), 4)
    return ir.VectorType(real, LANE_BYTES // size)


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, lanes_of(fe_type.dtype))


def splatted(builder, value, vector):
    """`value` in each lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    all_first = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(first, undefined, all_first)


@intrinsic
def width(typingctx, x):
    def emit(context, builder, signature, args):
        return context.get_constant(types.intp, lanes_of(x.dtype).count)

    return types.intp(x), emit


@intrinsic
def lowest(typingctx, x):
    def emit(context, builder, signature, args):
        return context.get_constant(types.float64, -1022.0 if x.dtype == types.float64 else -126.0)

    return types.float64(x), emit


@intrinsic
def splat(typingctx, value, like):
    def emit(context, builder, signature, args):
        real = context.cast(builder, args[0], value, like.dtype)
        return splatted(builder, real, lanes_of(like.dtype))

    return Lanes(like.dtype)(value, like), emit


def lanes_at(builder, x, at, vector):
    return builder.bitcast(builder.gep(x, [at]), vector.as_pointer())


@intrinsic
def read(typingctx, x, at):
    def emit(context, builder, signature, args):
        vector = lanes_of(x.dtype)
        return builder.load(lanes_at(builder, *args, vector), align=LANE_BYTES // vector.count)

    return Lanes(x.dtype)(x, types.intp), emit


@intrinsic
def write(typingctx, x, at, lanes):
    def emit(context, builder, signature, args):
        vector = args[2].type
        builder.store(args[2], lanes_at(builder, *args[:2], vector), align=LANE_BYTES // vector.count)
        return context.get_dummy_value()

    return types.none(x, types.intp, lanes), emit


@intrinsic
def write_past(typingctx, y, at, lanes):
    def emit(context, builder, signature, args):
        store = builder.store(args[2], lanes_at(builder, *args[:2], args[2].type), align=LANE_BYTES)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return types.none(y, types.intp, lanes), emit


def tail(builder, n, vector):
    """The mask of the first n lanes."""
    index = ir.VectorType(ir.IntType(32), vector.count)
    count = splatted(builder, builder.trunc(n, ir.IntType(32)), index)
    return builder.icmp_signed("<", ir.Constant(index, list(range(vector.count))), count)


def masked(builder, name, vector, result, args):
    real = "f64" if isinstance(vector.element, ir.DoubleType) else "f32"
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(result, [arg.type for arg in args]),
        f"llvm.masked.{name}.v{vector.count}{real}.p0",
    )
    return builder.call(function, args)


@intrinsic
def read_tail(typingctx, x, at, n, padding):
    def emit(context, builder, signature, args):
        x_, at_, n_, padding_ = args
        vector = lanes_of(x.dtype)
        filled = splatted(builder, context.cast(builder, padding_, padding, x.dtype), vector)
        align = ir.IntType(32)(LANE_BYTES // vector.count)
        where = lanes_at(builder, x_, at_, vector)
        return masked(builder, "load", vector, vector, [where, align, tail(builder, n_, vector), filled])

    return Lanes(x.dtype)(x, types.intp, types.intp, padding), emit


@intrinsic
def write_tail(typingctx, x, at, n, lanes):
    def emit(context, builder, signature, args):
        x_, at_, n_, lanes_ = args
        vector = lanes_.type
        align = ir.IntType(32)(LANE_BYTES // vector.count)
        where = lanes_at(builder, x_, at_, vector)
        masked(builder, "store", vector, ir.VoidType(), [lanes_, where, align, tail(builder, n_, vector)])
        return context.get_dummy_value()

    return types.none(x, types.intp, types.intp, lanes), emit


@intrinsic
def larger_lanes(typingctx, x, m):
    def emit(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return x(x, m), emit


@intrinsic
def magnitude(typingctx, lanes):
    def emit(context, builder, signature, args):
        kind = ir.FunctionType(args[0].type, [args[0].type])
        name = f"llvm.fabs.v{args[0].type.count}{'f64' if lanes.dtype == types.float64 else 'f32'}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return lanes(lanes), emit


def folded(builder, lanes, combine):
    """Halves combined until one lane is left."""
    count = lanes.type.count
    while count > 1:
        count //= 2
        index = ir.VectorType(ir.IntType(32), count)
        low, high = (ir.Constant(index, list(range(first, first + count))) for first in (0, count))
        lanes = combine(builder.shuffle_vector(lanes, lanes, low), builder.shuffle_vector(lanes, lanes, high))
    return builder.extract_element(lanes, ir.IntType(32)(0))


@intrinsic
def largest(typingctx, lanes):
    def emit(context, builder, signature, args):
        return folded(builder, args[0], lambda x, m: builder.select(builder.fcmp_ordered(">", x, m), x, m))

    return lanes.dtype(lanes), emit


@intrinsic
def add_lanes(typingctx, lanes):
    def emit(context, builder, signature, args):
        lanes_ = args[0]
        if lanes.dtype == types.float32:
            lanes_ = builder.fpext(lanes_, ir.VectorType(ir.DoubleType(), lanes_.type.count))
        return folded(builder, lanes_, builder.fadd)

    return types.float64(lanes), emit


def any_lane(builder, condition):
    bits = ir.IntType(condition.type.count)
    return builder.icmp_unsigned("!=", builder.bitcast(condition, bits), bits(0))


@intrinsic
def any_nan(typingctx, x, y):
    def emit(context, builder, signature, args):
        return any_lane(builder, builder.fcmp_unordered("uno", *args))

    return types.boolean(x, y), emit


@intrinsic
def count_above(typingctx, x, limit):
    def emit(context, builder, signature, args):
        above = builder.fcmp_unordered(">", *args)
        count = builder.ctpop(builder.bitcast(above, ir.IntType(above.type.count)))
        return builder.zext(count, context.get_value_type(types.intp))

    return types.intp(x, limit), emit


def first(builder, condition):
    bits = ir.IntType(condition.type.count)
    kind = ir.FunctionType(bits, [bits, ir.IntType(1)])
    count = cgutils.get_or_insert_function(builder.module, kind, f"llvm.cttz.i{bits.width}")
    zeros = builder.call(count, [builder.bitcast(condition, bits), ir.IntType(1)(0)])
    return builder.zext(zeros, ir.IntType(64))


@intrinsic
def first_equal(typingctx, x, y):
    def emit(context, builder, signature, args):
        return first(builder, builder.fcmp_ordered("==", *args))

    return types.intp(x, y), emit


@intrinsic
def first_nan(typingctx, x):
    def emit(context, builder, signature, args):
        return first(builder, builder.fcmp_unordered("uno", args[0], args[0]))

    return types.intp(x), emit


@intrinsic
def zero_where_equal(typingctx, a, b, value):
    def emit(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("==", *args[:2]), ir.Constant(args[2].type, None), args[2])

    return value(a, b, value), emit


# For lanes or one number


@intrinsic
def zero_below(typingctx, d, floor, value):
    def emit(context, builder, signature, args):
        zero = ir.Constant(args[2].type, None)
        return builder.select(builder.fcmp_ordered("<", *args[:2]), zero, args[2])

    return value(d, floor, value), emit


@intrinsic
def two_to(typingctx, shifted):
    def emit(context, builder, signature, args):
        real = args[0].type
        width, shift, bias = (64, 52, 0x3FF << 52) if dtype == types.float64 else (32, 23, 0x7F << 23)
        bits = ir.IntType(width)
        shift, bias = bits(shift), bits(bias)
        if isinstance(shifted, Lanes):
            bits = ir.VectorType(bits, real.count)
            shift, bias = splatted(builder, shift, bits), splatted(builder, bias, bits)
        exponent = builder.shl(builder.bitcast(args[0], bits), shift)
        return builder.bitcast(builder.add(exponent, bias), real)

    dtype = getattr(shifted, "dtype", shifted)
    return shifted(shifted), emit


def arithmetic(operation, instruction):
    """operation(lanes, lanes), operation(lanes, number) and operation(number, lanes)."""

    @intrinsic
    def combine(typingctx, x, y):
        def emit(context, builder, signature, args):
            vector = lanes_of(lanes.dtype)
            x_, y_ = (arg if arg.type == vector else splatted(builder, arg, vector) for arg in args)
            return getattr(builder, instruction)(x_, y_)

        lanes = x if isinstance(x, Lanes) else y
        return lanes(x, y), emit

    @overload(operation)
    def choose(x, y):
        if isinstance(x, Lanes) or isinstance(y, Lanes):
            return lambda x, y: combine(x, y)
        return None


arithmetic(operator.add, "fadd")
arithmetic(operator.sub, "fsub")
arithmetic(operator.mul, "fmul")
