/* The primitives of the kernel text for C compilers; primitives.py holds the same names for Numba and the interpreter.

   Reductions use the vector types of GCC and Clang, one text for every instruction set, because a plain loop needs
   -fassociative-math to become a vector sum and that flag reorders the formulas of the text as well. */
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* A stretch of a row handled at once, scratch stretches (slots) per thread, columns side by side, short rows likewise;
   rows of one block that take each step together; terms that a lane adds before its sum goes to a double; groups of a
   block whose maxima are kept. */
enum { BLOCK = 1024, SLOTS = 29, LANES = 256, SHORT = 128, ROWS = 16, TERMS = 16, GROUPS = 16 };

/* Scratch slots of the columns; the slots below hold what is loaded or about to be stored. */
enum {
    PEAKS = 6, SHIFTS, SUMS, SQUARES, FACTORS, COUNTERS, TILE, OTHER_TILE = TILE + 4, CHUNK = OTHER_TILE + 4,
    MASS_TILE = CHUNK + 4
};

/* Fields of `state`, in double: a field of row or lane j is state[FIELD + j]; those of a row's blocks come after. The
   distances are constants so that a loop over j that reads some fields and writes others becomes vector code; and not a
   multiple of 4096 bytes, at which a load waits for an unrelated store. */
enum {
    FIELD = LANES + 40,
    PEAK = 0 * FIELD, REST = 1 * FIELD, TIED = 2 * FIELD, LOG_NORM = 3 * FIELD, PICKED = 4 * FIELD, SLOPE = 5 * FIELD,
    MASS = 6 * FIELD, GAP = 7 * FIELD, SCALE = 8 * FIELD, HARD = 9 * FIELD, SMOOTH = 10 * FIELD, FACTOR = 11 * FIELD,
    COUNTER = 12 * FIELD, TARGET = 13 * FIELD, LOST = 14 * FIELD, ROW_FIELDS = 15 * FIELD
};
enum { BLOCK_PEAK, BLOCK_SUM, BLOCK_GAP, BLOCK_MASS, BLOCK_SQUARE, BLOCK_FIELDS, BLOCK_SPREAD = BLOCK_MASS };
enum { MOST_BLOCKS = 256, STATE = ROW_FIELDS + MOST_BLOCKS * BLOCK_FIELDS };

/* The parts of the scratch memory of the filters; what `select` found; the rules of a row; which of equal keys stay. */
enum {
    SURVIVOR, SURVIVOR_MASS, SURVIVOR_ID, KEY, NARROWED, NARROWED_MASS, SPAN_PEAK, HISTOGRAM, FOUND, SECTIONS
};
enum { BEFORE, ONE };
/* What the scratch memory of the filters begins with; room for survivors that it has at least, if there may be more. */
enum { ROOM, NEEDED, FIRST_SECTION = 8, NO_ROOM = -2, MOST_ROOM = 1 << 20 };
enum { TEMPERATURE, TOP_K, TOP_P, MIN_P, TYPICAL_P, EPSILON, ETA, MIN_KEEP, RULES };
enum { ALL_TIES, FIRST_TIES, LAST_TIES };
enum { SPAN = 256, BUCKETS = 2048 };
#define LOWEST -1.7976931348623157e308
#define NEAR 0x1p-42
#define LOG2_E 1.4426950408889634

/* Of Philox, which is made of 32-bit words. */
#define WORD 0xffffffffLL
#define MULTIPLIER_0 0xd2511f53LL
#define MULTIPLIER_1 0xcd9e8d57LL
#define WEYL_0 0x9e3779b9LL
#define WEYL_1 0xbb67ae85LL

/* How the numbers of an array are stored. The half types travel as pointers to their computing type, float. With
   STREAMED added, results go past the caches, which they would not fit. */
enum { NATIVE = 0, FLOAT16 = 1, BFLOAT16 = 2, STREAMED = 4 };

/* What becomes of the exponentials of a sum: where they are kept, KEEP_PADDED has room for whole vectors. */
enum { DISCARD = 0, KEEP = 1, KEEP_PADDED = 2 };

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

typedef float f32v __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t i32v __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t u32v __attribute__((vector_size(VECTOR_BYTES)));
typedef double f64v __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t i64v __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t u64v __attribute__((vector_size(VECTOR_BYTES)));

/* A product as it rounds: not fused with the sum that it goes to. */
#if defined(__x86_64__)
#define ROUNDED(v) __asm__("" : "+v"(v))
#elif defined(__aarch64__)
#define ROUNDED(v) __asm__("" : "+w"(v))
#else
#define ROUNDED(v) (void)(v)
#endif

#include "squares.h"

/* 2^t for t = d * rate, d <= 0, exactly 0 below the smallest normal number: 2^(t - n) by a minimax polynomial whose
   error (0.02 eps for float, 0.08 for double) is far below the rounding, n added to the exponent. Adding 1.5 * 2^23
   rounds to the nearest integer and leaves it in the low bits. Written once for scalars and vectors; the integers I are
   unsigned, since those of a d that comes to 0, or to NaN, overflow. */
#define EXP2_BODY(T, I, d, rate, MAGIC, BIAS, SHIFT, POLYNOMIAL)                                                       \
    T shifted = d * rate + MAGIC;                                                                                      \
    T whole = shifted - MAGIC;                                                                                         \
    T f = d * rate - whole;                                                                                            \
    T p = POLYNOMIAL;                                                                                                  \
    union { T real; I bits; } power = {.real = shifted};                                                               \
    power.bits = (I)((power.bits << SHIFT) + BIAS);                                                                    \
    p *= power.real;

