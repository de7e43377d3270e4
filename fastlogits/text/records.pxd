# The records of the text, which backends/numba reads from here too: a line is `type name`, an array has its length in
# brackets.
from libc.stdint cimport int64_t

from fastlogits.kernels.machine cimport lanes, real, stored

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
    bint negative       # their sign is changed
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
    real* lse           # logsumexp
    Py_ssize_t* indices # argmax

# What is known of the rows of a group, or of the lanes of a tile; and scratch memory. It belongs to one thread. The
# arrays lie apart by odd numbers of cache lines: at multiples of 4096 bytes a load waits for an unrelated store.
cdef struct Work:
    double* blocks          # of a long row
    real* row               # the exponentials of a long row, where they stay in scratch memory
    double peak[FIELD]      # the largest logit
    double rest[FIELD]      # the sum of the exponentials over all but one maximum
    double lost[FIELD]      # what `rest` has rounded away
    double tied[FIELD]      # how many exponentials are 1, less one
    double log_norm[FIELD]  # log(1 + rest)
    double picked[FIELD]    # the logit at the label
    double slope[FIELD]     # of the softcap there
    double mass[FIELD]      # the sum of the masses
    double gap[FIELD]       # the sum of mass (peak - z)
    double scale[FIELD]     # the weight of the row
    double hard[FIELD]      # the weight of the label's class, smoothing taken off
    double smooth[FIELD]    # the label's part of the smoothing
    double factor[FIELD]    # see `finish` of loss.py
    double counter[FIELD]
    double target[FIELD]
    int64_t label[FIELD]    # a class, IGNORED or SOFT
    Py_ssize_t index[FIELD]
    real tile[TILE]
    real other_tile[TILE]
    real chunk[TILE]
    real peaks[SLOT]
    real shifts[SLOT]
    real factors[SLOT]
    real counters[SLOT]
    real spare[SLOT]

# The blocks of a long row
cdef struct Blocks:
    double* peak
    double* sum
    double* gap
    double* mass
    double* square

# Where the exponentials of rows stay: the first of the first row at `at`, rows `stride` apart
cdef struct Kept:
    real* exps
    Py_ssize_t at
    Py_ssize_t stride
    int how

# Where a tile lies: class c of lane j at `at + c * step + j`, its results and the distributions likewise; lane 0 is `row`.
cdef struct Tile:
    Py_ssize_t at
    Py_ssize_t step
    Py_ssize_t row
    Py_ssize_t n
    Py_ssize_t y_at
    Py_ssize_t y_step
    Py_ssize_t targets_at
    Py_ssize_t targets_step

# How a stretch is swept: e = exp(scale (x - shift)), with rate = scale / log 2; what lies `ahead` is asked for.
cdef struct Sweep:
    lanes shift
    lanes rate
    lanes floor
    Py_ssize_t ahead
    int keep
    int moment
