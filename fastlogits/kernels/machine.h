/* The vector machine for C compilers: what the text calls `machine`, for the one type of array that -DSTORED chooses
   and the type it is computed in. GCC and Clang vectors, so one text for AVX-512, AVX2, SSE2 and NEON; intrinsics where
   there is a mask, a fold or a conversion. README.md has the meaning of each operation.

   `stored *` is an array, `real *` is scratch memory; `load` and `save` take both, and convert half types in registers.
   Without STORED there are only the types that records are made of. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define FLOAT32 1
#define FLOAT64 2
#define FLOAT16 3
#define BFLOAT16 4

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* What was saved past the caches comes before what this thread writes from here on. */
static inline void end_streams(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

#if !defined(STORED)
typedef void stored, real;
typedef char lanes;
#else
#include <math.h>
#include <string.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#define VECTOR __attribute__((vector_size(VECTOR_BYTES)))
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define HALVES (STORED == FLOAT16 || STORED == BFLOAT16)

#if STORED == FLOAT64
typedef double real;
typedef uint64_t bits;
#define DOUBLE 1
#define PS(name) name##_pd
#define MASKED(name) name##_pd_mask
#define MANTISSA 52
#define BIAS 0x3ff0000000000000
#define MAGIC 6755399441055744.0
#define LOWEST_EXPONENT -1022.0
#define TINY 2.2250738585072014e-308
#else
typedef float real;
typedef uint32_t bits;
#define DOUBLE 0
#define PS(name) name##_ps
#define MASKED(name) name##_ps_mask
#define MANTISSA 23
#define BIAS 0x3f800000
#define MAGIC 12582912.0
#define LOWEST_EXPONENT -126.0
#define TINY 1.1754943508222875e-38
#endif
typedef real lanes VECTOR;
typedef bits lane_bits VECTOR;
typedef double f64v VECTOR;
typedef float f32v VECTOR;
enum { LANES_OF = VECTOR_BYTES / sizeof(real), SIDE = 16 / sizeof(real) };
#define WIDTH ((ptrdiff_t)LANES_OF)
#define NARROW (VECTOR_BYTES == 16)

#if HALVES
typedef struct { uint16_t bits; } stored;
typedef uint16_t half_lanes __attribute__((vector_size(VECTOR_BYTES / 2)));
#else
typedef real stored;
#endif

/* ---- lanes ---- */

INLINE lanes splat(real value) { return value - (lanes){0}; }

INLINE lanes pick(lane_bits condition, lanes a, lanes b)
{
    return (lanes)((condition & (lane_bits)a) | (~condition & (lane_bits)b));
}

INLINE lanes fma_lanes(lanes a, lanes b, lanes c)
{
#if defined(__AVX512F__)
    return PS(_mm512_fmadd)(a, b, c);
#elif defined(__FMA__)
    return PS(_mm256_fmadd)(a, b, c);
#elif defined(__aarch64__) && DOUBLE
    return (lanes)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#elif defined(__aarch64__)
    return (lanes)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

INLINE lanes larger(lanes x, lanes m)
{
#if defined(__AVX512F__)
    return PS(_mm512_max)(x, m);
#elif defined(__AVX2__)
    return PS(_mm256_max)(x, m);
#elif defined(__SSE2__)
    return PS(_mm_max)(x, m);
#else
    return pick(x > m, x, m);
#endif
}

INLINE lanes magnitude(lanes v) { return (lanes)((lane_bits)v & ~(lane_bits)splat((real)-0.0)); }

INLINE lanes zero_below(lanes d, lanes floor, lanes value)
{
#if defined(__AVX512F__)
    return PS(_mm512_maskz_mov)(MASKED(_mm512_cmp)(d, floor, _CMP_NLT_UQ), value);
#else
    return (lanes)((lane_bits)value & ~(lane_bits)(d < floor));
#endif
}

INLINE lanes zero_where_equal(lanes a, lanes b, lanes value)
{
#if defined(__AVX512F__)
    return PS(_mm512_maskz_mov)(MASKED(_mm512_cmp)(a, b, _CMP_NEQ_UQ), value);
#else
    return (lanes)((lane_bits)value & ~(lane_bits)(a == b));
#endif
}

INLINE lanes zero_nan(lanes v) { return (lanes)((lane_bits)v & (lane_bits)(v == v)); }

INLINE lanes where_larger(lanes x, lanes m, lanes a, lanes b)
{
#if defined(__AVX512F__)
    return PS(_mm512_mask_mov)(b, MASKED(_mm512_cmp)(x, m, _CMP_GT_OQ), a);
#else
    return pick((lane_bits)(x > m), a, b);
#endif
}

INLINE lanes where_above(lanes x, lanes m, lanes a, lanes b)
{
#if defined(__AVX512F__)
    return PS(_mm512_mask_mov)(b, MASKED(_mm512_cmp)(x, m, _CMP_NLE_UQ), a);
#else
    return pick((lane_bits)(x <= m), b, a);
#endif
}

INLINE lanes two_to(lanes shifted) { return (lanes)(((lane_bits)shifted << MANTISSA) + BIAS); }

INLINE lanes copy_sign(lanes size, lanes sign)
{
    return (lanes)((lane_bits)size | ((lane_bits)sign & (lane_bits)splat((real)-0.0)));
}

/* 1 <= u = 2^exponent mantissa, with the mantissa in [sqrt(1/2), sqrt(2)) */
#if DOUBLE
#define SQRT_HALF 0x3fe6a09e667f3bcd
#define INTEGERS 0x4330000000000000 /* 2^52: its low bits count */
#else
#define SQRT_HALF 0x3f3504f3
#define INTEGERS 0x4b000000
#endif

INLINE lanes exponent(lanes u)
{
    lane_bits biased = ((lane_bits)u + (BIAS - SQRT_HALF)) >> MANTISSA;
    const union { bits bits; real real; } zero = {INTEGERS + (bits)(BIAS >> MANTISSA)};
    return (lanes)(biased + INTEGERS) - zero.real;
}

INLINE lanes mantissa(lanes u)
{
    lane_bits within = ((lane_bits)u + (BIAS - SQRT_HALF)) & (((bits)1 << MANTISSA) - 1);
    return (lanes)(within + SQRT_HALF);
}

/* ---- doubles, one at a time, in loops that become vector loops ---- */

INLINE int64_t bits_of(double u)
{
    union { double real; int64_t bits; } v = {u};
    return v.bits;
}

INLINE double double_of(int64_t u)
{
    union { int64_t bits; double real; } v = {u};
    return v.real;
}

INLINE double double_fma(double a, double b, double c)
{
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fma(a, b, c);
#else
    return a * b + c;
#endif
}

INLINE double double_two_to(double shifted)
{
    return double_of((int64_t)(((uint64_t)bits_of(shifted) << 52) + 0x3ff0000000000000));
}

INLINE double double_exponent(double u)
{
    uint64_t biased = ((uint64_t)bits_of(u) + (0x3ff0000000000000 - 0x3fe6a09e667f3bcd)) >> 52;
    return double_of((int64_t)(biased + 0x4330000000000000)) - (0x1p52 + 1023);
}

INLINE double double_mantissa(double u)
{
    uint64_t within = ((uint64_t)bits_of(u) + (0x3ff0000000000000 - 0x3fe6a09e667f3bcd)) & 0x000fffffffffffff;
    return double_of((int64_t)(within + 0x3fe6a09e667f3bcd));
}

/* a0 a2 ... b0 b2 ..., a1 a3 ... b1 b3 ..., and back */
#if VECTOR_BYTES == 64 && !DOUBLE
#define EACH_LANE(f) {f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14), f(15)}
#elif VECTOR_BYTES / (4 + 4 * DOUBLE) == 8
#define EACH_LANE(f) {f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)}
#elif VECTOR_BYTES / (4 + 4 * DOUBLE) == 4
#define EACH_LANE(f) {f(0), f(1), f(2), f(3)}
#else
#define EACH_LANE(f) {f(0), f(1)}
#endif
#define EVEN(i) 2 * (i)
#define ODD(i) 2 * (i) + 1
#define LOW(i) ((i) / 2 + (i) % 2 * LANES_OF)
#define HIGH(i) (LANES_OF / 2 + (i) / 2 + (i) % 2 * LANES_OF)

INLINE lanes shuffled(lanes a, lanes b, lane_bits picks)
{
#if defined(__clang__)
    lanes v;
    for (int i = 0; i < LANES_OF; i++)
        v[i] = picks[i] < LANES_OF ? a[picks[i]] : b[picks[i] - LANES_OF];
    return v;
#else
    return __builtin_shuffle(a, b, picks);
#endif
}

INLINE lanes evens(lanes a, lanes b) { return shuffled(a, b, (lane_bits)EACH_LANE(EVEN)); }
INLINE lanes odds(lanes a, lanes b) { return shuffled(a, b, (lane_bits)EACH_LANE(ODD)); }
INLINE lanes zip_low(lanes a, lanes b) { return shuffled(a, b, (lane_bits)EACH_LANE(LOW)); }
INLINE lanes zip_high(lanes a, lanes b) { return shuffled(a, b, (lane_bits)EACH_LANE(HIGH)); }

/* ---- folds ---- */

enum { F64S = VECTOR_BYTES / sizeof(double) };

/* The lanes of one half of a vector of floats, or all lanes. Not by way of an array, as which GCC would keep v itself. */
INLINE f64v doubles_of(lanes v, int half)
{
#if DOUBLE
    return v;
#elif defined(__AVX512F__)
    return _mm512_cvtps_pd(half ? _mm512_extractf32x8_ps(v, 1) : _mm512_castps512_ps256(v));
#elif defined(__AVX2__)
    return _mm256_cvtps_pd(half ? _mm256_extractf128_ps(v, 1) : _mm256_castps256_ps128(v));
#elif defined(__SSE2__)
    return _mm_cvtps_pd(half ? _mm_movehl_ps(v, v) : (__m128)v);
#else
    return half ? (f64v){v[2], v[3]} : (f64v){v[0], v[1]};
#endif
}

#if DOUBLE
#define PAIRS(v) (v)
#else
#define PAIRS(v) (doubles_of(v, 0) + doubles_of(v, 1))
#endif

INLINE double add_lanes(lanes v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_add_pd(PAIRS(v));
#else
    double a[LANES_OF];
    for (int i = 0; i < LANES_OF; i++)
        a[i] = v[i];
    UNROLL
    for (int half = LANES_OF / 2; half > 0; half /= 2)
        UNROLL
        for (int i = 0; i < half; i++)
            a[i] += a[i + half];
    return a[0];
#endif
}

/* (a + b) - fl(a + b) by Knuth's two-sum, 0 where the sum is infinite or NaN */
INLINE double rounded_away(double a, double b)
{
    double both = a + b, part = both - a;
    double lost = (a - (both - part)) + (b - part);
    return lost == lost ? lost : 0;
}

INLINE double add_lanes_exactly(lanes v)
{
    if (!DOUBLE)
        return add_lanes(v);
    double a[LANES_OF], lost[LANES_OF] = {0};
    for (int i = 0; i < LANES_OF; i++)
        a[i] = v[i];
    UNROLL
    for (int half = LANES_OF / 2; half > 0; half /= 2)
        UNROLL
        for (int i = 0; i < half; i++) {
            lost[i] += lost[i + half] + rounded_away(a[i], a[i + half]);
            a[i] += a[i + half];
        }
    return a[0] + lost[0];
}

/* sums_k = add_lanes_exactly(v_k) of eight vectors. Of floats the rows share the additions: alone, each needs as many. */
INLINE void add_eight(lanes v0, lanes v1, lanes v2, lanes v3, lanes v4, lanes v5, lanes v6, lanes v7, double *sums,
                      ptrdiff_t at)
{
    lanes v[] = {v0, v1, v2, v3, v4, v5, v6, v7};
    sums += at;
#if defined(__AVX512F__) && !DOUBLE
    f64v a[8];
    UNROLL
    for (int k = 0; k < 8; k++)
        a[k] = PAIRS(v[k]);
    UNROLL
    for (int k = 0; k < 4; k++)
        a[k] = _mm512_shuffle_f64x2(a[2 * k], a[2 * k + 1], 0x44) + _mm512_shuffle_f64x2(a[2 * k], a[2 * k + 1], 0xee);
    UNROLL
    for (int k = 0; k < 2; k++)
        a[k] = _mm512_shuffle_f64x2(a[2 * k], a[2 * k + 1], 0x88)
            + _mm512_shuffle_f64x2(a[2 * k], a[2 * k + 1], 0xdd);
    /* The quarters of a_k are rows 4k, 4k + 1, 4k + 2, 4k + 3. */
    f64v low = _mm512_unpacklo_pd(a[0], a[1]), high = _mm512_unpackhi_pd(a[0], a[1]);
    static const int64_t order[] = {0, 2, 4, 6, 1, 3, 5, 7};
    _mm512_storeu_pd(sums, _mm512_permutexvar_pd(_mm512_loadu_si512(order), low + high));
#else
    for (int k = 0; k < 8; k++)
        sums[k] = add_lanes_exactly(v[k]);
#endif
}

INLINE real largest(lanes v)
{
#if defined(__AVX512F__)
    return PS(_mm512_reduce_max)(v);
#else
    real m = v[0];
    UNROLL
    for (int i = 1; i < LANES_OF; i++)
        m = v[i] > m ? v[i] : m;
    return m;
#endif
}

INLINE real lane_of(lanes v) { return v[0]; }

/* A bit for each lane; `simd` is a comparison of the AVX kind, `plain` the same between numbers. */
#if defined(__AVX512F__)
#define LANE_BITS(a, b, simd, plain) return MASKED(_mm512_cmp)(a, b, simd)
#elif defined(__AVX2__)
#define LANE_BITS(a, b, simd, plain) return (unsigned)PS(_mm256_movemask)(PS(_mm256_cmp)(a, b, simd))
#else
#define LANE_BITS(a, b, simd, plain)                                                                                   \
    unsigned found = 0;                                                                                                \
    for (int i = 0; i < LANES_OF; i++)                                                                                 \
        found |= (unsigned)(plain) << i;                                                                               \
    return found
#endif

INLINE unsigned nan_bits(lanes a, lanes b) { LANE_BITS(a, b, _CMP_UNORD_Q, (a[i] != a[i]) | (b[i] != b[i])); }
INLINE unsigned equal_bits(lanes a, lanes b) { LANE_BITS(a, b, _CMP_EQ_OQ, a[i] == b[i]); }
INLINE unsigned above_bits(lanes a, lanes b) { LANE_BITS(a, b, _CMP_NLE_UQ, !(a[i] <= b[i])); }

INLINE ptrdiff_t first_bit(unsigned found) { return found ? __builtin_ctz(found) : WIDTH; }

INLINE int any_nan(lanes a, lanes b) { return nan_bits(a, b) != 0; }
INLINE ptrdiff_t count_above(lanes x, lanes limit) { return __builtin_popcount(above_bits(x, limit)); }
INLINE ptrdiff_t count_equal(lanes a, lanes b) { return __builtin_popcount(equal_bits(a, b)); }
INLINE ptrdiff_t first_equal(lanes a, lanes b) { return first_bit(equal_bits(a, b)); }
INLINE ptrdiff_t first_nan(lanes x) { return first_bit(nan_bits(x, x)); }
INLINE ptrdiff_t first_above(lanes x, lanes limit) { return first_bit(above_bits(x, limit)); }

/* For a radix sort from the largest number to the smallest: the digits of a key, of 11 bits each, the lowest first. NaN
   has the first key of all, and zeros of both signs have the same. */
#define DIGITS ((ptrdiff_t)(8 * sizeof(real) + 10) / 11)

INLINE ptrdiff_t digit_of(real x, ptrdiff_t place)
{
    const bits negative = (bits)1 << (8 * sizeof(real) - 1);
    union { real real; bits bits; } v = {x};
    bits key = v.bits & negative ? v.bits : ~(negative | v.bits);
    key = x == 0 ? ~negative : key;
    key = x != x ? 0 : key;
    return (ptrdiff_t)(key >> 11 * place) & 2047;
}

/* ---- lanes that are added to doubles ---- */

INLINE void add_to(double *sums, ptrdiff_t at, lanes v)
{
    f64v sum;
    UNROLL
    for (int part = 0; part < LANES_OF / F64S; part++) {
        memcpy(&sum, sums + at + part * F64S, sizeof sum);
        sum += doubles_of(v, part);
        memcpy(sums + at + part * F64S, &sum, sizeof sum);
    }
}

INLINE void add_exactly_to(double *sums, double *lost, ptrdiff_t at, lanes v)
{
    f64v a, both, rest, away;
    UNROLL
    for (int part = 0; part < LANES_OF / F64S; part++) {
        f64v b = doubles_of(v, part);
        memcpy(&a, sums + at + part * F64S, sizeof a);
        memcpy(&away, lost + at + part * F64S, sizeof away);
        both = a + b;
        rest = both - a;
        rest = (a - (both - rest)) + (b - rest);
        away += (f64v)((int64_t VECTOR)rest & (rest == rest));
        memcpy(sums + at + part * F64S, &both, sizeof both);
        memcpy(lost + at + part * F64S, &away, sizeof away);
    }
}

/* ---- scratch memory ---- */

INLINE lanes load_real(const real *x, ptrdiff_t at) { lanes v; memcpy(&v, x + at, sizeof v); return v; }
INLINE void save_real(real *x, ptrdiff_t at, lanes v) { memcpy(x + at, &v, sizeof v); }

#if defined(__AVX2__) && !defined(__AVX512F__)
INLINE __m256i first_lanes(ptrdiff_t n)
{
    static const int64_t taken[] = {-1, -1, -1, -1, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)((const char *)(taken + 4) - n * (ptrdiff_t)sizeof(real)));
}
#endif

INLINE lanes keep_first(lanes v, ptrdiff_t n)
{
#if defined(__AVX512F__)
    return PS(_mm512_maskz_mov)((1u << n) - 1, v);
#elif defined(__AVX2__)
    return (lanes)((__m256i)v & first_lanes(n));
#else
    for (int i = 0; i < LANES_OF; i++)
        v[i] = i < n ? v[i] : 0;
    return v;
#endif
}

INLINE lanes load_real_tail(const real *x, ptrdiff_t at, ptrdiff_t n, real padding)
{
#if defined(__AVX512F__)
    return PS(_mm512_mask_loadu)(splat(padding), (1u << n) - 1, x + at);
#elif defined(__AVX2__)
    __m256i mask = first_lanes(n);
    return PS(_mm256_blendv)(splat(padding), PS(_mm256_maskload)(x + at, mask), (lanes)mask);
#else
    real v[LANES_OF];
    for (int i = 0; i < LANES_OF; i++)
        v[i] = i < n ? x[at + i] : padding;
    return load_real(v, 0);
#endif
}

INLINE void save_real_tail(real *x, ptrdiff_t at, ptrdiff_t n, lanes v)
{
#if defined(__AVX512F__)
    PS(_mm512_mask_storeu)(x + at, (1u << n) - 1, v);
#elif defined(__AVX2__)
    PS(_mm256_maskstore)(x + at, first_lanes(n), v);
#else
    for (int i = 0; i < n; i++)
        x[at + i] = v[i];
#endif
}

INLINE void save_real_past(real *y, ptrdiff_t at, lanes v)
{
#if defined(__AVX512F__)
    PS(_mm512_stream)(y + at, v);
#elif defined(__AVX2__)
    PS(_mm256_stream)(y + at, v);
#elif defined(__SSE2__)
    PS(_mm_stream)(y + at, v);
#else
    save_real(y, at, v);
#endif
}

INLINE real real_at(const real *x, ptrdiff_t at) { return x[at]; }

/* ---- arrays of half types ---- */

#if HALVES
INLINE float widened(uint16_t half)
{
#if STORED == BFLOAT16
    union { uint32_t bits; float real; } v = {(uint32_t)half << 16};
    return v.real;
#elif defined(__F16C__)
    return _cvtsh_ss(half);
#else
    union { uint32_t bits; float real; } v = {(uint32_t)(half & 0x7fff) << 13};
    v.real *= 0x1p112f;
    if ((half & 0x7c00) == 0x7c00)
        v.bits = 0x7f800000 | (uint32_t)(half & 0x3ff) << 13;
    v.bits |= (uint32_t)(half & 0x8000) << 16;
    return v.real;
#endif
}

INLINE uint16_t narrowed(float value)
{
    union { float real; uint32_t bits; } v = {value};
#if STORED == BFLOAT16
    uint32_t rounded = (v.bits + 0x7fff + ((v.bits >> 16) & 1)) >> 16;
    return (uint16_t)((v.bits & 0x7fffffff) > 0x7f800000 ? (v.bits >> 16) | 0x40 : rounded);
#elif defined(__F16C__)
    return _cvtss_sh(v.real, _MM_FROUND_TO_NEAREST_INT);
#else
    uint32_t sign = v.bits & 0x80000000, half;
    v.bits ^= sign;
    if (v.bits >= 0x47800000) {
        half = v.bits > 0x7f800000 ? 0x7e00 : 0x7c00;
    } else if (v.bits < 0x38800000) { /* below 2^-14: adding 1/2 aligns and rounds the mantissa */
        union { float real; uint32_t bits; } aligned = {v.real + 0.5f};
        half = aligned.bits - 0x3f000000;
    } else {
        half = (v.bits + 0xfff + ((v.bits >> 13) & 1) - 0x38000000) >> 13;
    }
    return (uint16_t)(half | sign >> 16);
#endif
}

INLINE lanes widen(half_lanes h)
{
#if defined(__AVX512F__) && STORED == BFLOAT16
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16));
#elif defined(__AVX512F__)
    return _mm512_cvtph_ps((__m256i)h);
