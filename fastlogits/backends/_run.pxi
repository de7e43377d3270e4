# Included by the modules of the Cython backend: from NumPy arrays to the compiled kernels.
#
# An operation is a `Call`, its arguments, and a function `(which, call, start, stop)` for each way through memory:
# rows, columns, short rows, or the steps of a long row. `which` is a null pointer of the computing type. `run` hands
# the items [start, stop) to the threads of the team, each of which holds scratch memory.

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastlogits.backends._team cimport held, hold, release, share
from fastlogits.kernels.cross_entropy cimport Options
from fastlogits.kernels.primitives cimport (
    BFLOAT16, BLOCK, BLOCK_FIELDS, DISCARD, FLOAT16, KEEP, KEEP_PADDED, LANES, NATIVE, ROW_FIELDS, SHORT, SLOTS, STATE,
    STREAMED, end_streams, real,
)

from fastlogits._memory import LAST_CACHE as last_cache

cnp.import_array()

cdef extern from "<stdlib.h>" nogil:
    void* aligned_alloc(size_t alignment, size_t size)

cdef enum:
    LINE = 64            # bytes of a cache line
    SHORT_CLASSES = 32   # rows of at most so many classes are transposed
    PIECE = 16           # blocks of a long row that a thread takes at once
    PART = 1 << 17       # logits: some tens of microseconds
    REGION = 1 << 25     # logits that are shared out at once: tens of milliseconds, between which Ctrl-C is heard
    IN_CACHE = 1 << 18   # logits of the long rows that go through the three steps together, and of a row in scratch

cdef struct Call:
    void* x
    void* y
    void* z
    Py_ssize_t x_stride, y_stride, z_stride, rows, first_row, classes, inner, blocks
    double scale
    int storage
    bint log
    int keep    # where the exponentials of rows stay: in y, or padded in scratch memory
    void* kept  # the scratch memory of a row that threads share
    Py_ssize_t fields, reals  # scratch memory of a thread
    double* states            # of the long rows that threads share
    Py_ssize_t* indices
    int64_t* labels
    void* weight
    double* sample_weight
    double* grad_loss
    double* losses
    double* rules
    Py_ssize_t rules_stride
    int64_t key_0, key_1
    double* peaks
    double* rests
    bint out_of_memory
    Options options, in_tile

