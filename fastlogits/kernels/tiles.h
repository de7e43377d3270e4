/* Tiles, whose lanes lie side by side, for one real type; included by primitives.h after reductions.h. */
#define SQUARE ((ptrdiff_t)(16 / sizeof(REAL)))

/* lanes_cj = x_jc for n rows of `classes` numbers that lie `stride` apart. Squares at the end of rows overlap others.
   One number at a time softmax of 65536 x 10 took 577 us on one thread, and takes 280. */
static inline void F(to_lanes)(const REAL *x, ptrdiff_t stride, ptrdiff_t classes, ptrdiff_t n, REAL *lanes)
{
    ptrdiff_t j = 0;
#if defined(QUARTERS)
    for (; classes >= SQUARE && j + WIDTH <= n; j += WIDTH)
        for (ptrdiff_t c = 0; c < classes; c += SQUARE) {
            ptrdiff_t first = c + SQUARE <= classes ? c : classes - SQUARE;
            f32v v[SQUARE];
            for (ptrdiff_t i = 0; i < SQUARE; i++)
                v[i] = read_quarters(x + (j + i) * stride + first, 16 * stride);
            F(transpose_squares)(v);
            for (ptrdiff_t i = 0; i < SQUARE; i++)
                memcpy(lanes + (first + i) * n + j, v + i, sizeof *v);
        }
#endif
    for (; j < n; j++)
        for (ptrdiff_t c = 0; c < classes; c++)
            lanes[c * n + j] = x[j * stride + c];
}

/* x_jc = lanes_cj */
static inline void F(to_rows)(const REAL *lanes, ptrdiff_t classes, ptrdiff_t n, REAL *x, ptrdiff_t stride)
{
    ptrdiff_t j = 0;
#if defined(QUARTERS)
    for (; classes >= SQUARE && j + WIDTH <= n; j += WIDTH)
        for (ptrdiff_t c = 0; c < classes; c += SQUARE) {
            ptrdiff_t first = c + SQUARE <= classes ? c : classes - SQUARE;
            f32v v[SQUARE];
            for (ptrdiff_t i = 0; i < SQUARE; i++)
                memcpy(v + i, lanes + (first + i) * n + j, sizeof *v);
            F(transpose_squares)(v);
            for (ptrdiff_t i = 0; i < SQUARE; i++)
                write_quarters(x + (j + i) * stride + first, 16 * stride, v[i]);
        }
#endif
    for (; j < n; j++)
        for (ptrdiff_t c = 0; c < classes; c++)
            x[j * stride + c] = lanes[c * n + j];
}

/* peaks_j = max(peaks_j, max_c x_cj) of n lanes, NaN skipped; class c lies at x + c * step. */
static inline void F(lane_maxima)(const REAL *x, ptrdiff_t step, ptrdiff_t classes, ptrdiff_t n, REAL *peaks)
{
    ptrdiff_t j = 0;
    for (; j + 4 * WIDTH <= n; j += 4 * WIDTH) {
        VECTOR m[4];
        for (int i = 0; i < 4; i++)
            m[i] = F(read)(peaks + j + i * WIDTH);
        for (ptrdiff_t c = 0; c < classes; c++)
            for (int i = 0; i < 4; i++) {
                const REAL *here = x + c * step + j + i * WIDTH;
                m[i] = F(larger_lanes)(F(read)(here), m[i]);
                __builtin_prefetch(here + LANES);
            }
        memcpy(peaks + j, m, sizeof m);
    }
    for (; j < n; j += WIDTH) {
        VECTOR m = F(read_some)(peaks + j, n - j);
        for (ptrdiff_t c = 0; c < classes; c++)
            m = F(larger_lanes)(F(read_some)(x + c * step + j, n - j), m);
        F(write_some)(peaks + j, n - j, m);
    }
}

/* indices_row+j = first + c and best_j = x_cj for the last c at which x_cj beat best_j, of n lanes. Without NaN four
   vectors are under way; the next tile is asked for meanwhile, whose rows lie pages apart. */