#elif defined(__AVX2__) && STORED == BFLOAT16
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)h), 16));
#elif defined(__AVX2__)
    return _mm256_cvtph_ps((__m128i)h);
#else
    lanes v;
    for (int i = 0; i < LANES_OF; i++)
        v[i] = widened(h[i]);
    return v;
#endif
}

INLINE half_lanes narrow(lanes v)
{
#if STORED == FLOAT16 && defined(__AVX512F__)
    return (half_lanes)_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
#elif STORED == FLOAT16 && defined(__AVX2__)
    return (half_lanes)_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
#elif STORED == BFLOAT16 && defined(__AVX512BF16__)
    return (half_lanes)_mm512_cvtneps_pbh(v);
#elif STORED == BFLOAT16 && VECTOR_BYTES > 16
    lane_bits b = (lane_bits)v, nan = v != v;
    b = (((b + 0x7fff + ((b >> 16) & 1)) & ~nan) | ((b | 0x400000) & nan)) >> 16;
#if defined(__AVX512F__)
    return (half_lanes)_mm512_cvtepi32_epi16((__m512i)b);
#else
    __m256i packed = _mm256_packus_epi32((__m256i)(b & 0xffff), _mm256_setzero_si256());
    return (half_lanes)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
#endif
#else
    half_lanes h;
    for (int i = 0; i < LANES_OF; i++)
        h[i] = narrowed(v[i]);
    return h;
#endif
}

