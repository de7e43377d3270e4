/* Functions of one number, for one real type; included by primitives.h, whose macros they stand on. scalars.py holds
   the same names. */

/* Whether x comes before `best` as numpy.argmax has it: larger, or the first NaN. */
ALWAYS_INLINE int F(beats)(REAL x, REAL best) { return (x > best) | ((x != x) & (best == best)); }

ALWAYS_INLINE REAL F(larger)(REAL x, REAL m) { return x > m ? x : m; }

ALWAYS_INLINE REAL F(finite_peak)(REAL peak) { return peak > (REAL)-INFINITY ? peak : 0; }

/* weight * value, 0 for a weight of 0 whatever the value */
ALWAYS_INLINE REAL F(weigh)(REAL weight, REAL value) { return weight == 0 ? 0 : weight * value; }

ALWAYS_INLINE REAL F(below_one)(REAL value) { return value == 1 ? 0 : value; }

/* exp(d) for one number, as vectorisable by the compiler as the loop that calls it */
ALWAYS_INLINE REAL F(exp)(REAL d)
{
    const REAL rate = (REAL)LOG2_E;
    REAL top = (REAL)(2 - LOWEST_EXPONENT) / rate;
    REAL within = d > top ? top : d;
    EXP2(REAL, BITS, within, rate)
    return within < LOWEST_EXPONENT / rate ? 0 : p;
}

ALWAYS_INLINE REAL F(flush)(REAL value) { return (value < 0 ? -value : value) < TINY ? 0 : value; }

/* tanh(u) = (1 - e) / (1 + e) * sign(u) with e = exp(-2 |u|); near 0, where 1 - e cancels, u - u^3/3 + ... */
ALWAYS_INLINE REAL F(tanh)(REAL u)
{
    REAL size = u < 0 ? -u : u, e = F(exp)(-2 * size), z = u * u;
    REAL far = (1 - e) / (1 + e);
    REAL near = F(tanh_near)(size, z);
    REAL value = size < (REAL)0.625 ? near : far;
    return u < 0 ? -value : value;
}

/* 1 - tanh(u)^2 without its cancellation */
ALWAYS_INLINE REAL F(sech2)(REAL u)
{
    REAL size = u < 0 ? -u : u, e = F(exp)(-2 * size);
    return 4 * e / ((1 + e) * (1 + e));
}
