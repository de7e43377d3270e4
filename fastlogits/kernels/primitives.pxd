from libc.stdint cimport int64_t

# Cython calls the two versions of a fused extern function __pyx_fuse_0<name> and __pyx_fuse_1<name>: primitives.h
# defines them under these names.
ctypedef fused real:
    float
    double

cdef extern from "primitives.h" nogil:
    enum: BLOCK, SLOTS, LANES, SHORT, ROWS, TERMS, GROUPS
    enum: PEAKS, SHIFTS, SUMS, SQUARES, FACTORS, COUNTERS, TILE, OTHER_TILE, CHUNK, MASS_TILE
    enum: PEAK, REST, TIED, LOG_NORM, PICKED, SLOPE, MASS, GAP, SCALE, HARD, SMOOTH, FACTOR, COUNTER, TARGET, LOST
    enum: ROW_FIELDS, MOST_BLOCKS, STATE
    enum: BLOCK_PEAK, BLOCK_SUM, BLOCK_GAP, BLOCK_MASS, BLOCK_SQUARE, BLOCK_FIELDS, BLOCK_SPREAD
    enum: NATIVE, FLOAT16, BFLOAT16, STREAMED
    enum: SURVIVOR, SURVIVOR_MASS, SURVIVOR_ID, KEY, NARROWED, NARROWED_MASS, SPAN_PEAK, HISTOGRAM, FOUND, SECTIONS
    enum: BEFORE, ONE
    enum: ROOM, NEEDED, FIRST_SECTION, NO_ROOM, MOST_ROOM
    enum: TEMPERATURE, TOP_K, TOP_P, MIN_P, TYPICAL_P, EPSILON, ETA, MIN_KEEP, RULES
    enum: ALL_TIES, FIRST_TIES, LAST_TIES
    enum: SPAN, BUCKETS
    enum: DISCARD, KEEP, KEEP_PADDED
    const double INF "(double)INFINITY"
    const double NEG_INF "-(double)INFINITY"
    const double NAN "(double)NAN"
    const double LOWEST, NEAR
    const int64_t WORD, MULTIPLIER_0, MULTIPLIER_1, WEYL_0, WEYL_1

    real* stretch(real* x, Py_ssize_t at, Py_ssize_t n)
    real* slot(real* work, Py_ssize_t index)
    bint readable(int storage)
    void end_streams()
    real* load(real* x, Py_ssize_t at, Py_ssize_t n, real* buffer, int storage)
    real* place(real* y, Py_ssize_t at, real* buffer, int storage)
    void store(real* y, Py_ssize_t at, Py_ssize_t n, real* values, int storage)
    real cast(double value, real* like)

    real maximum(real* x, Py_ssize_t n)
    real minimum(real* x, Py_ssize_t n)
    real maximum_or_nan(real* x, Py_ssize_t n)
    Py_ssize_t find(real* x, Py_ssize_t n, real value)
    real group_maxima(real* x, Py_ssize_t n, real* groups, bint or_nan)
    Py_ssize_t count_above(real* x, Py_ssize_t n, real limit)
    Py_ssize_t next_above(real* x, Py_ssize_t start, Py_ssize_t n, real limit)
    Py_ssize_t digit(real x, Py_ssize_t place)
    Py_ssize_t places(real* like)
    void row_softmax_slopes(real* g, Py_ssize_t g_stride, real* p, Py_ssize_t p_stride, Py_ssize_t size, Py_ssize_t n,
                            double* totals, real* out, Py_ssize_t out_stride, bint beyond)
    void row_log_softmax_slopes(real* g, Py_ssize_t g_stride, real* log_p, Py_ssize_t p_stride, Py_ssize_t size,
                                Py_ssize_t n, double* totals, real* out, Py_ssize_t out_stride, bint beyond)
    void row_totals(real* x, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t n, double* sums)
    void row_dots(real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, Py_ssize_t size, Py_ssize_t n,
                  double* sums)
    double total(real* x, Py_ssize_t n)
    double dot(real* x, real* y, Py_ssize_t n)
    double sum_exp(real* x, Py_ssize_t n, double shift, double scale)
    double keep_exp(real* x, Py_ssize_t n, double shift, double scale, real* out, int keep)
    double sum_exp_moment(real* x, Py_ssize_t n, double shift, double* moment)
    void scale_each(real* x, Py_ssize_t n, real factor, real* out)
    void to_lanes(real* x, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t n, real* lanes)
    void to_rows(real* lanes, Py_ssize_t classes, Py_ssize_t n, real* x, Py_ssize_t stride)
    void row_maxima(real* x, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t n, double* peaks)
    void row_exps(real* x, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t n, double* peaks, double scale, real* out,
                  Py_ssize_t out_stride, int keep, double* sums)
    void row_exps_gaps(real* x, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t n, double* peaks, double scale,
                       real* out, Py_ssize_t out_stride, int keep, double* sums, double* gaps)
    void row_scale(real* x, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t n, double* factors, double* offsets,
                   real* out, Py_ssize_t out_stride)
    void row_shift(real* x, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t n, real rate, real* shifts,
                   real* offsets, real* out, Py_ssize_t out_stride)
    void row_gaps(real* x, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t n, double* peaks, real* mass,
                  Py_ssize_t mass_stride, double* gaps, double* masses)
    void row_slope(real* x, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t n, double* factors, real* mass,
                   Py_ssize_t mass_stride, double* counters, real* out, Py_ssize_t out_stride)
    void lane_maxima(real* x, Py_ssize_t step, Py_ssize_t classes, Py_ssize_t n, real* peaks)
    void lane_argmax(real* x, Py_ssize_t step, Py_ssize_t classes, Py_ssize_t n, Py_ssize_t first, real* best,
                     Py_ssize_t* indices, Py_ssize_t row)
    void lane_exps(real* x, Py_ssize_t step, Py_ssize_t classes, Py_ssize_t n, real* shift, double scale, real* out,
                   Py_ssize_t out_step, bint keep, double* rest, double* lost, double* ones)
    void lane_scale(real* x, Py_ssize_t step, Py_ssize_t classes, Py_ssize_t n, real* factor, real* out,
                    Py_ssize_t out_step)
    void lane_totals(real* x, Py_ssize_t step, Py_ssize_t classes, Py_ssize_t n, double* rest, double* lost)
    void lane_dots(real* x, Py_ssize_t x_step, real* y, Py_ssize_t y_step, Py_ssize_t classes, Py_ssize_t n,
                   double* rest, double* lost)
    void lane_softmax_slopes(real* g, Py_ssize_t g_step, real* p, Py_ssize_t p_step, Py_ssize_t classes, Py_ssize_t n,
                             real* totals, real* out, Py_ssize_t out_step)
    void lane_log_softmax_slopes(real* g, Py_ssize_t g_step, real* log_p, Py_ssize_t p_step, Py_ssize_t classes,
                                 Py_ssize_t n, real* totals, real* out, Py_ssize_t out_step)
    void lane_gaps(real* x, Py_ssize_t step, real* mass, Py_ssize_t mass_step, Py_ssize_t classes, Py_ssize_t n,
                   real* shift, double* gaps, double* masses)
    void lane_slope(real* x, Py_ssize_t step, real* mass, Py_ssize_t mass_step, Py_ssize_t classes, Py_ssize_t n,
                    real* factor, real* counter, real* out, Py_ssize_t out_step)
    void lane_shift(real* x, Py_ssize_t step, Py_ssize_t classes, Py_ssize_t n, real rate, real* shift, real* offset,
                    real* out, Py_ssize_t out_step)
    void exp_each(real* x, real* shift, Py_ssize_t n, double scale, real* out)

    Py_ssize_t whole(double value)
    double rounded_away(double a, double b)
    real exp(real d)
    real log1p(real x)
    real tanh(real u)
    real sech2(real u)
    real flush(real value)
    real below_one(real value)
    real larger(real x, real m)
    bint beats(real x, real best)
    real finite_peak(real peak)
    real weigh(real weight, real value)