INLINE lanes load_stored(const stored *x, ptrdiff_t at)
{
    half_lanes h;
    memcpy(&h, x + at, sizeof h);
    return widen(h);
}

INLINE void save_stored(stored *y, ptrdiff_t at, lanes v)
{
    half_lanes h = narrow(v);
    memcpy(y + at, &h, sizeof h);
}

INLINE lanes load_stored_tail(const stored *x, ptrdiff_t at, ptrdiff_t n, real padding)
{
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    lanes v = widen((half_lanes)_mm256_maskz_loadu_epi16((1u << n) - 1, x + at));
    return _mm512_mask_blend_ps((1u << n) - 1, splat(padding), v);
#else
    real v[LANES_OF];
    for (int i = 0; i < LANES_OF; i++)
        v[i] = i < n ? widened(x[at + i].bits) : padding;
    return load_real(v, 0);
#endif
}

INLINE void save_stored_tail(stored *y, ptrdiff_t at, ptrdiff_t n, lanes v)
{
    half_lanes h = narrow(v);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    _mm256_mask_storeu_epi16(y + at, (1u << n) - 1, (__m256i)h);
#else
    for (int i = 0; i < n; i++)
        y[at + i].bits = h[i];
#endif
}

INLINE void save_stored_past(stored *y, ptrdiff_t at, lanes v)
{
#if defined(__AVX512F__)
    _mm256_stream_si256((__m256i *)(y + at), (__m256i)narrow(v));
#elif defined(__AVX2__)
    _mm_stream_si128((__m128i *)(y + at), (__m128i)narrow(v));
#else
    save_stored(y, at, v);
#endif
}