static inline void F(lane_argmax)(const REAL *x, ptrdiff_t step, ptrdiff_t classes, ptrdiff_t n, ptrdiff_t first,
                                  REAL *best, ptrdiff_t *indices, ptrdiff_t row)
{
    ptrdiff_t j = 0;
    indices += row;
    for (; j + 4 * WIDTH <= n; j += 4 * WIDTH) {
        VECTOR m[4];
        VECTOR_BITS found[4], at = {0};
        unsigned nans = 0;
        for (int i = 0; i < 4; i++) {
            m[i] = F(read)(best + j + i * WIDTH);
            found[i] = ~(VECTOR_BITS){0};
            nans |= F(any_nan)(m[i], m[i]);
        }
        for (ptrdiff_t c = 0; c < classes; c++, at += 1)
            for (int i = 0; i < 4; i++) {
                const REAL *here = x + c * step + j + i * WIDTH;
                VECTOR v = F(read)(here);
                VECTOR_BITS beats = v > m[i];
                __builtin_prefetch(here + LANES);
                nans |= F(any_nan)(v, v);
                found[i] = (at & beats) | (found[i] & ~beats);
                m[i] = F(larger_lanes)(v, m[i]);
            }
        if (nans)
            break;
        memcpy(best + j, m, sizeof m);
        BITS places[4 * VECTOR_BYTES / sizeof(REAL)];
        memcpy(places, found, sizeof found);
#pragma GCC ivdep
        for (ptrdiff_t i = 0; i < 4 * WIDTH; i++)
            indices[j + i] = places[i] == ~(BITS)0 ? indices[j + i] : first + (ptrdiff_t)places[i];
    }
    for (ptrdiff_t c = 0; c < classes; c++)
        for (ptrdiff_t lane = j; lane < n; lane++)
            if (F(beats)(x[c * step + lane], best[lane])) {
                best[lane] = x[c * step + lane];
                indices[lane] = first + c;
            }
}

/* rest_j + lost_j + ones_j += sum_c exp(scale (x_cj - shift_j)) of n lanes and at most TERMS classes; ones_j counts the
   terms that are 1, which would swallow small ones. Each term goes to out_cj as well if `keep`. */
static inline void F(lane_exps)(const REAL *x, ptrdiff_t step, ptrdiff_t classes, ptrdiff_t n, const REAL *shift,
                                double scale, REAL *out, ptrdiff_t out_step, int keep, double *rest, double *lost,
                                double *ones)
{
    VECTOR rate = F(splat)((REAL)(scale * LOG2_E)), floor = F(splat)(F(lowest)(scale));
    for (ptrdiff_t j = 0; j < n; j += WIDTH) {
        VECTOR away = F(read_some)(shift + j, n - j), sum = {0};
        VECTOR count = {0};
        for (ptrdiff_t c = 0; c < classes; c++) {
            VECTOR e = F(exp_lanes)(F(read_some)(x + c * step + j, n - j) - away, rate, floor);
            VECTOR below = (VECTOR)((VECTOR_BITS)e & (e != 1));
            sum += below;
            count += e - below;
            if (keep)
                F(write_some)(out + c * out_step + j, n - j, e);
        }
        REAL sums[VECTOR_BYTES / sizeof(REAL)], counts[VECTOR_BYTES / sizeof(REAL)];
        memcpy(sums, &sum, sizeof sum);
        memcpy(counts, &count, sizeof count);
#pragma GCC ivdep
        for (ptrdiff_t i = 0; i < WIDTH; i++) { /* the fields of `state` have room for whole vectors */
            lost[j + i] += rounded_away(rest[j + i], sums[i]);
            rest[j + i] += sums[i];
            ones[j + i] += counts[i];
        }
    }
}

/* out_cj = factor_j x_cj of n lanes, 0 for a factor of 0 and below the smallest normal number; out may be x */
static inline void F(lane_scale)(const REAL *x, ptrdiff_t step, ptrdiff_t classes, ptrdiff_t n, const REAL *factor,
                                 REAL *out, ptrdiff_t out_step)
{
    for (ptrdiff_t j = 0; j < n; j += WIDTH) {
        VECTOR by = F(read_some)(factor + j, n - j);
        for (ptrdiff_t c = 0; c < classes; c++) {
            VECTOR v = F(flush_lanes)(by * F(read_some)(x + c * step + j, n - j));
            F(write_some)(out + c * out_step + j, n - j, (VECTOR)((VECTOR_BITS)v & (by != 0)));
        }
    }
}