#define EXP2_F32                                                                                                       \
    1.0f + f * (0.6931472149680279f + f * (0.24022652782887738f + f * (0.05550310551013797f + f * (                    \
    0.009617692972993062f + f * (0.0013406643902351759f + f * 0.0001559467816132662f)))))
#define EXP2_F64                                                                                                       \
    1.0 + f * (0.69314718055994569675 + f * (0.24022650695910098007 + f * (0.055504108664790394552 + f * (             \
    0.0096181291076070023796 + f * (0.0013333558153439964747 + f * (0.0001540353044157213033 + f * (                   \
    0.000015252727385193868197 + f * (1.3215442675329822143e-6 + f * (1.0180647659234138888e-7 + f * (                 \
    7.0725704128144235096e-9 + f * 4.0780719295883366627e-10))))))))))

/* (a + b) - fl(a + b) by Knuth's two-sum, 0 where the sum is infinite or NaN: thousands of float64 terms would round
   away more than the error allowed. */
ALWAYS_INLINE double rounded_away(double a, double b)
{
    double both = a + b, part = both - a;
    double lost = (a - (both - part)) + (b - part);
    return lost == lost ? lost : 0;
}

/* value >= 0, rounded down */
ALWAYS_INLINE ptrdiff_t whole(double value) { return (ptrdiff_t)value; }

/* tanh(u) for 0 <= u < 0.625, z = u^2, after Cephes */
ALWAYS_INLINE float __pyx_fuse_0tanh_near(float u, float z)
{
    return u + u * z * (-3.33332819422e-1f + z * (1.33314422036e-1f + z * (-5.37397155531e-2f + z * (
        2.06390887954e-2f - z * 5.70498872745e-3f))));
}

ALWAYS_INLINE double __pyx_fuse_1tanh_near(double u, double z)
{
    double p = -1.61468768441708447952e3 + z * (-9.92877231001918586564e1 - z * 9.64399179425052238628e-1);
    double q = 4.84406305325125486048e3 + z * (2.23548839060100448583e3 + z * (1.12811678491632931402e2 + z));
    return u + u * z * (p / q);
}

#define REAL float
#define BITS uint32_t
#define VECTOR f32v
#define VECTOR_BITS i32v
#define VECTOR_WORDS u32v
#define F(name) __pyx_fuse_0##name
#define EXP2(T, I, d, rate) EXP2_BODY(T, I, d, rate, 12582912.0f, 0x3f800000, 23, EXP2_F32)
#define MM(name) name##_ps
#define MASK(name) name##_ps_mask
#define PAIRS(v) (_mm512_cvtps_pd(_mm512_castps512_ps256(v)) + _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)))
#define TINY 1.17549435e-38f
#define LOWEST_EXPONENT -126.0f
#include "scalars.h"
#include "vectors.h"
#include "reductions.h"
#include "rows.h"
#include "tiles.h"
#include "order.h"
#include "each.h"

#define REAL double
#define BITS uint64_t
#define VECTOR f64v
#define VECTOR_BITS i64v
#define VECTOR_WORDS u64v
#define F(name) __pyx_fuse_1##name
#define EXP2(T, I, d, rate) EXP2_BODY(T, I, d, rate, 6755399441055744.0, 0x3ff0000000000000, 52, EXP2_F64)
#define MM(name) name##_pd
#define MASK(name) name##_pd_mask
#define PAIRS(v) (v)
#define TINY 2.2250738585072014e-308
#define LOWEST_EXPONENT -1022.0
#include "scalars.h"
#include "vectors.h"
#include "reductions.h"
#include "rows.h"
#include "tiles.h"
#include "order.h"
#include "each.h"

/* log(1 + x) for x >= 0, after FreeBSD's log1p: 1 + x = 2^k * (1 + f), and what 1 + x rounded away comes back as
   (x - (u - 1)) / u. Branch-free, so that the loops that call it become vector loops. */
ALWAYS_INLINE float __pyx_fuse_0log1p(float x)
{
    float u = 1.0f + x;
    union { float real; uint32_t bits; } mantissa = {.real = u};
    uint32_t bits = mantissa.bits + (0x3f800000 - 0x3f3504f3);
    float k = (float)((int32_t)(bits >> 23) - 127);
    mantissa.bits = (bits & 0x007fffff) + 0x3f3504f3;
    float f = mantissa.real - 1.0f, s = f / (2.0f + f), z = s * s, half = 0.5f * f * f;
    float r = z * (0.66666663f + z * (0.40000972152f + z * (0.28498786688f + z * 0.24279078841f)));
    return s * (half + r) + (k * 9.0580006145e-06f + (x - (u - 1.0f)) / u) - half + f + k * 6.9313812256e-01f;
}

ALWAYS_INLINE double __pyx_fuse_1log1p(double x)
{
    double u = 1.0 + x;
    union { double real; uint64_t bits; } mantissa = {.real = u};
    uint64_t bits = mantissa.bits + (0x3ff0000000000000 - 0x3fe6a09e667f3bcd);
    double k = (double)((int32_t)(bits >> 52) - 1023);
    mantissa.bits = (bits & 0x000fffffffffffff) + 0x3fe6a09e667f3bcd;
    double f = mantissa.real - 1.0, s = f / (2.0 + f), z = s * s, half = 0.5 * f * f;
    double r = z * (6.666666666666735130e-01 + z * (3.999999999940941908e-01 + z * (2.857142874366239149e-01 + z * (
        2.222219843214978396e-01 + z * (1.818357216161805012e-01 + z * (1.531383769920937332e-01 +
        z * 1.479819860511658591e-01))))));
    return s * (half + r) + (k * 1.90821492927058770002e-10 + (x - (u - 1.0)) / u) - half + f
        + k * 6.93147180369123816490e-01;
}

#include "storage.h"
