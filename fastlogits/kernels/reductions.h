/* Reductions for one real type; included by primitives.h with REAL, BITS, VECTOR, ... set for float, then double. */
#define WIDTH ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))
#define RUN (4 * TERMS * WIDTH) /* of four vectors at a time */

ALWAYS_INLINE VECTOR F(splat)(REAL value) { return value - (VECTOR){0}; }

ALWAYS_INLINE VECTOR F(read)(const REAL *x)
{
    VECTOR v;
    memcpy(&v, x, sizeof v);
    return v;
}

#if defined(__AVX2__) && !defined(__AVX512F__)
/* The first n lanes. */
ALWAYS_INLINE __m256i F(lane_mask)(ptrdiff_t n)
{
    static const int64_t taken[] = {-1, -1, -1, -1, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)((const char *)(taken + 4) - n * sizeof(REAL)));
}
#endif

ALWAYS_INLINE VECTOR F(read_tail)(const REAL *x, ptrdiff_t n, REAL padding)
{
#if defined(__AVX512F__)
    return MM(_mm512_mask_loadu)(F(splat)(padding), (1u << n) - 1, x);
#elif defined(__AVX2__)
    __m256i mask = F(lane_mask)(n);
    return MM(_mm256_blendv)(F(splat)(padding), MM(_mm256_maskload)(x, mask), (VECTOR)mask);
#else
    REAL lanes[VECTOR_BYTES / sizeof(REAL)];
    for (ptrdiff_t i = 0; i < WIDTH; i++)
        lanes[i] = i < n ? x[i] : padding;
    return F(read)(lanes);
#endif
}

ALWAYS_INLINE void F(write_tail)(REAL *x, ptrdiff_t n, VECTOR v)
{
#if defined(__AVX512F__)
    MM(_mm512_mask_storeu)(x, (1u << n) - 1, v);
#elif defined(__AVX2__)
    MM(_mm256_maskstore)(x, F(lane_mask)(n), v);
#else
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] = v[i];
#endif
}

/* A vector, or the numbers that are left for one, with 0 in the other lanes. */
ALWAYS_INLINE VECTOR F(read_some)(const REAL *x, ptrdiff_t left)
{
    return left >= WIDTH ? F(read)(x) : F(read_tail)(x, left, 0);
}

ALWAYS_INLINE void F(write_some)(REAL *x, ptrdiff_t left, VECTOR v)
{
    if (left >= WIDTH)
        memcpy(x, &v, sizeof v);
    else
        F(write_tail)(x, left, v);
}

/* The larger number, m where x is NaN. */
ALWAYS_INLINE VECTOR F(larger_lanes)(VECTOR x, VECTOR m)
{
#if defined(__AVX512F__)
    return MM(_mm512_max)(x, m);
#elif defined(__AVX2__)
    return MM(_mm256_max)(x, m);
#elif defined(__SSE2__)
    return MM(_mm_max)(x, m);
#else
    VECTOR_BITS take = x > m;
    return (VECTOR)((take & (VECTOR_BITS)x) | (~take & (VECTOR_BITS)m));
#endif
}

/* 0 where d < floor, else value; a NaN stays. */
ALWAYS_INLINE VECTOR F(zero_below)(VECTOR d, VECTOR floor, VECTOR value)
{
#if defined(__AVX512F__)
    return MM(_mm512_maskz_mov)(MASK(_mm512_cmp)(d, floor, _CMP_NLT_UQ), value);
#else
    return (VECTOR)((VECTOR_BITS)value & ~(VECTOR_BITS)(d < floor));
#endif
}

/* 0 for what is smaller than the smallest normal number. */
ALWAYS_INLINE VECTOR F(flush_lanes)(VECTOR v)
{
    VECTOR size = (VECTOR)((VECTOR_BITS)v & ~(VECTOR_BITS)F(splat)((REAL)-0.0));
    return F(zero_below)(size, F(splat)(TINY), v);
}

/* A bit for each lane in which a or b is NaN. */
ALWAYS_INLINE unsigned F(any_nan)(VECTOR a, VECTOR b)
{
#if defined(__AVX512F__)
    return MASK(_mm512_cmp)(a, b, _CMP_UNORD_Q);
#elif defined(__AVX2__)
    return MM(_mm256_movemask)(MM(_mm256_cmp)(a, b, _CMP_UNORD_Q));
#elif defined(__SSE2__)
    return MM(_mm_movemask)(MM(_mm_cmpunord)(a, b));
#else
    unsigned found = 0;
    for (ptrdiff_t i = 0; i < WIDTH; i++)
        found |= (unsigned)((a[i] != a[i]) | (b[i] != b[i])) << i;
    return found;
#endif
}