INLINE real stored_at(const stored *x, ptrdiff_t at) { return widened(x[at].bits); }
INLINE void put_stored(stored *y, ptrdiff_t at, real value) { y[at].bits = narrowed(value); }
INLINE void put_real(real *y, ptrdiff_t at, real value) { y[at] = value; }

#define OF(x, name) _Generic((x), real *: name##_real, stored *: name##_stored)
#define OF_TAIL(x, name) _Generic((x), real *: name##_real_tail, stored *: name##_stored_tail)
#define load(x, at) OF(x, load)(x, at)
#define load_tail(x, at, n, padding) OF_TAIL(x, load)(x, at, n, padding)
#define save(y, at, v) OF(y, save)(y, at, v)
#define save_tail(y, at, n, v) OF_TAIL(y, save)(y, at, n, v)
#define save_past(y, at, v) _Generic((y), real *: save_real_past, stored *: save_stored_past)(y, at, v)
#define number(x, at) _Generic((x), real *: real_at, stored *: stored_at)(x, at)
#define put(y, at, value) OF(y, put)(y, at, value)
#else
#define load load_real
#define load_tail load_real_tail
#define save save_real
#define save_tail save_real_tail
#define save_past save_real_past
#define number real_at
#define put(y, at, value) ((y)[at] = (value))
#endif

