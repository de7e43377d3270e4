# The operations without Python's objects and without its lock; what they return is a code of fastlogits.h.
from libc.stdint cimport int64_t

from fastlogits.backends._team cimport part_of_job

include "task.pxi"

cdef extern from "fastlogits.h" nogil:
    enum:
        FL_ABI
        FL_OK, FL_BAD_ARGUMENT, FL_BAD_LABEL, FL_NO_MEMORY, FL_INTERRUPTED
        FL_FLOAT32, FL_FLOAT64, FL_FLOAT16, FL_BFLOAT16, FL_INT32, FL_INT64
        FL_NONE, FL_SUM, FL_MEAN, FL_NORMALIZED
    const char* FL_CAPSULE
    ctypedef struct fl_pool:
        void (*invite)(fl_pool* pool, int helpers) noexcept nogil
    ctypedef struct fl_rows:
        size_t size
        int dtype, threads, listen
        int64_t outer, classes, inner, x_stride, y_stride, z_stride
        const void* x
        const void* y
        void* z
        double scale
    ctypedef struct fl_loss:
        size_t size
        int dtype, threads, listen
        int64_t outer, classes, inner, x_stride, grad_stride, targets_stride
        const void* x
        void* grad
        const void* labels
        const void* targets
        int label_dtype, loss_dtype, reduction
        const void* weight
        const double* sample_weight
        const double* grad_loss
        double upstream, normalizer
        int64_t ignore_index
        double label_smoothing, z_loss, softcap, logit_scale
        void* losses
        double loss, divisor
        int64_t bad_row
    ctypedef struct fl_api:
        size_t size
        int abi
        int (*softmax)(const fl_rows*) noexcept nogil
        int (*log_softmax)(const fl_rows*) noexcept nogil
        int (*logsumexp)(const fl_rows*) noexcept nogil
        int (*argmax)(const fl_rows*) noexcept nogil
        int (*softmax_backward)(const fl_rows*) noexcept nogil
        int (*log_softmax_backward)(const fl_rows*) noexcept nogil
        int (*cross_entropy)(fl_loss*) noexcept nogil
        void (*join)(fl_pool*) noexcept nogil
        void (*help)() noexcept nogil
    fl_rows fl_rows_of(int dtype, const void* x, int64_t rows, int64_t classes)
    fl_loss fl_loss_of(int dtype, const void* x, int64_t rows, int64_t classes)

# The beginning of a thread's scratch memory, see records.pxd
cdef struct Memory:
    double* blocks
    void* row
    double* survivors
    Py_ssize_t room
    Py_ssize_t needed
    Py_ssize_t reached

ctypedef void (*kernel)(Task* task, Memory* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

# The kernels of an operation for each way; what it lacks is NULL.
cdef struct Ways:
    kernel rows
    kernel short
    kernel columns
    kernel pick
    kernel reduce
    kernel settle
    kernel write

# The text compiled for one type of array
cdef struct Unit:
    Ways softmax
    Ways logsumexp
    Ways argmax
    Ways gradient
    Ways loss
    Ways count
    Ways blocks
    Ways merged
    Ways piece
    Ways moments
    Ways stats
    Ways filter
    Ways sample
    size_t work     # bytes of what the text calls Work
    int itemsize    # of what it computes in
    int width       # and of what it stores
    bint halves

# On how many threads, and whether signals are listened to
cdef struct Crew:
    int threads
    bint listen

# A share of the work: `parts` parts of the items from `start` on
cdef struct Job:
    kernel function
    Task* task
    size_t work
    Py_ssize_t row_fields, start, size, parts
    Py_ssize_t room     # for the survivors of the filters
    bint out_of_memory

cdef Unit* unit_of(int dtype) noexcept nogil
cdef int way_of(Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t inner, int threads) noexcept nogil
cdef int stats_way_of(Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t inner, int threads,
                      Py_ssize_t top_k) noexcept nogil
cdef Task new_task(const void* x, Py_ssize_t x_stride, Py_ssize_t outer, Py_ssize_t classes,
                   Py_ssize_t inner) noexcept nogil
cdef int run(kernel function, Unit* unit, Task* task, Py_ssize_t items, Py_ssize_t logits, Crew crew) noexcept nogil
cdef int run_way(Ways* ways, int way, Unit* unit, Task* task, Crew crew) noexcept nogil
cdef Job new_job(kernel function, Unit* unit, Task* task) noexcept nogil
cdef int run_job(part_of_job part, Job* job, Py_ssize_t items, Py_ssize_t logits, Crew crew,
                 size_t size) noexcept nogil
cdef Py_ssize_t room_of(Py_ssize_t classes) noexcept nogil
cdef Py_ssize_t field_of(Py_ssize_t room) noexcept nogil
cdef Py_ssize_t few_lanes(Py_ssize_t classes) noexcept nogil
cdef Py_ssize_t few_items(Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t inner) noexcept nogil

ctypedef int (*operation)(const fl_rows* call) noexcept nogil

cdef int softmax_of(const fl_rows* call, bint log, double* scales) noexcept nogil
cdef int softmax(const fl_rows* call) noexcept nogil
cdef int log_softmax(const fl_rows* call) noexcept nogil
cdef int logsumexp(const fl_rows* call) noexcept nogil
cdef int argmax(const fl_rows* call) noexcept nogil
cdef int softmax_backward(const fl_rows* call) noexcept nogil
cdef int log_softmax_backward(const fl_rows* call) noexcept nogil
cdef int cross_entropy(fl_loss* call) noexcept nogil
cdef Py_ssize_t count_labels(const fl_loss* call, const int64_t* labels, double* total) noexcept nogil
cdef int losses_of_rows(const fl_loss* call, const int64_t* labels, double grad_scale, double* losses) noexcept nogil
