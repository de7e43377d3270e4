/* Reductions for one real type; included by primitives.h after vectors.h. */
#define RUN (4 * TERMS * WIDTH) /* of four vectors at a time */

/* max_i sign * x_i, NaN skipped; -inf of nothing. */
ALWAYS_INLINE REAL F(extreme)(const REAL *x, ptrdiff_t n, REAL sign)
{
    VECTOR m0 = F(splat)((REAL)-INFINITY), m1 = m0, m2 = m0, m3 = m0;
    ptrdiff_t i = 0;
    for (; i + 4 * WIDTH <= n; i += 4 * WIDTH) {
        m0 = F(larger_lanes)(sign * F(read)(x + i), m0);
        m1 = F(larger_lanes)(sign * F(read)(x + i + WIDTH), m1);
        m2 = F(larger_lanes)(sign * F(read)(x + i + 2 * WIDTH), m2);
        m3 = F(larger_lanes)(sign * F(read)(x + i + 3 * WIDTH), m3);
    }
    for (; i + WIDTH <= n; i += WIDTH)
        m0 = F(larger_lanes)(sign * F(read)(x + i), m0);
    if (i < n)
        m1 = F(larger_lanes)(sign * F(read_tail)(x + i, n - i, sign * (REAL)-INFINITY), m1);
    return F(largest_lane)(F(larger_lanes)(F(larger_lanes)(m0, m1), F(larger_lanes)(m2, m3)));
}

static inline REAL F(maximum)(const REAL *x, ptrdiff_t n) { return F(extreme)(x, n, 1); }

static inline REAL F(minimum)(const REAL *x, ptrdiff_t n) { return -F(extreme)(x, n, -1); }

/* Where exp(scale * d) falls below the smallest normal number. */
ALWAYS_INLINE REAL F(lowest)(double scale)
{
    const double lowest = LOWEST_EXPONENT / LOG2_E;
    return (REAL)(scale == 1 ? lowest : lowest / scale);
}

/* d * exp(d), where d = -inf gives 0 */
ALWAYS_INLINE VECTOR F(moment_lanes)(VECTOR d, VECTOR e, VECTOR floor) { return F(larger_lanes)(d, floor) * e; }

/* Sums by lane of e_i = exp(scale * d_i) for n <= RUN, d_i = x_i - shift, rate = scale / log 2; each term goes to out_i
   as well unless `keep` is DISCARD. out may be x. With `moment` also of d_i e_i (scale 1), or of d_i if `plain`.
   What comes next lies `ahead` of x. */
ALWAYS_INLINE VECTOR F(exp_run)(const REAL *x, ptrdiff_t n, VECTOR shift, VECTOR rate, VECTOR floor, REAL *out,
                                int keep, VECTOR *moment, int plain, ptrdiff_t ahead)
{
    VECTOR s0 = {0}, s1 = s0, s2 = s0, s3 = s0, m0 = s0, m1 = s0, m2 = s0, m3 = s0;
    ptrdiff_t i = 0;
    for (; i + 4 * WIDTH <= n; i += 4 * WIDTH) {
        F(prefetch)(x + i + ahead, 4);
        VECTOR d0 = F(read)(x + i) - shift, d1 = F(read)(x + i + WIDTH) - shift;
        VECTOR d2 = F(read)(x + i + 2 * WIDTH) - shift, d3 = F(read)(x + i + 3 * WIDTH) - shift;
        VECTOR e0 = F(exp_lanes)(d0, rate, floor), e1 = F(exp_lanes)(d1, rate, floor);
        VECTOR e2 = F(exp_lanes)(d2, rate, floor), e3 = F(exp_lanes)(d3, rate, floor);
        if (keep) {
            memcpy(out + i, &e0, sizeof e0);
            memcpy(out + i + WIDTH, &e1, sizeof e1);
            memcpy(out + i + 2 * WIDTH, &e2, sizeof e2);
            memcpy(out + i + 3 * WIDTH, &e3, sizeof e3);
        }
        s0 += e0;
        s1 += e1;
        s2 += e2;
        s3 += e3;
        if (moment) {
            m0 += plain ? d0 : F(moment_lanes)(d0, e0, floor);
            m1 += plain ? d1 : F(moment_lanes)(d1, e1, floor);
            m2 += plain ? d2 : F(moment_lanes)(d2, e2, floor);
            m3 += plain ? d3 : F(moment_lanes)(d3, e3, floor);
        }
    }
    for (; i + WIDTH <= n; i += WIDTH) {
        VECTOR d = F(read)(x + i) - shift, e = F(exp_lanes)(d, rate, floor);
        if (keep)
            memcpy(out + i, &e, sizeof e);
        s0 += e;
        if (moment)
            m0 += plain ? d : F(moment_lanes)(d, e, floor);
    }
    if (i < n) {
        VECTOR d = F(read_tail)(x + i, n - i, (REAL)-INFINITY) - shift, e = F(exp_lanes)(d, rate, floor);
        s1 += e;
        if (moment)
            m1 += plain ? F(read_tail)(x + i, n - i, shift[0]) - shift : F(moment_lanes)(d, e, floor);
        if (keep == KEEP_PADDED)
            memcpy(out + i, &e, sizeof e);
        else if (keep == KEEP)
            F(write_tail)(out + i, n - i, e);
    }
    if (moment)
        *moment = (m0 + m1) + (m2 + m3);
    return (s0 + s1) + (s2 + s3);
}

