"""kernels/squares.py for Numba: shuffles of LLVM's vectors, as in kernels/squares.h."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastlogits.backends._numba_machine import lanes_at, lanes_of


def side_of(dtype):
    return 2 if dtype == types.float64 else 4


@intrinsic
def side(typingctx, x):
    def emit(context, builder, signature, args):
        return context.get_constant(types.intp, side_of(x.dtype))

    return types.intp(x), emit


@intrinsic
def to_lanes(typingctx, x, at, stride, lanes, to, step):
    def emit(context, builder, signature, args):
        x_, at_, stride_, lanes_, to_, step_ = args
        size, vector = side_of(x.dtype), lanes_of(x.dtype)
        columns = []
        for i in range(size):
            parts = [
                builder.load(quarter_at(builder, x_, at_, i + j, stride_, vector, size), align=16 // size)
                for j in range(0, vector.count, size)
            ]
            while len(parts) > 1:
                parts = [joined(builder, *pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
            columns += parts
        for i, column in enumerate(transposed(builder, columns)):
            where = lanes_at(builder, lanes_, stepped(builder, to_, i, step_), vector)
            builder.store(column, where, align=16 // size)
        return context.get_dummy_value()

    return types.none(x, types.intp, types.intp, lanes, types.intp, types.intp), emit


@intrinsic
def to_rows(typingctx, lanes, at, step, x, to, stride):
    def emit(context, builder, signature, args):
        lanes_, at_, step_, x_, to_, stride_ = args
        size, vector = side_of(x.dtype), lanes_of(x.dtype)
        columns = [
            builder.load(lanes_at(builder, lanes_, stepped(builder, at_, i, step_), vector), align=16 // size)
            for i in range(size)
        ]
        for i, rows in enumerate(transposed(builder, columns)):
            for j in range(0, vector.count, size):
                quarter = shuffled(builder, rows, rows, range(j, j + size))
                where = quarter_at(builder, x_, to_, i + j, stride_, vector, size)
                builder.store(quarter, where, align=16 // size)
        return context.get_dummy_value()

    return types.none(lanes, types.intp, types.intp, x, types.intp, types.intp), emit


def stepped(builder, at, count, step):
    return builder.add(at, builder.mul(ir.IntType(64)(count), step))


def quarter_at(builder, x, at, row, stride, vector, size):
    """Where the `size` numbers of a row begin."""
    where = builder.gep(x, [stepped(builder, at, row, stride)])
    return builder.bitcast(where, ir.VectorType(vector.element, size).as_pointer())


def shuffled(builder, a, b, picks):
    index = ir.VectorType(ir.IntType(32), len(picks))
    return builder.shuffle_vector(a, b, ir.Constant(index, list(picks)))


def joined(builder, a, b):
    return shuffled(builder, a, b, range(2 * a.type.count))


def transposed(builder, columns):
    """The squares in two or four vectors, transposed."""
    if len(columns) == 2:
        return [unpacked(builder, *columns, 2, 1, high) for high in (0, 1)]
    pairs = [
        [unpacked(builder, *columns[i : i + 2], 4, 1, high) for i in (0, 2)] for high in (0, 1)
    ]
    return [unpacked(builder, *pair, 4, 2, high) for pair in pairs for high in (0, 1)]


def unpacked(builder, a, b, size, unit, high):
    """The low or high halves of each `size` numbers of a and b, in turns of `unit`."""
    count, half = a.type.count, size // 2
    picks = [
        source + first + high * half + k + i
        for first in range(0, count, size)
        for k in range(0, half, unit)
        for source in (0, count)
        for i in range(unit)
    ]
    return shuffled(builder, a, b, picks)
