/* How the numbers of an array are stored: between the memory of arrays and scratch memory; included by primitives.h. */

ALWAYS_INLINE float float16_to_float(uint16_t half)
{
#if defined(__F16C__)
    return _cvtsh_ss(half);
#else
    union { uint32_t bits; float real; } value = {.bits = (uint32_t)(half & 0x7fff) << 13};
    value.real *= 0x1p112f;
    if ((half & 0x7c00) == 0x7c00)
        value.bits = 0x7f800000 | (uint32_t)(half & 0x3ff) << 13;
    value.bits |= (uint32_t)(half & 0x8000) << 16;
    return value.real;
#endif
}

ALWAYS_INLINE uint16_t float_to_float16(float real)
{
#if defined(__F16C__)
    return _cvtss_sh(real, _MM_FROUND_TO_NEAREST_INT);
#else
    union { float real; uint32_t bits; } value = {.real = real}, magic;
    uint32_t sign = value.bits & 0x80000000;
    value.bits ^= sign;
    uint32_t half;
    if (value.bits >= 0x47800000) {
        half = value.bits > 0x7f800000 ? 0x7e00 : 0x7c00;
    } else if (value.bits < 0x38800000) { /* below 2^-14: adding 1/2 aligns and rounds the mantissa */
        magic.real = value.real + 0.5f;
        half = magic.bits - 0x3f000000;
    } else {
        half = (value.bits + 0xfff + ((value.bits >> 13) & 1) - 0x38000000) >> 13;
    }
    return (uint16_t)(half | sign >> 16);
#endif
}

ALWAYS_INLINE float bfloat16_to_float(uint16_t half)
{
    union { uint32_t bits; float real; } value = {.bits = (uint32_t)half << 16};
    return value.real;
}

ALWAYS_INLINE uint16_t float_to_bfloat16(float real)
{
    union { float real; uint32_t bits; } value = {.real = real};
    uint32_t rounded = (value.bits + 0x7fff + ((value.bits >> 16) & 1)) >> 16;
    uint32_t quiet_nan = (value.bits >> 16) | 0x40;
    return (uint16_t)((value.bits & 0x7fffffff) > 0x7f800000 ? quiet_nan : rounded);
}

ALWAYS_INLINE void widen_some(const uint16_t *half, ptrdiff_t n, float *real, int storage)
{
    ptrdiff_t i = 0;
#if defined(__AVX512F__)
    for (; i + 16 <= n; i += 16) {
        __m256i v = _mm256_loadu_si256((const void *)(half + i));
        __m512 bfloat16 = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
        _mm512_storeu_ps(real + i, storage & BFLOAT16 ? bfloat16 : _mm512_cvtph_ps(v));
    }
#elif defined(__AVX2__) && defined(__F16C__)
    for (; i + 8 <= n; i += 8) {
        __m128i v = _mm_loadu_si128((const void *)(half + i));
        __m256 bfloat16 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
        _mm256_storeu_ps(real + i, storage & BFLOAT16 ? bfloat16 : _mm256_cvtph_ps(v));
    }
#endif
    for (; i < n; i++)
        real[i] = storage & BFLOAT16 ? bfloat16_to_float(half[i]) : float16_to_float(half[i]);
}

/* Each line asks for the one 4 KB ahead, see `prefetch`: softmax of 256 x 32000 takes 1.55 ms on two threads so, and
   2.25 without. */
ALWAYS_INLINE void widen_lines(const uint16_t *half, ptrdiff_t n, float *real, int storage)
{
    ptrdiff_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __builtin_prefetch(half + i + 2048);
        widen_some(half + i, 32, real + i, storage);
    }
    widen_some(half + i, n - i, real + i, storage);
}

static inline void widen(const uint16_t *half, ptrdiff_t n, float *real, int storage)
{
    if (storage & BFLOAT16)
        widen_lines(half, n, real, BFLOAT16);
    else
        widen_lines(half, n, real, FLOAT16);
}

static inline void narrow(const float *restrict real, ptrdiff_t n, uint16_t *restrict half, int storage)
{
    ptrdiff_t i = 0;
    if (storage & BFLOAT16) {
        for (; i < n; i++)
            half[i] = float_to_bfloat16(real[i]);
        return;
    }
#if defined(__AVX512F__)
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((void *)(half + i), _mm512_cvtps_ph(_mm512_loadu_ps(real + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((void *)(half + i), _mm256_cvtps_ph(_mm256_loadu_ps(real + i), _MM_FROUND_TO_NEAREST_INT));
#endif
    for (; i < n; i++)
        half[i] = float_to_float16(real[i]);
}

/* A copy that does not read the cache lines it fills: on two threads log_softmax of 256 x 128256 takes 6.9 ms, and 8.8
   through the caches. */
static inline void stream(void *to, const void *from, size_t bytes)
{
#if defined(__SSE2__)
    char *out = to;
    const char *in = from;
    size_t head = -(uintptr_t)out & 63;
    if (bytes >= head + 64) {
        memcpy(out, in, head);
        for (; head + 64 <= bytes; head += 64)
            for (int i = 0; i < 64; i += VECTOR_BYTES) {
                f32v v;
                memcpy(&v, in + head + i, sizeof v);
                SIMD(stream, ps)((float *)(out + head + i), v);
            }
        memcpy(out + head, in + head, bytes - head);
        return;
    }
#endif
    memcpy(to, from, bytes);
}

/* What was streamed comes before what this thread writes from here on. */
ALWAYS_INLINE void end_streams(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

/* Whether numbers can be read where they lie. */
ALWAYS_INLINE int readable(int storage) { return !(storage & (FLOAT16 | BFLOAT16)); }

ALWAYS_INLINE float *__pyx_fuse_0load(float *x, ptrdiff_t at, ptrdiff_t n, float *buffer, int storage)
{
    if (readable(storage))
        return x + at;
    widen((const uint16_t *)x + at, n, buffer, storage);
    return buffer;
}

ALWAYS_INLINE void __pyx_fuse_0store(float *y, ptrdiff_t at, ptrdiff_t n, float *values, int storage)
{
    if (storage == STREAMED)
        stream(y + at, values, (size_t)n * sizeof *y);
    else if (storage & STREAMED)
        for (ptrdiff_t i = 0; i < n; i += BLOCK) {
            uint16_t halves[BLOCK];
            ptrdiff_t size = n - i < BLOCK ? n - i : BLOCK;
            narrow(values + i, size, halves, storage);
            stream((uint16_t *)y + at + i, halves, (size_t)size * sizeof *halves);
        }
    else if (storage != NATIVE)
        narrow(values, n, (uint16_t *)y + at, storage);
    else if (values != y + at)
        memcpy(y + at, values, (size_t)n * sizeof *y);
}

ALWAYS_INLINE double *__pyx_fuse_1load(double *x, ptrdiff_t at, ptrdiff_t n, double *buffer, int storage)
{
    (void)n, (void)buffer, (void)storage;
    return x + at;
}

ALWAYS_INLINE void __pyx_fuse_1store(double *y, ptrdiff_t at, ptrdiff_t n, double *values, int storage)
{
    if (storage == STREAMED)
        stream(y + at, values, (size_t)n * sizeof *y);
    else if (values != y + at)
        memcpy(y + at, values, (size_t)n * sizeof *y);
}