/* gaps_j += sum_c mass_cj (shift_j - x_cj), where a mass of 0 counts 0, and masses_j += sum_c mass_cj of n lanes and at
   most TERMS classes */
static inline void F(lane_gaps)(const REAL *x, ptrdiff_t step, const REAL *mass, ptrdiff_t mass_step,
                                ptrdiff_t classes, ptrdiff_t n, const REAL *shift, double *gaps, double *masses)
{
    for (ptrdiff_t j = 0; j < n; j += WIDTH) {
        VECTOR peak = F(read_some)(shift + j, n - j), gap = {0}, sum = gap;
        for (ptrdiff_t c = 0; c < classes; c++) {
            VECTOR m = F(read_some)(mass + c * mass_step + j, n - j);
            VECTOR d = m * (peak - F(read_some)(x + c * step + j, n - j));
            gap += (VECTOR)((VECTOR_BITS)d & (m != 0));
            sum += m;
        }
        REAL some[2][VECTOR_BYTES / sizeof(REAL)];
        memcpy(some[0], &gap, sizeof gap);
        memcpy(some[1], &sum, sizeof sum);
#pragma GCC ivdep
        for (ptrdiff_t i = 0; i < WIDTH; i++) { /* the fields of `state` have room for whole vectors */
            gaps[j + i] += some[0][i];
            masses[j + i] += some[1][i];
        }
    }
}

/* out_cj = factor_j x_cj - counter_j mass_cj of n lanes, 0 below the smallest normal number, where a factor or a
   counter of 0 makes 0 of what it multiplies; out may be x */
static inline void F(lane_slope)(const REAL *x, ptrdiff_t step, const REAL *mass, ptrdiff_t mass_step,
                                 ptrdiff_t classes, ptrdiff_t n, const REAL *factor, const REAL *counter, REAL *out,
                                 ptrdiff_t out_step)
{
    for (ptrdiff_t j = 0; j < n; j += WIDTH) {
        VECTOR by = F(read_some)(factor + j, n - j), less = F(read_some)(counter + j, n - j);
        for (ptrdiff_t c = 0; c < classes; c++) {
            VECTOR v = by * F(read_some)(x + c * step + j, n - j);
            VECTOR w = less * F(read_some)(mass + c * mass_step + j, n - j);
            v = (VECTOR)((VECTOR_BITS)v & (by != 0)) - (VECTOR)((VECTOR_BITS)w & (less != 0));
            F(write_some)(out + c * out_step + j, n - j, F(flush_lanes)(v));
        }
    }
}

/* out_cj = rate * (x_cj - shift_j) - offset_j of n lanes; out may be x */
static inline void F(lane_shift)(const REAL *x, ptrdiff_t step, ptrdiff_t classes, ptrdiff_t n, REAL rate,
                                 const REAL *shift, const REAL *offset, REAL *out, ptrdiff_t out_step)
{
    for (ptrdiff_t j = 0; j < n; j += WIDTH) {
        VECTOR away = F(read_some)(shift + j, n - j), less = F(read_some)(offset + j, n - j);
        for (ptrdiff_t c = 0; c < classes; c++) {
            VECTOR d = F(read_some)(x + c * step + j, n - j) - away;
            F(write_some)(out + c * out_step + j, n - j, rate * d - less);
        }
    }
}

/* As lane_sums, of `vectors` vectors of lanes that are under way together, of which `left` lanes count. */
ALWAYS_INLINE void F(vector_sums)(const REAL *x, ptrdiff_t x_step, const REAL *y, ptrdiff_t y_step, ptrdiff_t classes,
                                  int vectors, ptrdiff_t left, double *rest, double *lost)
{
    VECTOR sum[4] = {{0}}, away[4] = {{0}};
    for (ptrdiff_t c = 0; c < classes; c++)
        for (int i = 0; i < vectors; i++) {
            const REAL *here = x + c * x_step + i * WIDTH;
            VECTOR v = F(read_some)(here, left - i * WIDTH);
            __builtin_prefetch(here + LANES);
            if (y) {
                here = y + c * y_step + i * WIDTH;
                v *= F(read_some)(here, left - i * WIDTH);
                __builtin_prefetch(here + LANES);
            }
            ROUNDED(v);
            VECTOR both = sum[i] + v, part = both - sum[i];
            away[i] += (sum[i] - (both - part)) + (v - part);
            sum[i] = both;
        }
    REAL sums[4 * VECTOR_BYTES / sizeof(REAL)], parts[4 * VECTOR_BYTES / sizeof(REAL)];
    memcpy(sums, sum, sizeof sum);
    memcpy(parts, away, sizeof away);
#pragma GCC ivdep
    for (ptrdiff_t i = 0; i < vectors * WIDTH; i++) { /* the fields of `state` have room for whole vectors */
        lost[i] += rounded_away(rest[i], sums[i]) + (parts[i] == parts[i] ? parts[i] : 0);
        rest[i] += sums[i];
    }
}

