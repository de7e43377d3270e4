# The records that only the text knows; those of task.pxd are what it is called with.
from libc.stdint cimport int64_t

from fastlogits.kernels.machine cimport lanes, real, stored

# What is known of the rows of a group, or of the lanes of a tile; and scratch memory. It belongs to one thread. The
# arrays lie apart by odd numbers of cache lines: at multiples of 4096 bytes a load waits for an unrelated store.
cdef struct Work:
    double* blocks          # of a long row
    real* row               # the exponentials of a long row, where they stay in scratch memory
    double* survivors       # of the filters
    Py_ssize_t room[1]      # how many they may be
    Py_ssize_t needed[1]    # how many there are of a row that has no room
    Py_ssize_t reached[1]   # that row, or the end
    Py_ssize_t apart[2]     # so that the arrays begin at cache lines
    double peak[FIELD]      # the largest logit
    double rest[FIELD]      # the sum of the exponentials over all but one maximum
    double lost[FIELD]      # what `rest` has rounded away
    double tied[FIELD]      # how many exponentials are 1, less one
    double log_norm[FIELD]  # log(1 + rest)
    double picked[FIELD]    # the logit at the label
    double slope[FIELD]     # of the softcap there
    double mass[FIELD]      # the sum of the masses
    double gap[FIELD]       # the sum of mass (peak - z), see `gap_part` of loss.py
    double gap_lost[FIELD]  # what `gap` has rounded away
    double scale[FIELD]     # the weight of the row
    double scales[FIELD]    # what its logits are multiplied by
    double hard[FIELD]      # the weight of the label's class, smoothing taken off
    double smooth[FIELD]    # the label's part of the smoothing
    double factor[FIELD]    # see `finish` of loss.py
    double counter[FIELD]
    double target[FIELD]
    double lead[FIELD]      # what is taken from g of a row that a class dominates, see gradients.py
    double top_target[FIELD]  # the gradient at the class that dominates
    double top_mass[FIELD]  # its mass, and that of the others
    double others[FIELD]
    double top_slope[FIELD] # of the softcap there
    double boost[FIELD]     # what the exponentials are multiplied by where `factor` would be too large
    Py_ssize_t top[FIELD]   # that class, or NOTHING
    double second[FIELD]    # the largest logit but one
    double above[FIELD]     # how many logits come before the label
    int64_t label[FIELD]    # a class, IGNORED or SOFT
    Py_ssize_t index[FIELD]
    Py_ssize_t waiting[FIELD]     # rows whose largest wait for others, see topk.py
    Py_ssize_t candidates[FIELD]  # how many each of them has
    real tile[TILE]
    real other_tile[TILE]
    real chunk[TILE]
    real peaks[SLOT]
    real shifts[SLOT]
    real factors[SLOT]
    real counters[SLOT]
    real spare[SLOT]
    real times[SLOT]        # of each lane, where they differ: scale, scale / log 2 and the floor of its exponentials
    real rates[SLOT]
    real floors[SLOT]
    double rules[SIEVE_RULES]   # of the lanes of a tile that is filtered, rule r of lane j at r * SIEVE + j
    double masses[SIEVE_TILE]     # exp(z - peak)
    double keys[SIEVE_TILE]
    double kept[SIEVE_FIELD]      # how many of the largest are left
    double whole[SIEVE_FIELD]     # how many top_p has left
    double total[SIEVE_FIELD]     # their mass
    double sum[SIEVE_FIELD]
    double count[SIEVE_FIELD]
    double limit[SIEVE_FIELD]
    int64_t words[SIEVE_WORDS]    # of the random numbers

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

# The k largest of a vector of lanes so far: the i-th of each, and its class, a vector each
cdef struct Lists:
    real* values
    real* ids
    Py_ssize_t k

# What the filters have left of a row, ordered by class, and their scratch memory
cdef struct Survivors:
    double* z
    double* mass            # exp(z - peak)
    double* id              # the class
    double* key
    double* narrowed        # the keys of a bucket
    double* narrowed_mass
    double* peaks           # the largest z of each span of the row
    double* histogram