/* ---- memory ---- */

#define stretch(x, at) ((x) + (at))
#define stretch_real(x, at) ((x) + (at))
#define prefetch(x, at) __builtin_prefetch((x) + (at))
#define prefetch_four(x, at) prefetch_lines((const char *)((x) + (at)), 4 * LANES_OF * (int)sizeof *(x))
#define until_line(y, at) ((ptrdiff_t)((-(uintptr_t)((y) + (at)) & 63) / sizeof *(y)))
#define is_scratch(x) _Generic((x), real *: 1, default: 0)
#define in_place(x) ((real *)(x))
#define some_lanes(n) ((lanes *)__builtin_alloca_with_align((n) * sizeof(lanes), 8 * sizeof(lanes)))
#define cast(value) ((real)(value))
#define whole(value) ((ptrdiff_t)(value))

INLINE void prefetch_lines(const char *x, int bytes)
{
    for (int byte = 0; byte < bytes; byte += 64)
        __builtin_prefetch(x + byte);
}


/* ---- squares ----
   A quarter is 16 bytes of scratch memory, SIDE numbers of one row. A vector holds quarters of rows that lie SIDE rows
   apart; transposed, SIDE such vectors hold one column each, of WIDTH rows. */
#if defined(__SSE2__)
#define SQUARES 1
#if defined(__AVX512F__)
#define SIMD(name, type) _mm512_##name##_##type
#elif defined(__AVX2__)
#define SIMD(name, type) _mm256_##name##_##type
#else
#define SIMD(name, type) _mm_##name##_##type
#endif

