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

# What is to be found of rows, as stats.py has it, what of it is wanted, and where that goes.
cdef struct Stats:
    Py_ssize_t top_k
    bint labelled           # the logit at the label
    bint swept              # anything else
    bint sums
    bint moment
    bint located            # argmax
    bint second             # the largest logit but one
    bint ranked             # how many logits are above the threshold
    bint ties               # and, of those that equal it, how many come before the label
    bint given              # the threshold is given, and not the logit at the label
    bint ordered            # the top_k come in order
    bint sorting            # they are sorted by radix, for which there is memory behind the blocks
    bint with_label_logits
    bint with_peaks
    bint with_rests
    bint with_moments
    bint with_seconds
    bint with_lse
    bint with_nll
    bint with_entropy
    bint with_max_prob
    bint with_margin
    double* label_logits
    double* thresholds
    double* moments
    double* seconds
    real* nll
    real* entropy
    real* max_prob
    real* margin
    Py_ssize_t* above
    real* top_values
    Py_ssize_t* top_ids

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
    double scale        # what the logits are multiplied by; 0: those of each row by its own
    double* scales      # these
    real* bias          # of each class, added to its scaled logits; -inf for a class that is left out
    bint biased
    bint log            # log_softmax, its gradient
    int keep            # where the exponentials of rows stay: DISCARD, KEEP (in y), KEEP_PADDED (in scratch memory)
    bint past           # results go past the caches, which they would not fit
    bint sharing        # threads share rows
    Py_ssize_t first    # of the rows that threads share, the first
    double* shared      # the blocks and numbers of those rows
    real* kept          # their exponentials, where keep is KEEP_PADDED
    Loss loss
    Stats stats
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
    double* results     # moments: five numbers of each row
    double* rules       # the parameters of the filters, RULES for each row, or those of all rows
    Py_ssize_t rules_stride
    int64_t* numbers    # of the rows, to draw by
    int64_t key_0
    int64_t key_1
    double* log_probs   # of what was drawn
