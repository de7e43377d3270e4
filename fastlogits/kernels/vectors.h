/* Operations on one vector, for one real type; included by primitives.h with REAL, BITS, VECTOR, ... set for float,
   then double. */
#define WIDTH ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))

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
    EXP2(VECTOR, VECTOR_WORDS, d, rate)
    return F(zero_below)(d, floor, p);
}

/* Asks for the lines of `vectors` vectors that are to be read next: a hardware prefetcher stops at the page. Among the
   exponentials, not in `maximum`, where the requests come in a burst: logsumexp of 256 x 128256 takes 4.0 ms on two
   threads, and 6.6 without. */
ALWAYS_INLINE void F(prefetch)(const REAL *x, int vectors)
{
    for (ptrdiff_t byte = 0; byte < vectors * VECTOR_BYTES; byte += 64)
        __builtin_prefetch((const char *)x + byte);
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