/* The sum of all runs; see exp_run. */
ALWAYS_INLINE double F(exp_loop)(const REAL *x, ptrdiff_t n, double shift_by, double scale, REAL *out, int keep,
                                 double *moment)
{
    VECTOR shift = F(splat)((REAL)shift_by), rate = F(splat)((REAL)(scale * LOG2_E));
    VECTOR floor = F(splat)(F(lowest)(scale)), moments;
    double sum = 0, moment_sum = 0;
    for (ptrdiff_t i = 0; i < n; i += RUN) {
        ptrdiff_t size = n - i < RUN ? n - i : RUN;
        sum += F(add_lanes)(F(exp_run)(x + i, size, shift, rate, floor, keep ? out + i : NULL, keep,
                                       moment ? &moments : NULL, 0, BLOCK));
        if (moment)
            moment_sum += F(add_lanes)(moments);
    }
    if (moment)
        *moment = moment_sum;
    return sum;
}

static inline double F(sum_exp)(const REAL *x, ptrdiff_t n, double shift, double scale)
{
    return F(exp_loop)(x, n, shift, scale, NULL, DISCARD, NULL);
}

static inline double F(sum_exp_moment)(const REAL *x, ptrdiff_t n, double shift, double *moment)
{
    return F(exp_loop)(x, n, shift, 1, NULL, DISCARD, moment);
}

static inline double F(keep_exp)(const REAL *x, ptrdiff_t n, double shift, double scale, REAL *out, int keep)
{
    return keep == KEEP ? F(exp_loop)(x, n, shift, scale, out, KEEP, NULL)
                        : F(exp_loop)(x, n, shift, scale, out, KEEP_PADDED, NULL);
}

/* As add_lanes; of doubles, what their additions round away comes back at the end. */
ALWAYS_INLINE double F(add_signed)(VECTOR sum)
{
    if (sizeof(REAL) == sizeof(float))
        return F(add_lanes)(sum);
    double lanes[VECTOR_BYTES / sizeof(REAL)], lost[VECTOR_BYTES / sizeof(REAL)] = {0};
    for (ptrdiff_t i = 0; i < WIDTH; i++)
        lanes[i] = sum[i];
#pragma GCC unroll 3
    for (ptrdiff_t half = WIDTH / 2; half > 0; half /= 2)
#pragma GCC unroll 4
        for (ptrdiff_t i = 0; i < half; i++) {
            lost[i] += lost[i + half] + rounded_away(lanes[i], lanes[i + half]);
            lanes[i] += lanes[i + half];
        }
    return lanes[0] + lost[0];
}

/* Sums by lane of x_i y_i, or of x_i without y, for n <= RUN. */
ALWAYS_INLINE VECTOR F(sum_run)(const REAL *x, const REAL *y, ptrdiff_t n)
{
#define TERM(i, left) (y ? F(read_some)(x + (i), left) * F(read_some)(y + (i), left) : F(read_some)(x + (i), left))
    VECTOR s0 = {0}, s1 = s0, s2 = s0, s3 = s0;
    ptrdiff_t i = 0;
    if (n <= WIDTH) {
        F(prefetch)(x + BLOCK, 1);
        if (y)
            F(prefetch)(y + BLOCK, 1);
        return TERM(0, n);
    }
    for (; i + 4 * WIDTH <= n; i += 4 * WIDTH) {
        s0 += TERM(i, WIDTH);
        s1 += TERM(i + WIDTH, WIDTH);
        s2 += TERM(i + 2 * WIDTH, WIDTH);
        s3 += TERM(i + 3 * WIDTH, WIDTH);
    }
    for (; i + WIDTH <= n; i += WIDTH)
        s0 += TERM(i, WIDTH);
    if (i < n)
        s1 += TERM(i, n - i);
    return (s0 + s1) + (s2 + s3);
}