INLINE f32v joined(__m128 *q)
{
#if defined(__AVX512F__)
    f32v v = _mm512_mask_broadcast_f32x4(_mm512_castps128_ps512(q[0]), 0x00f0, q[1]);
    return _mm512_mask_broadcast_f32x4(_mm512_mask_broadcast_f32x4(v, 0x0f00, q[2]), 0xf000, q[3]);
#elif defined(__AVX2__)
    return _mm256_set_m128(q[1], q[0]);
#else
    return q[0];
#endif
}

INLINE void parted_real(f32v v, __m128 *q)
{
#if defined(__AVX512F__)
    q[0] = _mm512_castps512_ps128(v);
    q[1] = _mm512_extractf32x4_ps(v, 1);
    q[2] = _mm512_extractf32x4_ps(v, 2);
    q[3] = _mm512_extractf32x4_ps(v, 3);
#elif defined(__AVX2__)
    q[0] = _mm256_castps256_ps128(v);
    q[1] = _mm256_extractf128_ps(v, 1);
#else
    q[0] = v;
#endif
}

INLINE void transpose_pairs(f32v *v)
{
    f64v a = (f64v)v[0], b = (f64v)v[1];
    v[0] = (f32v)SIMD(unpacklo, pd)(a, b);
    v[1] = (f32v)SIMD(unpackhi, pd)(a, b);
}

