"""kernels/machine.h for Numba: the operations on vectors, as LLVM has them, for one type of array.

Lanes are 64 bytes of numbers side by side, which LLVM splits where the processor's vectors are shorter.
"""

import operator
import platform
import types as python_types

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANE_BYTES = 64
LINE = 64  # bytes of a cache line
I1, I8, I16, I32, I64 = (ir.IntType(width) for width in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()


class Lanes(types.Type):
    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Lanes({dtype})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, vector_of(fe_type.dtype))


def vector_of(dtype):
    """The LLVM type of lanes."""
    return ir.VectorType(F64, LANE_BYTES // 8) if dtype == types.float64 else ir.VectorType(F32, LANE_BYTES // 4)


def bits_of(vector):
    return ir.VectorType(I64 if vector.element == F64 else I32, vector.count)


def each(vector, value):
    """A constant in each lane."""
    return ir.Constant(vector, [value] * vector.count)


def splatted(builder, value, vector):
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, vector.count), None))


def call(builder, name, result, args):
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def suffix(vector):
    return f"v{vector.count}{'f64' if vector.element == F64 else 'f32'}"


def shuffled(builder, a, b, picks):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(picks)), list(picks)))


def folded(builder, lanes, combine):
    """Halves combined until one lane is left."""
    while lanes.type.count > 1:
        half = lanes.type.count // 2
        low, high = (shuffled(builder, lanes, lanes, range(first, first + half)) for first in (0, half))
        lanes = combine(low, high)
    return builder.extract_element(lanes, I32(0))


def arithmetic(operation, instruction):
    @intrinsic
    def combine(typingctx, x, y):
        return x(x, y), lambda context, builder, signature, args: getattr(builder, instruction)(*args)

    @overload(operation)
    def choose(x, y):
        if isinstance(x, Lanes) and isinstance(y, Lanes):
            return lambda x, y: combine(x, y)
        return None


for operation, instruction in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"),
):  # fmt: skip
    arithmetic(operation, instruction)


def first_bit(builder, condition):
    bits = ir.IntType(condition.type.count)
    zeros = call(builder, f"llvm.cttz.i{bits.width}", bits, [builder.bitcast(condition, bits), I1(0)])
    return builder.zext(zeros, I64)


def shuffle(lanes, picks):
    @intrinsic
    def shuffle(typingctx, a, b):
        return lanes(a, b), lambda context, builder, signature, args: shuffled(builder, *args, picks)

    return shuffle


