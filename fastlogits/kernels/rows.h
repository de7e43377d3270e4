/* Several rows at once, for one real type; included by primitives.h after reductions.h. What a row needs of its
   neighbours is time: the processor works on one while the horizontal sum of another is on its way. */
#define TOGETHER 8

/* peaks_j = max_i x_ji, NaN skipped, of n rows that lie `stride` apart */
static inline void F(row_maxima)(const REAL *x, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t n, double *peaks)
{
    for (ptrdiff_t j = 0; j < n; j++)
        peaks[j] = F(maximum)(x + j * stride, size);
}

/* sums_j = sum_i exp(scale d_ji) of n <= ROWS rows, d_ji = x_ji - peaks_j, the terms in `out` as well; out may be x.
   With `gaps` also gaps_j = -sum_i d_ji. Asks for the next n rows: softmax of 4096 x 1000 takes 0.51 ms on two threads
   so, and 0.70 without. */
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
                                    gaps ? gap + j : NULL, 1, n * stride);
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

/* out_ji = rate * (x_ji - shifts_j) - offsets_j of n rows; out may be x */
static inline void F(row_shift)(const REAL *x, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t n, REAL rate,
                                const REAL *shifts, const REAL *offsets, REAL *out, ptrdiff_t out_stride)
{
    for (ptrdiff_t j = 0; j < n; j++, x += stride, out += out_stride) {
        VECTOR shift = F(splat)(shifts[j]), less = F(splat)(offsets[j]);
        ptrdiff_t i = 0;
        for (; i + WIDTH <= size; i += WIDTH) {
            VECTOR v = rate * (F(read)(x + i) - shift) - less;
            memcpy(out + i, &v, sizeof v);
        }
        if (i < size)
            F(write_tail)(out + i, size - i, rate * (F(read_tail)(x + i, size - i, 0) - shift) - less);
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

/* sums_j = the lanes of by_lane_j, added. Of floats the rows share the additions: alone, each needs as many. */
ALWAYS_INLINE void F(add_rows)(const VECTOR *by_lane, double *sums)
{
#if defined(__AVX512F__)
    if (sizeof(REAL) == sizeof(float)) {
        f64v a[TOGETHER];
        for (int k = 0; k < TOGETHER; k++)
            a[k] = PAIRS(by_lane[k]);
        for (int k = 0; k < 4; k++)
            a[k] = _mm512_unpacklo_pd(a[2 * k], a[2 * k + 1]) + _mm512_unpackhi_pd(a[2 * k], a[2 * k + 1]);
        for (int half = 2; half > 0; half /= 2)
            for (int k = 0; k < half; k++)
                a[k] = _mm512_shuffle_f64x2(a[2 * k], a[2 * k + 1], 0x88)
                    + _mm512_shuffle_f64x2(a[2 * k], a[2 * k + 1], 0xdd);
        memcpy(sums, a, sizeof *a);
        return;
    }
#endif
    for (int k = 0; k < TOGETHER; k++)
        sums[k] = F(add_signed)(by_lane[k]);
}

/* sums_j = sum_i x_ji y_ji, or sum_i x_ji without y, of n rows; there is room for TOGETHER at a time */
ALWAYS_INLINE void F(row_sums)(const REAL *x, ptrdiff_t x_stride, const REAL *y, ptrdiff_t y_stride, ptrdiff_t size,
                               ptrdiff_t n, double *sums)
{
    if (VECTOR_BYTES == 16 || size > TOGETHER * WIDTH) {
        for (ptrdiff_t j = 0; j < n; j++)
            sums[j] = F(sum_loop)(x + j * x_stride, y ? y + j * y_stride : NULL, size);
        return;
    }
    for (ptrdiff_t j = 0; j < n; j += TOGETHER) {
        VECTOR by_lane[TOGETHER];
        const REAL *a = x + j * x_stride, *b = y ? y + j * y_stride : NULL;
        if (size <= WIDTH && j + TOGETHER <= n)
#pragma GCC unroll 8
            for (ptrdiff_t k = 0; k < TOGETHER; k++, a += x_stride, b += y_stride)
                by_lane[k] = F(sum_run)(a, y ? b : NULL, size);
        else
            for (ptrdiff_t k = 0; k < TOGETHER; k++, a += x_stride, b += y_stride)
                by_lane[k] = j + k < n ? F(sum_run)(a, y ? b : NULL, size) : F(splat)(0);
        F(add_rows)(by_lane, sums + j);
    }
}

static inline void F(row_totals)(const REAL *x, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t n, double *sums)
{
    F(row_sums)(x, stride, NULL, 0, size, n, sums);
}

static inline void F(row_dots)(const REAL *x, ptrdiff_t x_stride, const REAL *y, ptrdiff_t y_stride, ptrdiff_t size,
                               ptrdiff_t n, double *sums)
{
    F(row_sums)(x, x_stride, y, y_stride, size, n, sums);
}

/* p (g - total), 0 below the smallest normal number */
ALWAYS_INLINE VECTOR F(softmax_slope_lanes)(VECTOR g, VECTOR p, VECTOR total)
{
    return F(flush_lanes)(p * (g - total));
}

/* g - exp(log_p) total */
ALWAYS_INLINE VECTOR F(log_softmax_slope_lanes)(VECTOR g, VECTOR log_p, VECTOR total)
{
    const REAL log2_e = (REAL)LOG2_E;
    VECTOR least = F(splat)((LOWEST_EXPONENT - 2) / log2_e), d = -F(larger_lanes)(least, -log_p);
    return g - total * F(exp_lanes)(d, F(splat)(log2_e), F(splat)(LOWEST_EXPONENT / log2_e));
}

/* out_ji = the slope of g_ji and p_ji, of log-softmax if `log`, of n rows; out may be g or p. The next n rows are asked
   for if they lie `beyond` these. Rows shorter than a vector have a loop of their own: softmax_backward of 65536 x 10
   takes 90 us on two threads so, and 103 without. */
ALWAYS_INLINE void F(row_slopes)(const REAL *g, ptrdiff_t g_stride, const REAL *p, ptrdiff_t p_stride, ptrdiff_t size,
                                 ptrdiff_t n, const double *totals, REAL *out, ptrdiff_t out_stride, int beyond,
                                 int log)
{
#define SLOPE(a, b) (log ? F(log_softmax_slope_lanes)(a, b, total) : F(softmax_slope_lanes)(a, b, total))
#define EACH_ROW for (ptrdiff_t j = 0; j < n; j++, g += g_stride, p += p_stride, out += out_stride)
#define END(i)                                                                                                         \
    F(write_tail)(out + i, size - i, SLOPE(F(read_tail)(g + i, size - i, 0), F(read_tail)(p + i, size - i, 0)))
    if (size < WIDTH)
        EACH_ROW {
            VECTOR total = F(splat)((REAL)totals[j]);
            END(0);
        }
    else
        EACH_ROW {
            VECTOR total = F(splat)((REAL)totals[j]);
            ptrdiff_t i = 0;
            for (; i + WIDTH <= size; i += WIDTH) {
                VECTOR v = SLOPE(F(read)(g + i), F(read)(p + i));
                if (beyond) {
                    F(prefetch)(g + n * g_stride + i, 1);
                    F(prefetch)(p + n * p_stride + i, 1);
                }
                memcpy(out + i, &v, sizeof v);
            }
            if (i < size)
                END(i);
        }
#undef SLOPE
#undef EACH_ROW
#undef END
}

static inline void F(row_softmax_slopes)(const REAL *g, ptrdiff_t g_stride, const REAL *p, ptrdiff_t p_stride,
                                         ptrdiff_t size, ptrdiff_t n, const double *totals, REAL *out,
                                         ptrdiff_t out_stride, int beyond)
{
    if (beyond)
        F(row_slopes)(g, g_stride, p, p_stride, size, n, totals, out, out_stride, 1, 0);
    else
        F(row_slopes)(g, g_stride, p, p_stride, size, n, totals, out, out_stride, 0, 0);
}

static inline void F(row_log_softmax_slopes)(const REAL *g, ptrdiff_t g_stride, const REAL *log_p, ptrdiff_t p_stride,
                                             ptrdiff_t size, ptrdiff_t n, const double *totals, REAL *out,
                                             ptrdiff_t out_stride, int beyond)
{
    if (beyond)
        F(row_slopes)(g, g_stride, log_p, p_stride, size, n, totals, out, out_stride, 1, 1);
    else
        F(row_slopes)(g, g_stride, log_p, p_stride, size, n, totals, out, out_stride, 0, 1);
}

#undef TOGETHER