INLINE void transpose(f32v *v)
{
    if (DOUBLE) {
        transpose_pairs(v);
        return;
    }
    f32v a[2] = {SIMD(unpacklo, ps)(v[0], v[1]), SIMD(unpacklo, ps)(v[2], v[3])};
    f32v b[2] = {SIMD(unpackhi, ps)(v[0], v[1]), SIMD(unpackhi, ps)(v[2], v[3])};
    transpose_pairs(a);
    transpose_pairs(b);
    v[0] = a[0];
    v[1] = a[1];
    v[2] = b[0];
    v[3] = b[1];
}

INLINE __m128 quarter_real(const real *x) { return _mm_loadu_ps((const float *)x); }
typedef __m128 quarter_of_real;

#if HALVES
typedef uint64_t quarter_of_stored;

INLINE __m128 quarter_stored(const stored *x)
{
#if STORED == BFLOAT16
    return (__m128)_mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64((const __m128i *)x));
#elif defined(__F16C__)
    return _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)x));
#else
    return (__m128){widened(x[0].bits), widened(x[1].bits), widened(x[2].bits), widened(x[3].bits)};
#endif
}

INLINE void parted_stored(f32v v, uint64_t *q)
{
    half_lanes h = narrow((lanes)v);
    memcpy(q, &h, sizeof h);
}
#endif

