/* The primitives that compute one number for each of a stretch; included by primitives.h after stretch.h, whose macros
   end here. */

/* out_i = rate * (x_i - shift) - offset; out may be x, which keeps a loop in the text from becoming vector code: by way of
   a buffer log_softmax of 4096 x 1000 took 530 us, and takes 470. */
static inline void F(shift_each)(const REAL *x, ptrdiff_t n, REAL rate, REAL shift, REAL offset, REAL *out)
{
#pragma GCC ivdep
    for (ptrdiff_t i = 0; i < n; i++)
        out[i] = rate * (x[i] - shift) - offset;
}

/* 0 for what is smaller than the smallest normal number. */
ALWAYS_INLINE VECTOR F(flush_lanes)(VECTOR v)
{
    VECTOR size = (VECTOR)((VECTOR_BITS)v & ~(VECTOR_BITS)F(splat)((REAL)-0.0));
    return F(zero_below)(size, F(splat)(TINY), v);
}

/* out_i = factor * x_i, 0 below the smallest normal number; out may be x */
static inline void F(scale_each)(const REAL *x, ptrdiff_t n, REAL by, REAL *out)
{
    VECTOR factor = F(splat)(by);
    ptrdiff_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        VECTOR v = F(flush_lanes)(factor * F(read)(x + i));
        memcpy(out + i, &v, sizeof v);
    }
    if (i < n)
        F(write_tail)(out + i, n - i, F(flush_lanes)(factor * F(read_tail)(x + i, n - i, 0)));
}

/* out_i = exp(scale * (x_i - shift_i)); out may be x */
static inline void F(exp_each)(const REAL *x, const REAL *shift, ptrdiff_t n, double scale, REAL *out)
{
    const double log2_e = 1.4426950408889634;
    VECTOR rate = F(splat)((REAL)(scale * log2_e)), floor = F(splat)(F(lowest)(scale));
    ptrdiff_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        VECTOR e = F(exp_lanes)(F(read)(x + i) - F(read)(shift + i), rate, floor);
        memcpy(out + i, &e, sizeof e);
    }
    if (i < n) {
        VECTOR d = F(read_tail)(x + i, n - i, (REAL)-INFINITY) - F(read_tail)(shift + i, n - i, 0);
        F(write_tail)(out + i, n - i, F(exp_lanes)(d, rate, floor));
    }
}

/* out_i = p_i (g_i - total), 0 below the smallest normal number; out may be g or p */
static inline void F(softmax_slope)(const REAL *g, const REAL *p, ptrdiff_t n, REAL total, REAL *out)
{
    VECTOR less = F(splat)(total);
    ptrdiff_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        VECTOR v = F(flush_lanes)(F(read)(p + i) * (F(read)(g + i) - less));
        memcpy(out + i, &v, sizeof v);
    }
    if (i < n) {
        VECTOR v = F(read_tail)(p + i, n - i, 0) * (F(read_tail)(g + i, n - i, 0) - less);
        F(write_tail)(out + i, n - i, F(flush_lanes)(v));
    }
}

/* out_i = g_i - exp(log_p_i) total; out may be g or log_p */
static inline void F(log_softmax_slope)(const REAL *g, const REAL *log_p, ptrdiff_t n, REAL total, REAL *out)
{
    const REAL log2_e = (REAL)1.4426950408889634;
    VECTOR times = F(splat)(total), rate = F(splat)(log2_e), floor = F(splat)(LOWEST_EXPONENT / log2_e);
    VECTOR top = F(splat)((2 - LOWEST_EXPONENT) / log2_e);
    for (ptrdiff_t i = 0; i < n; i += WIDTH) {
        ptrdiff_t left = n - i;
        VECTOR d = left >= WIDTH ? F(read)(log_p + i) : F(read_tail)(log_p + i, left, 0);
        VECTOR v = left >= WIDTH ? F(read)(g + i) : F(read_tail)(g + i, left, 0);
        v -= times * F(exp_lanes)(-F(larger_lanes)(-top, -d), rate, floor);
        if (left >= WIDTH)
            memcpy(out + i, &v, sizeof v);
        else
            F(write_tail)(out + i, left, v);
    }
}

#undef WIDTH
#undef RUN
#undef REAL
#undef BITS
#undef VECTOR
#undef VECTOR_BITS
#undef F
#undef EXP2
#undef MM
#undef MASK
#undef PAIRS
#undef TINY
#undef LOWEST_EXPONENT
