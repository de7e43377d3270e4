/* Several rows at once, for one real type; included by primitives.h after reductions.h. What a row needs of its
   neighbours is time: the processor works on one while the horizontal sum of another is on its way. */

/* peaks_j = max_i x_ji, NaN skipped, of n rows that lie `stride` apart */
static inline void F(row_maxima)(const REAL *x, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t n, double *peaks)
{
    for (ptrdiff_t j = 0; j < n; j++)
        peaks[j] = F(maximum)(x + j * stride, size);
}

/* sums_j = sum_i exp(scale d_ji) of n <= ROWS rows, d_ji = x_ji - peaks_j, the terms in `out` as well; out may be x.
   With `gaps` also gaps_j = -sum_i d_ji. */
ALWAYS_INLINE void F(row_exps_loop)(const REAL *x, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t n, const double *peaks,
                                    double scale, REAL *out, ptrdiff_t out_stride, int keep, double *sums, double *gaps)
{
    VECTOR rate = F(splat)((REAL)(scale * LOG2_E)), floor = F(splat)(F(lowest)(scale)), by_lane[ROWS], gap[ROWS];
    for (ptrdiff_t j = 0; j < n; j++) {
        sums[j] = 0;
        if (gaps)
            gaps[j] = 0;
    }
    for (ptrdiff_t i = 0; i < size; i += RUN) {
        ptrdiff_t run = size - i < RUN ? size - i : RUN;
        for (ptrdiff_t j = 0; j < n; j++) {
            VECTOR shift = F(splat)((REAL)(peaks[j] > -INFINITY ? peaks[j] : 0));
            by_lane[j] = F(exp_run)(x + j * stride + i, run, shift, rate, floor, out + j * out_stride + i, keep,
                                    gaps ? gap + j : NULL, 1);
        }
        for (ptrdiff_t j = 0; j < n; j++)
            sums[j] += F(add_lanes)(by_lane[j]);
        if (gaps)
            for (ptrdiff_t j = 0; j < n; j++)
                gaps[j] -= F(add_lanes)(gap[j]);
    }
}

static inline void F(row_exps)(const REAL *x, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t n, const double *peaks,
                               double scale, REAL *out, ptrdiff_t out_stride, int keep, double *sums)
{
    if (keep == KEEP)
        F(row_exps_loop)(x, stride, size, n, peaks, scale, out, out_stride, KEEP, sums, NULL);
    else
        F(row_exps_loop)(x, stride, size, n, peaks, scale, out, out_stride, KEEP_PADDED, sums, NULL);
}

/* As row_exps, and gaps_j = sum_i (peaks_j - x_ji). */
static inline void F(row_exps_gaps)(const REAL *x, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t n, const double *peaks,
                                    double scale, REAL *out, ptrdiff_t out_stride, int keep, double *sums, double *gaps)
{
    if (keep == KEEP)
        F(row_exps_loop)(x, stride, size, n, peaks, scale, out, out_stride, KEEP, sums, gaps);
    else
        F(row_exps_loop)(x, stride, size, n, peaks, scale, out, out_stride, KEEP_PADDED, sums, gaps);
}

/* out_ji = factors_j x_ji - offsets_j of n rows, 0 below the smallest normal number; out may be x */
static inline void F(row_scale)(const REAL *x, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t n, const double *factors,
                                const double *offsets, REAL *out, ptrdiff_t out_stride)
{
    for (ptrdiff_t j = 0; j < n; j++) {
        VECTOR factor = F(splat)((REAL)factors[j]), less = F(splat)((REAL)offsets[j]);
        for (ptrdiff_t i = 0; i < size; i += WIDTH) {
            VECTOR v = factor * F(read_some)(x + j * stride + i, size - i) - less;
            F(write_some)(out + j * out_stride + i, size - i, F(flush_lanes)(v));
        }
    }
}

/* gaps_j = sum_i mass_ji (peaks_j - x_ji), where a mass of 0 counts 0, and masses_j = sum_i mass_ji of n rows */
static inline void F(row_gaps)(const REAL *x, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t n, const double *peaks,
                               const REAL *mass, ptrdiff_t mass_stride, double *gaps, double *masses)
{
    for (ptrdiff_t j = 0; j < n; j++) {
        const REAL *row = x + j * stride, *weights = mass + j * mass_stride;
        VECTOR peak = F(splat)((REAL)(peaks[j] > -INFINITY ? peaks[j] : 0));
        double gap = 0, sum = 0;
        for (ptrdiff_t first = 0; first < size; first += RUN / 4) {
            ptrdiff_t last = size - first < RUN / 4 ? size : first + RUN / 4;
            VECTOR by_lane = {0}, weight_by_lane = {0};
            for (ptrdiff_t i = first; i < last; i += WIDTH) {
                VECTOR m = F(read_some)(weights + i, last - i), d = peak - F(read_some)(row + i, last - i);
                by_lane += (VECTOR)((VECTOR_BITS)(m * d) & (m != 0));
                weight_by_lane += m;
            }
            gap += F(add_lanes)(by_lane);
            sum += F(add_lanes)(weight_by_lane);
        }
        gaps[j] = gap;
        masses[j] = sum;
    }
}

/* out_ji = factors_j x_ji - counters_j mass_ji of n rows, 0 below the smallest normal number; out may be x */
static inline void F(row_slope)(const REAL *x, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t n, const double *factors,
                                const REAL *mass, ptrdiff_t mass_stride, const double *counters, REAL *out,
                                ptrdiff_t out_stride)
{
    for (ptrdiff_t j = 0; j < n; j++) {
        const REAL *row = x + j * stride, *weights = mass + j * mass_stride;
        VECTOR factor = F(splat)((REAL)factors[j]), counter = F(splat)((REAL)counters[j]);
        for (ptrdiff_t i = 0; i < size; i += WIDTH) {
            VECTOR less = counter * F(read_some)(weights + i, size - i);
            VECTOR v = factor * F(read_some)(row + i, size - i) - less;
            F(write_some)(out + j * out_stride + i, size - i, F(flush_lanes)(v));
        }
    }
}