/* A bit for each lane in which a and b are equal. */
ALWAYS_INLINE unsigned F(equal)(VECTOR a, VECTOR b)
{
#if defined(__AVX512F__)
    return MASK(_mm512_cmp)(a, b, _CMP_EQ_OQ);
#elif defined(__AVX2__)
    return MM(_mm256_movemask)(MM(_mm256_cmp)(a, b, _CMP_EQ_OQ));
#elif defined(__SSE2__)
    return MM(_mm_movemask)(MM(_mm_cmpeq)(a, b));
#else
    unsigned found = 0;
    for (ptrdiff_t i = 0; i < WIDTH; i++)
        found |= (unsigned)(a[i] == b[i]) << i;
    return found;
#endif
}

ALWAYS_INLINE VECTOR F(exp_lanes)(VECTOR d, VECTOR rate, VECTOR floor)
{
    EXP2(VECTOR, VECTOR_BITS, d, rate)
    return F(zero_below)(d, floor, p);
}

/* Asks for the lines of `vectors` vectors 4 KB ahead: a hardware prefetcher stops at the page. Among the exponentials,
   not in `maximum`, where the requests come in a burst: logsumexp of 256 x 128256 took 5.4 ms so, and takes 4.5. */
ALWAYS_INLINE void F(prefetch)(const REAL *x, int vectors)
{
    for (ptrdiff_t byte = 0; byte < vectors * VECTOR_BYTES; byte += 64)
        __builtin_prefetch((const char *)x + 4096 + byte);
}

/* The lanes are added in double, in registers and as a tree: a short row waits for little else. */
ALWAYS_INLINE double F(add_lanes)(VECTOR sum)
{
#if defined(__AVX512F__)
    return _mm512_reduce_add_pd(PAIRS(sum));
#else
    double lanes[VECTOR_BYTES / sizeof(REAL)];
    for (ptrdiff_t i = 0; i < WIDTH; i++)
        lanes[i] = sum[i];
#pragma GCC unroll 3
    for (ptrdiff_t half = WIDTH / 2; half > 0; half /= 2)
#pragma GCC unroll 4
        for (ptrdiff_t i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
#endif
}

ALWAYS_INLINE REAL F(largest_lane)(VECTOR m)
{
#if defined(__AVX512F__)
    return MM(_mm512_reduce_max)(m);
#else
    REAL largest = m[0];
#pragma GCC unroll 8
    for (ptrdiff_t i = 1; i < WIDTH; i++)
        largest = m[i] > largest ? m[i] : largest;
    return largest;
#endif
}

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
   as well unless `keep` is DISCARD. out may be x. With `moment` also of d_i e_i (scale 1), or of d_i if `plain`. */
ALWAYS_INLINE VECTOR F(exp_run)(const REAL *x, ptrdiff_t n, VECTOR shift, VECTOR rate, VECTOR floor, REAL *out,
                                int keep, VECTOR *moment, int plain)
{
    VECTOR s0 = {0}, s1 = s0, s2 = s0, s3 = s0, m0 = s0, m1 = s0, m2 = s0, m3 = s0;
    ptrdiff_t i = 0;
    for (; i + 4 * WIDTH <= n; i += 4 * WIDTH) {
        F(prefetch)(x + i, 4);
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
                                       moment ? &moments : NULL, 0));
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
        F(prefetch)(x, 1);
        if (y)
            F(prefetch)(y, 1);
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
    /* By two-sum: a lane of these few holds too many numbers of both signs. Elsewhere softmax_backward of
       8192 x 100 would take 551 us on one thread; it takes 128. */
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
        F(prefetch)(x + i, 2);
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

/* The first i with x_i equal to value, or both NaN; value must be there. */
static inline ptrdiff_t F(find)(const REAL *x, ptrdiff_t n, REAL value)
{
    VECTOR wanted = F(splat)(value);
    for (ptrdiff_t i = 0; i < n; i += WIDTH) {
        VECTOR v = i + WIDTH <= n ? F(read)(x + i) : F(read_tail)(x + i, n - i, value);
        unsigned found = value == value ? F(equal)(v, wanted) : F(any_nan)(v, v);
        if (found)
            return i + __builtin_ctz(found);
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

ALWAYS_INLINE REAL *F(slot)(REAL *work, ptrdiff_t index) { return work + index * BLOCK; }

ALWAYS_INLINE REAL F(cast)(double value, const REAL *like)
{
    (void)like;
    return (REAL)value;
}
