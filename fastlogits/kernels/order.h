/* The primitives that `select` of row_stats.py stands on, for one real type; included by primitives.h. */

ALWAYS_INLINE REAL F(group_loop)(const REAL *x, ptrdiff_t n, REAL *groups, int or_nan)
{
    VECTOR m[4];
    int found = 0;
    ptrdiff_t i = 0;
    for (int k = 0; k < 4; k++)
        m[k] = F(splat)((REAL)-INFINITY);
    for (; i + 4 * WIDTH <= n; i += 4 * WIDTH) {
        VECTOR a = F(read)(x + i), b = F(read)(x + i + WIDTH);
        VECTOR c = F(read)(x + i + 2 * WIDTH), d = F(read)(x + i + 3 * WIDTH);
        F(prefetch)(x + i + BLOCK, 4);
        m[0] = F(larger_lanes)(a, m[0]);
        m[1] = F(larger_lanes)(b, m[1]);
        m[2] = F(larger_lanes)(c, m[2]);
        m[3] = F(larger_lanes)(d, m[3]);
        if (or_nan)
            found |= F(any_nan)(a, b) | F(any_nan)(c, d);
    }
    for (int k = 0; i < n; i += WIDTH, k++) {
        VECTOR a = i + WIDTH <= n ? F(read)(x + i) : F(read_tail)(x + i, n - i, (REAL)-INFINITY);
        m[k] = F(larger_lanes)(a, m[k]);
        if (or_nan)
            found |= F(any_nan)(a, a);
    }
    const int vectors = GROUPS < 4 * WIDTH ? GROUPS / WIDTH : 4;
    for (int k = vectors; k < 4; k++)
        m[k % vectors] = F(larger_lanes)(m[k], m[k % vectors]);
    memcpy(groups, m, (size_t)vectors * VECTOR_BYTES);
    for (ptrdiff_t j = vectors * WIDTH; j < GROUPS; j++)
        groups[j] = (REAL)-INFINITY;
    for (int k = 1; k < vectors; k++)
        m[0] = F(larger_lanes)(m[k], m[0]);
    return found ? (REAL)NAN : F(largest_lane)(m[0]);
}

/* max_i x_i, NaN skipped, and the maxima of GROUPS groups that share out the x_i. With or_nan, which costs 15 % where
   the exponentials are summed as well, a NaN is returned if there is one. */
static inline REAL F(group_maxima)(const REAL *x, ptrdiff_t n, REAL *groups, int or_nan)
{
    return or_nan ? F(group_loop)(x, n, groups, 1) : F(group_loop)(x, n, groups, 0);
}

/* A bit for each lane of x that is above the limit: larger, or NaN. */
ALWAYS_INLINE unsigned F(above_lanes)(VECTOR x, VECTOR limit)
{
#if defined(__AVX512F__)
    return MASK(_mm512_cmp)(x, limit, _CMP_NLE_UQ);
#elif defined(__AVX2__)
    return (unsigned)MM(_mm256_movemask)(MM(_mm256_cmp)(x, limit, _CMP_NLE_UQ));
#elif defined(__SSE2__)
    return (unsigned)MM(_mm_movemask)(MM(_mm_cmpnle)(x, limit));
#else
    unsigned bits = 0;
    for (ptrdiff_t i = 0; i < WIDTH; i++)
        bits |= (unsigned)!(x[i] <= limit[i]) << i;
    return bits;
#endif
}

/* How many x_i are above the limit: larger, or NaN. */
static inline ptrdiff_t F(count_above)(const REAL *x, ptrdiff_t n, REAL limit)
{
    VECTOR bound = F(splat)(limit);
    ptrdiff_t count = 0, i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        count += __builtin_popcount(F(above_lanes)(F(read)(x + i), bound));
    if (i < n)
        count += __builtin_popcount(F(above_lanes)(F(read_tail)(x + i, n - i, (REAL)-INFINITY), bound));
    return count;
}

/* For a radix sort from the largest number to the smallest: the digits of a key, of 11 bits each, the lowest first. NaN
   has the first key of all, and zeros of both signs have the same. */
ALWAYS_INLINE ptrdiff_t F(digit)(REAL x, ptrdiff_t place)
{
    const BITS negative = (BITS)1 << (8 * sizeof(REAL) - 1);
    union { REAL real; BITS bits; } key = {.real = x};
    BITS bits = key.bits & negative ? key.bits : ~(negative | key.bits);
    bits = x == 0 ? ~negative : bits;
    bits = x != x ? 0 : bits;
    return (ptrdiff_t)(bits >> 11 * place) & (BUCKETS - 1);
}

ALWAYS_INLINE ptrdiff_t F(places)(const REAL *like) { return (ptrdiff_t)(8 * sizeof *like + 10) / 11; }

/* The first i of [start, n) with x_i above the limit; n if there is none. */
static inline ptrdiff_t F(next_above)(const REAL *x, ptrdiff_t start, ptrdiff_t n, REAL limit)
{
    VECTOR bound = F(splat)(limit);
    ptrdiff_t i = start;
    for (; i + WIDTH <= n; i += WIDTH) {
        unsigned above = F(above_lanes)(F(read)(x + i), bound);
        if (above)
            return i + __builtin_ctz(above);
    }
    if (i < n) {
        unsigned above = F(above_lanes)(F(read_tail)(x + i, n - i, (REAL)-INFINITY), bound);
        if (above)
            return i + __builtin_ctz(above) < n ? i + __builtin_ctz(above) : n;
    }
    return n;
}
