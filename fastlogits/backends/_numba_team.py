"""Parts of a driver's work on the threads of the team, or of Python's where no C compiler built one; scratch memory."""

import concurrent.futures
import contextlib
import functools
import os

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastlogits.backends.threads import available_cpus

try:
    from fastlogits.backends import _team
except ImportError:  # not compiled
    _team = None

LINE = 64  # bytes of a cache line


def scratch_size(fields, reals, itemsize):
    """The bytes of `fields` of state, and behind them `reals` numbers of the computing type."""
    return -(-8 * fields // LINE) * LINE + reals * itemsize


@contextlib.contextmanager
def held(nbytes):
    """Scratch memory of the calling thread, in the form that drivers take it."""
    if _team is None or numba.config.DISABLE_JIT:
        memory = np.empty(nbytes + LINE, np.uint8)
        yield memory.ctypes.data + -memory.ctypes.data % LINE
    else:
        address = _team.hold_scratch(nbytes)
        try:
            yield address
        finally:
            _team.release_scratch()


# In drivers


@intrinsic
def state(typingctx, memory):
    """Where the state begins."""

    def emit(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float64)(types.intp), emit


@intrinsic
def work(typingctx, memory, fields, like):
    """What lies behind the state, of the type that the pointer `like` has."""

    def emit(context, builder, signature, args):
        word = ir.IntType(64)
        end = builder.add(builder.mul(args[1], word(8)), word(LINE - 1))
        start = builder.add(args[0], builder.and_(end, word(-LINE)))
        return builder.inttoptr(start, context.get_value_type(like))

    return like(types.intp, types.intp, like), emit


@intrinsic
def share(typingctx, function, addresses, parts, threads, nbytes, job):
    """function(memory, part, *job) for each part, on the team's threads; `addresses` are those of `_team.addresses`."""
    call = function.get_call_type(typingctx, (types.intp, types.intp, *job.types), {})

    def emit(context, builder, signature, args):
        word, pointer, number = ir.IntType(64), ir.IntType(8).as_pointer(), ir.IntType(32)
        part_type = ir.FunctionType(ir.VoidType(), [pointer, word])
        held_type = ir.FunctionType(pointer, [])
        share_type = ir.FunctionType(number, [part_type.as_pointer(), pointer, word, number, word])
        team_share, scratch_held = cgutils.unpack_tuple(builder, args[1])

        result = function.dispatcher.get_compile_result(call)
        context.add_linking_libs([result.library])
        callee = context.declare_function(builder.module, result.fndesc)

        shared = cgutils.pack_struct(builder, [scratch_held, args[5]])
        place = cgutils.alloca_once_value(builder, shared)
        part = ir.Function(builder.module, part_type, builder.module.get_unique_name(f"{builder.function.name}.part"))
        part.linkage = "internal"
        inner = ir.IRBuilder(part.append_basic_block())
        held_, job_ = cgutils.unpack_tuple(inner, inner.load(inner.bitcast(part.args[0], place.type)))
        memory = inner.call(inner.inttoptr(held_, held_type.as_pointer()), [])
        values = [inner.ptrtoint(memory, word), part.args[1], *cgutils.unpack_tuple(inner, job_)]
        context.call_conv.call_function(inner, callee, call.return_type, call.args, values)  # kernels raise nothing
        inner.ret_void()

        values = [part, builder.bitcast(place, pointer), args[2], builder.trunc(args[3], number), args[4]]
        builder.call(builder.inttoptr(team_share, share_type.as_pointer()), values)
        return context.get_dummy_value()

    return types.none(function, addresses, types.intp, types.intp, types.intp, job), emit


if numba.config.DISABLE_JIT:

    def state(memory):  # noqa: F811
        return memory[: memory.nbytes // 8 * 8].view(np.float64)

    def work(memory, fields, like):  # noqa: F811
        kind = np.dtype(np.float64 if like.dtype == np.float64 else np.float32)
        room = memory[-(-8 * fields // LINE) * LINE :]
        return room[: room.nbytes // kind.itemsize * kind.itemsize].view(kind)


# Around drivers


def share_out(driver, parts, threads, nbytes, *job):
    """All parts of a driver's job, by threads that hold `nbytes` of scratch memory each, as this one does."""
    if _team is None or numba.config.DISABLE_JIT:
        share_by_python(driver.part, parts, 1 if numba.config.DISABLE_JIT else threads, nbytes, parts, *job)
    else:
        driver.shared(_team.addresses(), parts, threads, nbytes, *job)


def share_by_python(function, parts, threads, nbytes, *job):
    """function(memory, part, *job) for each part: the caller and helpers take the next one, and nobody waits for a
    helper that has not begun."""
    left = iter(range(parts))

    def do_parts():
        with held(nbytes) as memory:
            for part in left:
                function(memory, part, *job)

    helpers = []
    with contextlib.suppress(RuntimeError):  # no more threads can be started
        helpers += (_helpers(os.getpid()).submit(do_parts) for _ in range(threads - 1))
    do_parts()
    for helper in helpers:
        if not helper.cancel():
            helper.result()


@functools.lru_cache(1)
def _helpers(process):
    """Threads of this very process: those of its parent are not there."""
    return concurrent.futures.ThreadPoolExecutor(max(1, available_cpus() - 1), "fastlogits")