/* rest_j + lost_j += sum_c x_cj y_cj, or sum_c x_cj without y, of n lanes and at most TERMS classes. Terms of both
   signs may come to far less than they are: what sums round away is kept, by two-sum. */
ALWAYS_INLINE void F(lane_sums)(const REAL *x, ptrdiff_t x_step, const REAL *y, ptrdiff_t y_step, ptrdiff_t classes,
                                ptrdiff_t n, double *rest, double *lost)
{
    ptrdiff_t j = 0;
    for (; j + 4 * WIDTH <= n; j += 4 * WIDTH)
        F(vector_sums)(x + j, x_step, y ? y + j : NULL, y_step, classes, 4, 4 * WIDTH, rest + j, lost + j);
    for (; j < n; j += WIDTH)
        F(vector_sums)(x + j, x_step, y ? y + j : NULL, y_step, classes, 1, n - j, rest + j, lost + j);
}

static inline void F(lane_totals)(const REAL *x, ptrdiff_t step, ptrdiff_t classes, ptrdiff_t n, double *rest,
                                  double *lost)
{
    F(lane_sums)(x, step, NULL, 0, classes, n, rest, lost);
}

static inline void F(lane_dots)(const REAL *x, ptrdiff_t x_step, const REAL *y, ptrdiff_t y_step, ptrdiff_t classes,
                                ptrdiff_t n, double *rest, double *lost)
{
    F(lane_sums)(x, x_step, y, y_step, classes, n, rest, lost);
}

/* out_cj = the slope of g_cj and p_cj, of log-softmax if `log`, of n lanes; out may be g or p */
ALWAYS_INLINE void F(lane_slopes)(const REAL *g, ptrdiff_t g_step, const REAL *p, ptrdiff_t p_step, ptrdiff_t classes,
                                  ptrdiff_t n, const REAL *totals, REAL *out, ptrdiff_t out_step, int log)
{
    for (ptrdiff_t j = 0; j < n; j += WIDTH) {
        VECTOR total = F(read_some)(totals + j, n - j);
        for (ptrdiff_t c = 0; c < classes; c++) {
            VECTOR a = F(read_some)(g + c * g_step + j, n - j), b = F(read_some)(p + c * p_step + j, n - j);
            if (log) /* otherwise lane_dots has asked for it */
                __builtin_prefetch(p + c * p_step + j + LANES);
            F(write_some)(out + c * out_step + j, n - j,
                          log ? F(log_softmax_slope_lanes)(a, b, total) : F(softmax_slope_lanes)(a, b, total));
        }
    }
}

static inline void F(lane_softmax_slopes)(const REAL *g, ptrdiff_t g_step, const REAL *p, ptrdiff_t p_step,
                                          ptrdiff_t classes, ptrdiff_t n, const REAL *totals, REAL *out,
                                          ptrdiff_t out_step)
{
    F(lane_slopes)(g, g_step, p, p_step, classes, n, totals, out, out_step, 0);
}

static inline void F(lane_log_softmax_slopes)(const REAL *g, ptrdiff_t g_step, const REAL *log_p, ptrdiff_t p_step,
                                              ptrdiff_t classes, ptrdiff_t n, const REAL *totals, REAL *out,
                                              ptrdiff_t out_step)
{
    F(lane_slopes)(g, g_step, log_p, p_step, classes, n, totals, out, out_step, 1);
}

#undef SQUARE