/* to_cj = x_jc of WIDTH rows that lie `stride` apart and SIDE classes, which come to lie `step` apart; and back. */
#define SQUARES_OF(type)                                                                                               \
    INLINE void square_to_lanes_##type(const type *x, ptrdiff_t stride, real *to, ptrdiff_t step)                      \
    {                                                                                                                  \
        f32v v[4];                                                                                                     \
        for (ptrdiff_t i = 0; i < SIDE; i++) {                                                                         \
            __m128 q[VECTOR_BYTES / 16];                                                                               \
            for (ptrdiff_t k = 0; k < VECTOR_BYTES / 16; k++)                                                          \
                q[k] = quarter_##type(x + (i + k * SIDE) * stride);                                                    \
            v[i] = joined(q);                                                                                          \
        }                                                                                                              \
        transpose(v);                                                                                                  \
        for (ptrdiff_t i = 0; i < SIDE; i++)                                                                           \
            memcpy(to + i * step, v + i, sizeof *v);                                                                   \
    }                                                                                                                  \
    INLINE void square_to_rows_##type(const real *x, ptrdiff_t step, type *to, ptrdiff_t stride)                       \
    {                                                                                                                  \
        f32v v[4];                                                                                                     \
        for (ptrdiff_t i = 0; i < SIDE; i++)                                                                           \
            memcpy(v + i, x + i * step, sizeof *v);                                                                    \
        transpose(v);                                                                                                  \
        for (ptrdiff_t i = 0; i < SIDE; i++) {                                                                         \
            quarter_of_##type q[VECTOR_BYTES / 16];                                                                    \
            parted_##type(v[i], q);                                                                                    \
            for (ptrdiff_t k = 0; k < VECTOR_BYTES / 16; k++)                                                          \
                memcpy(to + (i + k * SIDE) * stride, q + k, sizeof *q);                                                \
        }                                                                                                              \
    }
#else
#define SQUARES 0
#define SQUARES_OF(type)                                                                                               \
    INLINE void square_to_lanes_##type(const type *x, ptrdiff_t stride, real *to, ptrdiff_t step)                      \
    {                                                                                                                  \
        (void)x, (void)stride, (void)to, (void)step;                                                                   \
    }                                                                                                                  \
    INLINE void square_to_rows_##type(const real *x, ptrdiff_t step, type *to, ptrdiff_t stride)                       \
    {                                                                                                                  \
        (void)x, (void)step, (void)to, (void)stride;                                                                   \
    }
#endif
SQUARES_OF(real)
#if HALVES
SQUARES_OF(stored)
#define square_to_lanes(x, at, stride, to, to_at, step)                                                                \
    OF(x, square_to_lanes)((x) + (at), stride, (to) + (to_at), step)
#define square_to_rows(x, at, step, to, to_at, stride) OF(to, square_to_rows)((x) + (at), step, (to) + (to_at), stride)
#else
#define square_to_lanes(x, at, stride, to, to_at, step) square_to_lanes_real((x) + (at), stride, (to) + (to_at), step)
#define square_to_rows(x, at, step, to, to_at, stride) square_to_rows_real((x) + (at), step, (to) + (to_at), stride)
#endif
#endif