ALWAYS_INLINE double F(sum_loop)(const REAL *x, const REAL *y, ptrdiff_t n)
{
    double sum = 0;
#if VECTOR_BYTES == 16
    /* By two-sum: a lane of these few holds too many numbers of both signs. softmax_backward of 8192 x 100 takes 500 us
       on one thread so, and 135 with AVX2, which needs none of it. */
    VECTOR s[2] = {{0}}, lost[2] = {{0}};
    for (ptrdiff_t i = 0; i < n; i += 2 * WIDTH)
        for (int k = 0; k < 2 && i + k * WIDTH < n; k++) {
            VECTOR v = TERM(i + k * WIDTH, n - i - k * WIDTH);
            VECTOR both = s[k] + v, part = both - s[k];
            lost[k] += (s[k] - (both - part)) + (v - part);
            s[k] = both;
        }
    double rounded = 0;
    for (int k = 0; k < 2; k++)
        for (ptrdiff_t lane = 0; lane < WIDTH; lane++) {
            rounded += rounded_away(sum, s[k][lane]) + lost[k][lane];
            sum += s[k][lane];
        }
    return rounded == rounded ? sum + rounded : sum; /* not so where the sum is infinite */
#else
    for (ptrdiff_t i = 0; i < n; i += RUN)
        sum += F(add_signed)(F(sum_run)(x + i, y ? y + i : NULL, n - i < RUN ? n - i : RUN));
    return sum;
#endif
}
#undef TERM

static inline double F(total)(const REAL *x, ptrdiff_t n) { return F(sum_loop)(x, NULL, n); }

static inline double F(dot)(const REAL *x, const REAL *y, ptrdiff_t n) { return F(sum_loop)(x, y, n); }

/* max_i x_i, or a NaN if there is one */
static inline REAL F(maximum_or_nan)(const REAL *x, ptrdiff_t n)
{
    VECTOR m0 = F(splat)((REAL)-INFINITY), m1 = m0;
    unsigned found = 0;
    ptrdiff_t i = 0;
    for (; i + 2 * WIDTH <= n; i += 2 * WIDTH) {
        VECTOR a = F(read)(x + i), b = F(read)(x + i + WIDTH);
        F(prefetch)(x + i + BLOCK, 2);
        found |= F(any_nan)(a, b);
        m0 = F(larger_lanes)(a, m0);
        m1 = F(larger_lanes)(b, m1);
    }
    for (; i < n; i += WIDTH) {
        VECTOR a = i + WIDTH <= n ? F(read)(x + i) : F(read_tail)(x + i, n - i, (REAL)-INFINITY);
        m0 = F(larger_lanes)(a, m0);
        found |= F(any_nan)(a, a);
    }
    return found ? (REAL)NAN : F(largest_lane)(F(larger_lanes)(m0, m1));
}

/* The first i with x_i equal to value, or both NaN. It is there, unless somebody has written to x since it was found;
   then the result is some i all the same. */
static inline ptrdiff_t F(find)(const REAL *x, ptrdiff_t n, REAL value)
{
    VECTOR wanted = F(splat)(value);
    for (ptrdiff_t i = 0; i < n; i += WIDTH) {
        VECTOR v = i + WIDTH <= n ? F(read)(x + i) : F(read_tail)(x + i, n - i, value);
        unsigned found = value == value ? F(equal)(v, wanted) : F(any_nan)(v, v);
        if (found)
            return i + __builtin_ctz(found) < n ? i + __builtin_ctz(found) : n - 1;
    }
    return n - 1;
}

ALWAYS_INLINE REAL *F(stretch)(REAL *x, ptrdiff_t at, ptrdiff_t n)
{
    (void)n;
    return x + at;
}

/* Where n results for y are best computed: y itself, or a buffer from which `store` converts them. */
ALWAYS_INLINE REAL *F(place)(REAL *y, ptrdiff_t at, REAL *buffer, int storage)
{
    return storage == NATIVE ? y + at : buffer;
}

/* Slots begin at cache lines, for which `work` has room beyond them: with vectors across lines softmax of 128 x 1000
   bfloat16 took 10 % longer. */
ALWAYS_INLINE REAL *F(slot)(REAL *work, ptrdiff_t index)
{
    return (REAL *)(((uintptr_t)work + 63) & ~(uintptr_t)63) + index * BLOCK;
}

ALWAYS_INLINE REAL F(cast)(double value, const REAL *like)
{
    (void)like;
    return (REAL)value;
}
