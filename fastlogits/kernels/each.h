/* The primitives that compute one number for each of a stretch; included by primitives.h after reductions.h, whose
   macros end here. */

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

#undef WIDTH
#undef RUN
#undef REAL
#undef BITS
#undef VECTOR
#undef VECTOR_BITS
#undef VECTOR_WORDS
#undef F
#undef EXP2
#undef MM
#undef MASK
#undef PAIRS
#undef TINY
#undef LOWEST_EXPONENT