ctypedef void (*chunk)(real* which, Call* call, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

cdef struct Job:
    void (*function)(void* which, Call* call, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
    Call* call
    Py_ssize_t start, size, parts


cdef void do_part(void* shared, ptrdiff_t part) noexcept nogil:
    cdef Job* job = <Job*>shared
    job.function(NULL, job.call, job.start + job.size * part // job.parts,
                 job.start + job.size * (part + 1) // job.parts)
    end_streams()


cdef inline double* state_of(Call* call) noexcept nogil:
    """The calling thread's `fields` of state, while it does a part."""
    return <double*>held()


cdef inline real* work_of(real* which, Call* call) noexcept nogil:
    """The calling thread's `reals` of scratch memory, while it does a part."""
    return <real*>(<char*>held() + state_size(call))


cdef inline size_t state_size(Call* call) noexcept nogil:
    return (call.fields * sizeof(double) + LINE - 1) // LINE * LINE


cdef inline size_t scratch_size(real* which, Call* call) noexcept nogil:
    return state_size(call) + call.reals * sizeof(which[0])


cdef int run(chunk function, real* which, Call* call, Py_ssize_t items, Py_ssize_t item_logits, int threads) except -1:
    """All items."""
    if hold(scratch_size(which, call)) == NULL:
        raise MemoryError
    try:
        share_out(function, which, call, items, item_logits, threads)
    finally:
        release()
    return 0


cdef int share_out(chunk function, real* which, Call* call, Py_ssize_t items, Py_ssize_t item_logits,
                   int threads) except -1:
    """All items, by threads that hold as much scratch memory as this one does."""
    cdef Py_ssize_t region = max(1, REGION // max(1, item_logits))
    cdef size_t size = scratch_size(which, call)
    cdef Job job
    job.function = <void (*)(void*, Call*, Py_ssize_t, Py_ssize_t) noexcept nogil>function
    job.call = call
    job.start = 0
    while job.start < items:
        job.size = min(region, items - job.start)
        job.parts = min(job.size, max(8 * threads, job.size * item_logits // PART)) if threads > 1 else 1
        with nogil:
            if job.parts == 1:
                do_part(&job, 0)
            else:
                share(do_part, &job, job.parts, threads, size)
        job.start += job.size
        if job.start < items:
            PyErr_CheckSignals()
    return 0


cdef inline bint row_by_row(Call* call, int threads) noexcept:
    return ROW_FIELDS + call.blocks * BLOCK_FIELDS <= STATE and (
        threads == 1 or call.rows >= 4 * threads or call.blocks < PIECE
    )


cdef int run_rows(chunk whole, chunk begin, chunk reduce, chunk settle, chunk write, real* which, Call* call,
                  int threads) except -1:
    """Whole rows where there are enough of them, else the steps of long rows, shared between the threads.

    A step that an operation does not have is NULL.
    """
    cdef Py_ssize_t fields = ROW_FIELDS + call.blocks * BLOCK_FIELDS
    cdef Py_ssize_t together = max(1, IN_CACHE // call.classes), row = 0, pieces = (call.blocks + PIECE - 1) // PIECE, n
    if row_by_row(call, threads):
        if call.keep == KEEP_PADDED:  # the exponentials of a row, behind the slots
            call.reals += call.blocks * BLOCK
        return run(whole, which, call, call.rows, call.classes, threads)
    if hold(scratch_size(which, call)) == NULL:
        raise MemoryError
    call.states = <double*>malloc(min(together, call.rows) * fields * sizeof(double))
    call.kept = NULL
    if call.keep == KEEP_PADDED:
        call.kept = aligned_alloc(LINE, min(together, call.rows) * call.blocks * BLOCK * sizeof(which[0]))
    try:
        if call.states == NULL or (call.kept == NULL and call.keep == KEEP_PADDED):
            raise MemoryError
        while row < call.rows:
            n = min(together, call.rows - row)
            call.first_row = row
            if begin != NULL:
                share_out(begin, which, call, n, BLOCK, 1)
            share_out(reduce, which, call, n * pieces, PIECE * BLOCK, threads)
            if settle != NULL:
                share_out(settle, which, call, n, BLOCK, 1)
            if write != NULL:
                share_out(write, which, call, n * pieces, PIECE * BLOCK, threads)
            row += n
    finally:
        free(call.states)
        free(call.kept)
        release()
    return 0


cdef inline int keep_of(Call* call, bint y_has_room) noexcept:
    """Where the exponentials of rows stay; nowhere if they would not fit the cache."""
    if y_has_room:
        return KEEP
    return KEEP_PADDED if BLOCK < call.classes <= IN_CACHE and call.inner == 1 else DISCARD


cdef inline real* kept_row(real* which, Call* call, Py_ssize_t row) noexcept nogil:
    """The exponentials of a row that threads share."""
    if call.keep == KEEP_PADDED:
        return <real*>call.kept + row * call.blocks * BLOCK
    return <real*>call.y + (call.first_row + row) * call.y_stride


cdef inline Py_ssize_t piece_row(Call* call, Py_ssize_t item) noexcept nogil:
    return item // ((call.blocks + PIECE - 1) // PIECE)


cdef inline Py_ssize_t piece_first(Call* call, Py_ssize_t item) noexcept nogil:
    return item % ((call.blocks + PIECE - 1) // PIECE) * PIECE


cdef inline Py_ssize_t piece_last(Call* call, Py_ssize_t item) noexcept nogil:
    return min(call.blocks, piece_first(call, item) + PIECE)


cdef inline double* row_state(Call* call, Py_ssize_t row) noexcept nogil:
    return call.states + row * (ROW_FIELDS + call.blocks * BLOCK_FIELDS)


cdef inline Py_ssize_t tiles(Py_ssize_t outer, Py_ssize_t inner) noexcept nogil:
    return outer * ((inner + LANES - 1) // LANES)


cdef int storage_of(cnp.ndarray array):
    cdef int kind = cnp.PyArray_TYPE(array)
    if kind == cnp.NPY_FLOAT or kind == cnp.NPY_DOUBLE:
        return NATIVE
    return FLOAT16 if kind == cnp.NPY_FLOAT16 else BFLOAT16


cdef Py_ssize_t LAST_CACHE = last_cache


cdef inline void stream_if_large(Call* call, Py_ssize_t nbytes, int threads) noexcept:
    """Results go past the caches where, with what is read, they would not fit the last of them.

    Those of half types come by way of scratch memory anyway, and gain from three quarters on: softmax of 256 x 32000
    takes 1.12 ms on two threads of 32 MB so, and 1.40 through the caches.
    """
    cdef Py_ssize_t room = LAST_CACHE if call.storage == NATIVE else LAST_CACHE // 4 * 3
    if 0 < room < nbytes and (call.inner > 1 or row_by_row(call, threads)):
        call.storage |= STREAMED


cdef inline void* data(object array) noexcept:
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray>array)


cdef Call new_call(cnp.ndarray x, Py_ssize_t x_stride, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner):
    cdef Call call
    call.x = data(x)
    call.x_stride = x_stride
    call.rows = outer
    call.first_row = 0
    call.classes = classes
    call.inner = inner
    call.blocks = (classes + BLOCK - 1) // BLOCK
    call.scale = 1.0
    call.storage = storage_of(x)
    call.keep = DISCARD
    call.log = False
    call.fields = STATE
    call.reals = SLOTS * BLOCK
    return call
