"""What a thread does: from the address of a job and the number of a part to a kernel and its records."""

import collections
import ctypes

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

Fields = collections.namedtuple(
    "Fields", "memory held allocate release work_bytes fields parts start stop task out_of_memory"
)
WORD = ir.IntType(64)


class Job(ctypes.Structure):
    """The items [start, stop) of a task, in parts. A thread's scratch memory is at `memory`, or `held()`; `fields` are
    what a long row has, or the survivors of filters for which there is room behind what the text calls Work.
    """

    _fields_ = [(name, ctypes.c_ssize_t) for name in Fields._fields]


def address_of(function):
    return ctypes.cast(function, ctypes.c_void_p).value


ALLOCATE = address_of(ctypes.pythonapi.PyMem_RawMalloc)
RELEASE = address_of(ctypes.pythonapi.PyMem_RawFree)


def new_job(work_bytes, fields, task):
    return Job(work_bytes=work_bytes, fields=fields, task=ctypes.addressof(task), allocate=ALLOCATE, release=RELEASE)


def driver_of(kernel, records):
    """Runs a kernel for the items of a part."""
    job_at, task_at, work_at, memory_of, put = (
        records.job_at, records.task_at, records.work_at, records.memory_of, records.put,
    )  # fmt: skip

    def driver(address, part):
        job = job_at(address)
        memory = memory_of(job.held, job.memory)
        blocks = memory + job.work_bytes
        put(memory, 0, blocks)
        put(memory, 1, blocks + 8 * job.fields)
        items = job.stop - job.start
        start, stop = job.start + items * part // job.parts, job.start + items * (part + 1) // job.parts
        kernel(task_at(job.task), work_at(memory), start, stop)

    return driver


def filter_driver_of(kernel, records, field_of):
    """The same, of a kernel that stops at a row for whose survivors there is no room: that one gets more."""
    job_at, task_at, work_at, memory_of, put, call = (
        records.job_at, records.task_at, records.work_at, records.memory_of, records.put, records.call,
    )  # fmt: skip
    survivor_fields, failed = records.sizes.SURVIVOR_FIELDS, Fields._fields.index("out_of_memory")

    def driver(address, part):
        job = job_at(address)
        memory = memory_of(job.held, job.memory)
        task, work = task_at(job.task), work_at(memory)
        items = job.stop - job.start
        row, stop = job.start + items * part // job.parts, job.start + items * (part + 1) // job.parts
        while True:
            put(memory, 2, memory + job.work_bytes)
            put(memory, 3, job.fields)
            kernel(task, work_at(memory), row, stop)
            row, needed = work.reached[0], work.needed[0]
            if row == stop:
                return
            more = call(job.allocate, 8 * survivor_fields * field_of(needed))
            if more == 0:
                put(address, failed, 1)
                return
            put(memory, 2, more)
            put(memory, 3, needed)
            kernel(task, work_at(memory), row, row + 1)
            call(job.release, more)
            row += 1

    return driver


# What drivers take apart


@intrinsic
def job_at(typingctx, address):
    kind = types.NamedUniTuple(types.intp, len(Fields._fields), Fields)

    def emit(context, builder, signature, args):
        return builder.load(builder.inttoptr(args[0], context.get_value_type(kind).as_pointer()))

    return kind(types.intp), emit


@intrinsic
def put(typingctx, address, index, value):
    """A word into an array of words"""

    def emit(context, builder, signature, args):
        builder.store(args[2], builder.gep(builder.inttoptr(args[0], WORD.as_pointer()), [args[1]]))
        return context.get_dummy_value()

    return types.none(types.intp, types.intp, types.intp), emit


@intrinsic
def call(typingctx, function, argument):
    """function(argument) of an address"""

    def emit(context, builder, signature, args):
        function = builder.inttoptr(args[0], ir.FunctionType(WORD, [WORD]).as_pointer())
        return builder.call(function, [args[1]])

    return types.intp(types.intp, types.intp), emit


@intrinsic
def memory_of(typingctx, held, memory):
    """held(), or memory where `held` is 0"""

    def emit(context, builder, signature, args):
        place = builder.alloca(WORD)
        builder.store(args[1], place)
        with builder.if_then(builder.icmp_signed("!=", args[0], WORD(0))):
            function = builder.inttoptr(args[0], ir.FunctionType(WORD, []).as_pointer())
            builder.store(builder.call(function, []), place)
        return builder.load(place)

    return types.intp(types.intp, types.intp), emit