def machine_of(stored):
    """The machine for arrays of a type: "float32", "float64", "float16" or "bfloat16"."""
    wide = stored == "float64"
    halves = stored in ("float16", "bfloat16")
    real = types.float64 if wide else types.float32
    element = F64 if wide else F32
    vector = vector_of(real)
    integers = bits_of(vector)
    lanes = Lanes(real)
    width, size = vector.count, 8 if wide else 4
    side = 16 // size
    mantissa_bits, bias = (52, 0x3FF << 52) if wide else (23, 0x7F << 23)
    machine = python_types.ModuleType(f"machine_{stored}")

    def operation(function):
        setattr(machine, function.__name__, intrinsic(function))

    for name, value in {
        "WIDTH": width, "SIDE": side, "DOUBLE": wide, "HALVES": halves, "NARROW": False, "SQUARES": True,
        "MAGIC": 6755399441055744.0 if wide else 12582912.0, "LOWEST_EXPONENT": -1022.0 if wide else -126.0,
        "TINY": 2.0**-1022 if wide else 2.0**-126, "INF": float("inf"), "NAN": float("nan"),
    }.items():  # fmt: skip
        setattr(machine, name, value)

    # Lanes

    @operation
    def splat(typingctx, value):
        def emit(context, builder, signature, args):
            return splatted(builder, context.cast(builder, args[0], value, real), vector)

        return lanes(value), emit

    @operation
    def fma(typingctx, a, b, c):
        def emit(context, builder, signature, args):
            return call(builder, f"llvm.fma.{suffix(vector)}", vector, args)

        return lanes(a, b, c), emit

    @operation
    def larger(typingctx, x, m):
        def emit(context, builder, signature, args):
            return builder.select(builder.fcmp_ordered(">", *args), *args)

        return lanes(x, m), emit

    @operation
    def magnitude(typingctx, v):
        def emit(context, builder, signature, args):
            return call(builder, f"llvm.fabs.{suffix(vector)}", vector, args)

        return lanes(v), emit

    @operation
    def copy_sign(typingctx, size_, sign):
        def emit(context, builder, signature, args):
            return call(builder, f"llvm.copysign.{suffix(vector)}", vector, args)

        return lanes(size_, sign), emit

    def zero_where(compare):
        def emit(context, builder, signature, args):
            return builder.select(compare(builder, *args[:2]), ir.Constant(vector, None), args[2])

        return emit

    @operation
    def zero_below(typingctx, d, floor, value):
        return lanes(d, floor, value), zero_where(lambda builder, a, b: builder.fcmp_ordered("<", a, b))

    @operation
    def zero_where_equal(typingctx, a, b, value):
        return lanes(a, b, value), zero_where(lambda builder, a, b: builder.fcmp_ordered("==", a, b))

    @operation
    def zero_nan(typingctx, v):
        def emit(context, builder, signature, args):
            nan = builder.fcmp_unordered("uno", args[0], args[0])
            return builder.select(nan, ir.Constant(vector, None), args[0])

        return lanes(v), emit

    @operation
    def where_larger(typingctx, x, m, a, b):
        def emit(context, builder, signature, args):
            return builder.select(builder.fcmp_ordered(">", *args[:2]), *args[2:])

        return lanes(x, m, a, b), emit

    @operation
    def where_above(typingctx, x, m, a, b):
        def emit(context, builder, signature, args):
            return builder.select(builder.fcmp_unordered(">", *args[:2]), *args[2:])

        return lanes(x, m, a, b), emit

    @operation
    def two_to(typingctx, shifted):
        def emit(context, builder, signature, args):
            exponent = builder.shl(builder.bitcast(args[0], integers), each(integers, mantissa_bits))
            return builder.bitcast(builder.add(exponent, each(integers, bias)), vector)

        return lanes(shifted), emit

    sqrt_half = 0x3FE6A09E667F3BCD if wide else 0x3F3504F3
    counting = 0x4330000000000000 if wide else 0x4B000000  # 2^52, 2^23: its low bits count

    @operation
    def exponent(typingctx, u):
        def emit(context, builder, signature, args):
            bits = builder.add(builder.bitcast(args[0], integers), each(integers, bias - sqrt_half))
            biased = builder.lshr(bits, each(integers, mantissa_bits))
            counted = builder.bitcast(builder.add(biased, each(integers, counting)), vector)
            zero = float((1 << mantissa_bits) + (bias >> mantissa_bits))
            return builder.fsub(counted, each(vector, zero))

        return lanes(u), emit

    @operation
    def mantissa(typingctx, u):
        def emit(context, builder, signature, args):
            bits = builder.add(builder.bitcast(args[0], integers), each(integers, bias - sqrt_half))
            within = builder.and_(bits, each(integers, (1 << mantissa_bits) - 1))
            return builder.bitcast(builder.add(within, each(integers, sqrt_half)), vector)

        return lanes(u), emit

    @operation
    def keep_first(typingctx, v, n):
        def emit(context, builder, signature, args):
            return builder.select(tail(builder, args[1]), args[0], ir.Constant(vector, None))

        return lanes(v, types.intp), emit

    for name, picks in {
        "evens": range(0, 2 * width, 2),
        "odds": range(1, 2 * width, 2),
        "zip_low": [i // 2 + i % 2 * width for i in range(width)],
        "zip_high": [width // 2 + i // 2 + i % 2 * width for i in range(width)],
    }.items():
        setattr(machine, name, shuffle(lanes, picks))

    # Folds

    @operation
    def add_lanes(typingctx, v):
        def emit(context, builder, signature, args):
            return folded(builder, widened(builder, args[0]), builder.fadd)

        return types.float64(v), emit

    def widened(builder, v):
        return v if wide else builder.fpext(v, ir.VectorType(F64, width))

    def two_sum(builder, a, b):
        """a + b, and what that rounds away, 0 where it is infinite or NaN"""
        both = builder.fadd(a, b)
        part = builder.fsub(both, a)
        lost = builder.fadd(builder.fsub(a, builder.fsub(both, part)), builder.fsub(b, part))
        nan = builder.fcmp_unordered("uno", lost, lost)
        return both, builder.select(nan, ir.Constant(lost.type, None), lost)

    def exactly_added(builder, v):
        v = widened(builder, v)
        if not wide:
            return folded(builder, v, builder.fadd)
        lost = ir.Constant(v.type, None)
        while v.type.count > 1:
            half = v.type.count // 2
            low, high = (shuffled(builder, v, v, range(first, first + half)) for first in (0, half))
            lost_low, lost_high = (shuffled(builder, lost, lost, range(first, first + half)) for first in (0, half))
            v, away = two_sum(builder, low, high)
            lost = builder.fadd(lost_low, builder.fadd(lost_high, away))
        return builder.fadd(builder.extract_element(v, I32(0)), builder.extract_element(lost, I32(0)))

    @operation
    def add_lanes_exactly(typingctx, v):
        return types.float64(v), lambda context, builder, signature, args: exactly_added(builder, args[0])

    @operation
    def add_eight(typingctx, v0, v1, v2, v3, v4, v5, v6, v7, sums, at):
        def emit(context, builder, signature, args):
            for k in range(8):
                where = builder.gep(args[8], [builder.add(args[9], I64(k))])
                builder.store(exactly_added(builder, args[k]), where)
            return context.get_dummy_value()

        return types.none(*(lanes,) * 8, sums, types.intp), emit

    @operation
    def largest(typingctx, v):
        def emit(context, builder, signature, args):
            return folded(builder, args[0], lambda x, m: builder.select(builder.fcmp_ordered(">", x, m), x, m))

        return real(v), emit

    @operation
    def lane(typingctx, v):
        return real(v), lambda context, builder, signature, args: builder.extract_element(args[0], I32(0))

    @operation
    def any_nan(typingctx, a, b):
        def emit(context, builder, signature, args):
            nan = builder.fcmp_unordered("uno", *args)
            bits = ir.IntType(width)
            found = builder.icmp_unsigned("!=", builder.bitcast(nan, bits), bits(0))
            return builder.zext(found, I64)

        return types.intp(a, b), emit

    def count(builder, condition):
        return builder.zext(builder.ctpop(builder.bitcast(condition, ir.IntType(width))), I64)

    @operation
    def count_above(typingctx, x, limit):
        def emit(context, builder, signature, args):
            return count(builder, builder.fcmp_unordered(">", *args))

        return types.intp(x, limit), emit

    @operation
    def count_equal(typingctx, a, b):
        def emit(context, builder, signature, args):
            return count(builder, builder.fcmp_ordered("==", *args))

        return types.intp(a, b), emit

    @operation
    def first_above(typingctx, x, limit):
        def emit(context, builder, signature, args):
            return first_bit(builder, builder.fcmp_unordered(">", *args))

        return types.intp(x, limit), emit

    @operation
    def first_equal(typingctx, a, b):
        def emit(context, builder, signature, args):
            return first_bit(builder, builder.fcmp_ordered("==", *args))

        return types.intp(a, b), emit

    @operation
    def first_nan(typingctx, x):
        def emit(context, builder, signature, args):
            return first_bit(builder, builder.fcmp_unordered("uno", args[0], args[0]))

        return types.intp(x), emit

    doubles = ir.VectorType(F64, width)

    def sums_at(builder, sums, at):
        return builder.bitcast(builder.gep(sums, [at]), doubles.as_pointer())

    @operation
    def add_to(typingctx, sums, at, v):
        def emit(context, builder, signature, args):
            where = sums_at(builder, *args[:2])
            builder.store(builder.fadd(builder.load(where, align=8), widened(builder, args[2])), where, align=8)
            return context.get_dummy_value()

        return types.none(sums, types.intp, v), emit

    @operation
    def add_exactly_to(typingctx, sums, lost, at, v):
        def emit(context, builder, signature, args):
            where, lost_at = sums_at(builder, args[0], args[2]), sums_at(builder, args[1], args[2])
            both, away = two_sum(builder, builder.load(where, align=8), widened(builder, args[3]))
            builder.store(builder.fadd(builder.load(lost_at, align=8), away), lost_at, align=8)
            builder.store(both, where, align=8)
            return context.get_dummy_value()

        return types.none(sums, lost, types.intp, v), emit

    # Memory

    def is_stored(pointer):
        return halves and pointer.dtype == types.uint16

    def lanes_at(builder, x, at, kind):
        return builder.bitcast(builder.gep(x, [at]), kind.as_pointer())

    half_vector = ir.VectorType(I16, width)

    def widen(builder, half):
        """What halves are, one or a vector"""
        if stored == "float16":
            kind, to = (F16, F32) if half.type == I16 else (ir.VectorType(F16, width), vector)
            return builder.fpext(builder.bitcast(half, kind), to)
        kind, to = (I32, F32) if half.type == I16 else (integers, vector)
        shift = I32(16) if half.type == I16 else each(integers, 16)
        return builder.bitcast(builder.shl(builder.zext(half, kind), shift), to)

    def narrow(builder, value):
        one = value.type == F32
        if stored == "float16":
            kind, to = (F16, I16) if one else (ir.VectorType(F16, width), half_vector)
            return builder.bitcast(builder.fptrunc(value, kind), to)
        kind, to = (I32, I16) if one else (integers, half_vector)
        constant = I32 if one else (lambda number: each(integers, number))
        bits = builder.bitcast(value, kind)
        high = builder.lshr(bits, constant(16))
        odd = builder.and_(high, constant(1))
        rounded = builder.lshr(builder.add(bits, builder.add(odd, constant(0x7FFF))), constant(16))
        quiet = builder.or_(high, constant(0x40))
        nan = builder.fcmp_unordered("uno", value, value)
        return builder.trunc(builder.select(nan, quiet, rounded), to)

    def tail(builder, n):
        """The mask of the first n lanes."""
        index = ir.VectorType(I32, width)
        count = splatted(builder, builder.trunc(n, I32), index)
        return builder.icmp_signed("<", ir.Constant(index, list(range(width))), count)

    @operation
    def load(typingctx, x, at):
        def emit(context, builder, signature, args):
            if is_stored(x):
                return widen(builder, builder.load(lanes_at(builder, *args, half_vector), align=2))
            return builder.load(lanes_at(builder, *args, vector), align=size)

        return lanes(x, types.intp), emit

    @operation
    def save(typingctx, y, at, v):
        def emit(context, builder, signature, args):
            if is_stored(y):
                half = narrow(builder, args[2])
                builder.store(half, lanes_at(builder, *args[:2], half_vector), align=2)
            else:
                builder.store(args[2], lanes_at(builder, *args[:2], vector), align=size)
            return context.get_dummy_value()

        return types.none(y, types.intp, v), emit

    @operation
    def load_tail(typingctx, x, at, n, padding):
        def emit(context, builder, signature, args):
            filled = splatted(builder, context.cast(builder, args[3], padding, real), vector)
            mask = tail(builder, args[2])
            if is_stored(x):
                where, kind = lanes_at(builder, *args[:2], half_vector), half_vector
                nothing = ir.Constant(kind, None)
                name = f"llvm.masked.load.v{width}i16.p0"
                half = call(builder, name, kind, [where, I32(2), mask, nothing])
                return builder.select(mask, widen(builder, half), filled)
            where = lanes_at(builder, *args[:2], vector)
            return call(builder, f"llvm.masked.load.{suffix(vector)}.p0", vector, [where, I32(size), mask, filled])

        return lanes(x, types.intp, types.intp, padding), emit

    @operation
    def save_tail(typingctx, y, at, n, v):
        def emit(context, builder, signature, args):
            value, kind, name = args[3], vector, suffix(vector)
            if is_stored(y):
                value, kind, name = narrow(builder, value), half_vector, f"v{width}i16"
            where = lanes_at(builder, *args[:2], kind)
            align = I32(2 if is_stored(y) else size)
            void = ir.VoidType()
            call(builder, f"llvm.masked.store.{name}.p0", void, [value, where, align, tail(builder, args[2])])
            return context.get_dummy_value()

        return types.none(y, types.intp, types.intp, v), emit

    @operation
    def save_past(typingctx, y, at, v):
        def emit(context, builder, signature, args):
            value = narrow(builder, args[2]) if is_stored(y) else args[2]
            align = 2 * width if is_stored(y) else LANE_BYTES
            store = builder.store(value, lanes_at(builder, *args[:2], value.type), align=align)
            store.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
            return context.get_dummy_value()

        return types.none(y, types.intp, v), emit

    @operation
    def end_streams(typingctx):
        def emit(context, builder, signature, args):
            if platform.machine().lower() in ("x86_64", "amd64"):
                call(builder, "llvm.x86.sse.sfence", ir.VoidType(), [])
            else:
                builder.fence("release")
            return context.get_dummy_value()

        return types.none(), emit

    def ask(builder, x, at, offset):
        line = builder.bitcast(builder.gep(x, [at]), I8.as_pointer())
        line = builder.gep(line, [I64(offset)])
        call(builder, "llvm.prefetch.p0", ir.VoidType(), [line, I32(0), I32(3), I32(1)])

    @operation
    def prefetch(typingctx, x, at):
        def emit(context, builder, signature, args):
            ask(builder, *args, 0)
            return context.get_dummy_value()

        return types.none(x, types.intp), emit

    @operation
    def prefetch_four(typingctx, x, at):
        def emit(context, builder, signature, args):
            for offset in range(0, 4 * width * (2 if is_stored(x) else size), LINE):
                ask(builder, *args, offset)
            return context.get_dummy_value()

        return types.none(x, types.intp), emit

    @operation
    def until_line(typingctx, y, at):
        def emit(context, builder, signature, args):
            here = builder.ptrtoint(builder.gep(*args[:1], [args[1]]), I64)
            left = builder.and_(builder.neg(here), I64(LINE - 1))
            return builder.udiv(left, I64(2 if is_stored(y) else size))

        return types.intp(y, types.intp), emit

    @operation
    def number(typingctx, x, at):
        def emit(context, builder, signature, args):
            value = builder.load(builder.gep(args[0], [args[1]]))
            return widen(builder, value) if is_stored(x) else value

        return real(x, types.intp), emit

    @operation
    def put(typingctx, y, at, value):
        def emit(context, builder, signature, args):
            one = context.cast(builder, args[2], value, real)
            builder.store(narrow(builder, one) if is_stored(y) else one, builder.gep(args[0], [args[1]]))
            return context.get_dummy_value()

        return types.none(y, types.intp, value), emit

    @operation
    def is_scratch(typingctx, y):
        answer = not is_stored(y)
        return types.boolean(y), lambda context, builder, signature, args: I1(answer)

    @operation
    def in_place(typingctx, x):
        def emit(context, builder, signature, args):
            return builder.bitcast(args[0], element.as_pointer())

        return types.CPointer(real)(x), emit

    def stretch(typingctx, x, at):
        return x(x, types.intp), lambda context, builder, signature, args: builder.gep(args[0], [args[1]])

    machine.stretch = machine.stretch_real = intrinsic(stretch)

    def some_lanes(typingctx, n):
        def emit(context, builder, signature, args):
            with builder.goto_entry_block():
                memory = builder.alloca(vector, I64(n.literal_value))
            memory.align = LANE_BYTES
            return memory

        return types.CPointer(lanes)(n), emit

    machine.some_lanes = intrinsic(prefer_literal=True)(some_lanes)

    @operation
    def cast(typingctx, value):
        return real(value), lambda context, builder, signature, args: context.cast(builder, args[0], value, real)

    @operation
    def whole(typingctx, value):
        def emit(context, builder, signature, args):
            return builder.fptosi(context.cast(builder, args[0], value, types.float64), I64)

        return types.intp(value), emit

    # Doubles, one at a time

    @operation
    def double_fma(typingctx, a, b, c):
        def emit(context, builder, signature, args):
            args = [context.cast(builder, arg, kind, types.float64) for arg, kind in zip(args, (a, b, c), strict=True)]
            return call(builder, "llvm.fma.f64", F64, args)

        return types.float64(a, b, c), emit

    def double_bits(transform):
        def emit(context, builder, signature, args):
            return transform(builder, builder.bitcast(args[0], I64))

        return emit

    @operation
    def double_two_to(typingctx, shifted):
        def transform(builder, bits):
            return builder.bitcast(builder.add(builder.shl(bits, I64(52)), I64(0x3FF << 52)), F64)

        return types.float64(types.float64), double_bits(transform)

    offset = (0x3FF << 52) - 0x3FE6A09E667F3BCD

    @operation
    def double_exponent(typingctx, u):
        def transform(builder, bits):
            biased = builder.lshr(builder.add(bits, I64(offset)), I64(52))
            counted = builder.bitcast(builder.add(biased, I64(0x4330000000000000)), F64)
            return builder.fsub(counted, F64(2.0**52 + 1023.0))

        return types.float64(types.float64), double_bits(transform)

    @operation
    def double_mantissa(typingctx, u):
        def transform(builder, bits):
            within = builder.and_(builder.add(bits, I64(offset)), I64(0x000FFFFFFFFFFFFF))
            return builder.bitcast(builder.add(within, I64(0x3FE6A09E667F3BCD)), F64)

        return types.float64(types.float64), double_bits(transform)

    machine.DIGITS = 6 if wide else 3
    word = I64 if wide else I32

    @operation
    def digit(typingctx, x, place):
        def emit(context, builder, signature, args):
            one = context.cast(builder, args[0], x, real)
            bits, top = builder.bitcast(one, word), 1 << 8 * size - 1
            negative = builder.icmp_signed("<", bits, word(0))
            key = builder.select(negative, bits, builder.not_(builder.or_(bits, word(top))))
            key = builder.select(builder.fcmp_ordered("==", one, element(0.0)), word(top - 1), key)
            key = builder.select(builder.fcmp_unordered("uno", one, one), word(0), key)
            key = key if wide else builder.zext(key, I64)
            return builder.and_(builder.lshr(key, builder.mul(args[1], I64(11))), I64(2047))

        return types.intp(x, types.intp), emit

    # Squares of numbers, transposed in registers: a quarter is 16 bytes of one row, `side` numbers

    quarter = ir.VectorType(element, side)
    half_quarter = ir.VectorType(I16, side)

    def load_quarter(builder, x, at, pointer):
        if not is_stored(pointer):
            return builder.load(lanes_at(builder, x, at, quarter), align=size)
        half = builder.load(lanes_at(builder, x, at, half_quarter), align=2)
        if stored == "float16":
            return builder.fpext(builder.bitcast(half, ir.VectorType(F16, side)), quarter)
        four = ir.VectorType(I32, side)
        return builder.bitcast(builder.shl(builder.zext(half, four), each(four, 16)), quarter)

    def save_quarter(builder, value, y, at, pointer):
        if not is_stored(pointer):
            builder.store(value, lanes_at(builder, y, at, quarter), align=size)
            return
        for i in range(side):
            one = narrow(builder, builder.extract_element(value, I32(i)))
            builder.store(one, builder.gep(y, [builder.add(at, I64(i))]))

    def stepped(builder, at, count, step):
        return builder.add(at, builder.mul(I64(count), step))

    def unpacked(builder, a, b, turn, unit, high):
        """The low or high halves of each `turn` numbers of a and b, in turns of `unit`."""
        half = turn // 2
        picks = [
            source + first + high * half + k + i
            for first in range(0, width, turn)
            for k in range(0, half, unit)
            for source in (0, width)
            for i in range(unit)
        ]
        return shuffled(builder, a, b, picks)

    def transposed(builder, columns):
        """The squares in two or four vectors, transposed."""
        if side == 2:
            return [unpacked(builder, *columns, 2, 1, high) for high in (0, 1)]
        pairs = [[unpacked(builder, *columns[i : i + 2], 4, 1, high) for i in (0, 2)] for high in (0, 1)]
        return [unpacked(builder, *pair, 4, 2, high) for pair in pairs for high in (0, 1)]

    @operation
    def square_to_lanes(typingctx, x, at, stride, to, to_at, step):
        def emit(context, builder, signature, args):
            x_, at_, stride_, to_, to_at_, step_ = args
            columns = []
            for i in range(side):
                parts = [
                    load_quarter(builder, x_, stepped(builder, at_, i + k, stride_), x) for k in range(0, width, side)
                ]
                while len(parts) > 1:
                    pairs = zip(parts[::2], parts[1::2], strict=True)
                    parts = [shuffled(builder, a, b, range(2 * a.type.count)) for a, b in pairs]
                columns += parts
            for i, column in enumerate(transposed(builder, columns)):
                builder.store(column, lanes_at(builder, to_, stepped(builder, to_at_, i, step_), vector), align=size)
            return context.get_dummy_value()

        return types.none(x, types.intp, types.intp, to, types.intp, types.intp), emit

    @operation
    def square_to_rows(typingctx, x, at, step, to, to_at, stride):
        def emit(context, builder, signature, args):
            x_, at_, step_, to_, to_at_, stride_ = args
            columns = [
                builder.load(lanes_at(builder, x_, stepped(builder, at_, i, step_), vector), align=size)
                for i in range(side)
            ]
            for i, rows in enumerate(transposed(builder, columns)):
                for k in range(0, width, side):
                    part = shuffled(builder, rows, rows, range(k, k + side))
                    save_quarter(builder, part, to_, stepped(builder, to_at_, i + k, stride_), to)
            return context.get_dummy_value()

        return types.none(x, types.intp, types.intp, to, types.intp, types.intp), emit

    return machine
