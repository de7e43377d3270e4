/* The primitives that compute one number for each of a stretch; included by primitives.h after reductions.h, whose
   macros end here. */

/* out_i = rate * (x_i - shift) - offset; out may be x, which keeps a loop in the text from becoming vector code: by way
   of a buffer log_softmax of 4096 x 1000 took 530 us, and takes 470. */
static inline void F(shift_each)(const REAL *x, ptrdiff_t n, REAL rate, REAL shift, REAL offset, REAL *out)
{
#pragma GCC ivdep
    for (ptrdiff_t i = 0; i < n; i++)
        out[i] = rate * (x[i] - shift) - offset;
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
    VECTOR rate = F(splat)((REAL)(scale * LOG2_E)), floor = F(splat)(F(lowest)(scale));
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

/* out_i = the slope of g_i and p_i, of log-softmax if `log`; out may be g or p */
ALWAYS_INLINE void F(slope_loop)(const REAL *g, const REAL *p, ptrdiff_t n, VECTOR total, REAL *out, int log)
{
    ptrdiff_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        VECTOR a = F(read)(g + i), b = F(read)(p + i);
        VECTOR v = log ? F(log_softmax_slope_lanes)(a, b, total) : F(softmax_slope_lanes)(a, b, total);
        memcpy(out + i, &v, sizeof v);
    }
    if (i < n) {
        VECTOR a = F(read_tail)(g + i, n - i, 0), b = F(read_tail)(p + i, n - i, 0);
        F(write_tail)(out + i, n - i,
                      log ? F(log_softmax_slope_lanes)(a, b, total) : F(softmax_slope_lanes)(a, b, total));
    }
}

static inline void F(softmax_slope)(const REAL *g, const REAL *p, ptrdiff_t n, REAL total, REAL *out)
{
    F(slope_loop)(g, p, n, F(splat)(total), out, 0);
}

static inline void F(log_softmax_slope)(const REAL *g, const REAL *log_p, ptrdiff_t n, REAL total, REAL *out)
{
    F(slope_loop)(g, log_p, n, F(splat)(total), out, 1);
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
