"""The part of kernels/machine.py that knows nothing of lanes, for Numba: pointers, and what turns a driver's arrays
into them."""

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LINE = 64  # bytes of a cache line


@intrinsic
def stretch(typingctx, x, at, n):
    def emit(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return x(x, types.intp, types.intp), emit


@intrinsic
def halves(typingctx, x, at, n):
    def emit(context, builder, signature, args):
        return builder.gep(builder.bitcast(args[0], ir.IntType(16).as_pointer()), [args[1]])

    return types.CPointer(types.uint16)(x, types.intp, types.intp), emit


@intrinsic
def copy(typingctx, y, n, values):
    def emit(context, builder, signature, args):
        y_, n_, values_ = args
        with builder.if_then(builder.icmp_unsigned("!=", y_, values_)):
            size = context.get_abi_sizeof(context.get_value_type(y.dtype))
            cgutils.raw_memcpy(builder, y_, values_, n_, size, align=size)
        return context.get_dummy_value()

    return types.none(y, types.intp, values), emit


@intrinsic
def until_line(typingctx, y):
    def emit(context, builder, signature, args):
        word = ir.IntType(64)
        size = context.get_abi_sizeof(context.get_value_type(y.dtype))
        before = builder.neg(builder.ptrtoint(args[0], word))
        return builder.udiv(builder.and_(before, word(LINE - 1)), word(size))

    return types.intp(y), emit


@intrinsic
def end_streams(typingctx):
    def emit(context, builder, signature, args):
        if platform.machine().lower() in ("x86_64", "amd64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.sfence"), [])
        else:
            builder.fence("release")
        return context.get_dummy_value()

    return types.none(), emit


@intrinsic
def prefetch(typingctx, x, at):
    def emit(context, builder, signature, args):
        bytes_ = ir.IntType(8).as_pointer()
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [bytes_, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        line = builder.bitcast(builder.gep(args[0], [args[1]]), bytes_)
        builder.call(function, [line, flag(0), flag(3), flag(1)])  # to be read, kept in every cache, data
        return context.get_dummy_value()

    return types.none(x, types.intp), emit


@intrinsic
def cast(typingctx, value, like):
    def emit(context, builder, signature, args):
        return context.cast(builder, args[0], value, like.dtype)

    return like.dtype(value, like), emit


def pointer_type(array):
    """Half types travel as pointers to their computing type."""
    return types.CPointer(types.float32 if array.dtype == types.uint16 else array.dtype)


@intrinsic
def pointers(typingctx, values):
    """The tuple with pointers in the place of its arrays."""

    def emit(context, builder, signature, args):
        items = cgutils.unpack_tuple(builder, args[0])
        for i, (before, after) in enumerate(zip(values, signature.return_type, strict=True)):
            if isinstance(before, types.Array):
                data = context.make_array(before)(context, builder, items[i]).data
                items[i] = builder.bitcast(data, context.get_value_type(after))
        return context.make_tuple(builder, signature.return_type, items)

    kinds = [pointer_type(value) if isinstance(value, types.Array) else value for value in values]
    return types.Tuple(kinds)(values), emit


@intrinsic
def stack(typingctx, size, like):
    """`size` numbers on the stack, of the type that the pointer `like` has."""

    def emit(context, builder, signature, args):
        return builder.alloca(context.get_value_type(like.dtype), args[0])

    return like(types.intp, like), emit
