# What the text is called with. backends/numba reads the records from here too: a line is `type name`, an array has its
# length in brackets.
from libc.stdint cimport int64_t

from fastlogits.kernels.machine cimport real, stored

# The options of a loss, as loss.py has them
cdef struct Loss:
    int64_t ignore_index
    double smoothing
    double z_loss
    double softcap
    double grad_scale   # what arrives at each loss, divisor and sign included
    bint soft           # the labels are distributions
    bint weighted
    bint sampled
    bint upstream       # each loss has a gradient that arrives at it
    bint spread         # there are masses: a distribution, or smoothing
    bint bent           # the logits are transformed
    double prescale     # what z is multiplied by before all: -1 for a negative logit_scale, or all of one near 0
    bint with_grad

# What is to be done: arrays, of which a row begins every `stride` numbers; classes of a row, and how many numbers lie
# between two of them (1: rows, more: columns).
cdef struct Task:
    stored* x
    stored* y
    stored* z
    Py_ssize_t x_stride
    Py_ssize_t y_stride
    Py_ssize_t z_stride
    Py_ssize_t rows
    Py_ssize_t classes
    Py_ssize_t inner
    double scale        # what the logits are multiplied by
    bint log            # log_softmax, its gradient
    int keep            # where the exponentials of rows stay: DISCARD, KEEP (in y), KEEP_PADDED (in scratch memory)
    bint past           # results go past the caches, which they would not fit
    bint sharing        # threads share rows
    Py_ssize_t first    # of the rows that threads share, the first
    double* shared      # the blocks and numbers of those rows
    real* kept          # their exponentials, where keep is KEEP_PADDED
    Loss loss
    int64_t* labels
    stored* targets     # distributions in the place of labels
    Py_ssize_t targets_stride
    real* weight        # of each class
    double* sample_weight
    double* grad_loss
    double* losses
    double* peaks       # of the blocks of rows that are at hand in pieces: largest logits, sums, sums without the largest
    double* sums
    double* rests
    double* row_peaks   # of the rows from all their blocks
    double* row_rests
    real* lse           # logsumexp
    Py_ssize_t* indices # argmax
