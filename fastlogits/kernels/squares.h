/* Squares of numbers, transposed in registers. A quarter is 16 bytes of one row: SQUARE numbers. A vector holds
   quarters of rows that lie SQUARE rows apart; transposed, SQUARE such vectors hold one column each, of consecutive
   rows. */
#if defined(__SSE2__)
#define QUARTERS (VECTOR_BYTES / 16)

#if defined(__AVX512F__)
#define SIMD(name, type) _mm512_##name##_##type
#elif defined(__AVX2__)
#define SIMD(name, type) _mm256_##name##_##type
#else
#define SIMD(name, type) _mm_##name##_##type
#endif

/* The quarters at x, x + apart, ...; `apart` in bytes. */
ALWAYS_INLINE f32v read_quarters(const void *x, ptrdiff_t apart)
{
#define AT(i) _mm_loadu_ps((const float *)((const char *)x + (i) * apart))
#if QUARTERS == 4
    __m512 v = _mm512_castps128_ps512(AT(0));
    v = _mm512_mask_broadcast_f32x4(v, 0x00f0, AT(1));
    v = _mm512_mask_broadcast_f32x4(v, 0x0f00, AT(2));
    return _mm512_mask_broadcast_f32x4(v, 0xf000, AT(3));
#elif QUARTERS == 2
    return _mm256_set_m128(AT(1), AT(0));
#else
    return AT(0);
#endif
#undef AT
}

ALWAYS_INLINE void write_quarters(void *x, ptrdiff_t apart, f32v v)
{
#define AT(i) (float *)((char *)x + (i) * apart)
#if QUARTERS == 4
    _mm_storeu_ps(AT(0), _mm512_castps512_ps128(v));
    _mm_storeu_ps(AT(1), _mm512_extractf32x4_ps(v, 1));
    _mm_storeu_ps(AT(2), _mm512_extractf32x4_ps(v, 2));
    _mm_storeu_ps(AT(3), _mm512_extractf32x4_ps(v, 3));
#elif QUARTERS == 2
    _mm_storeu_ps(AT(0), _mm256_castps256_ps128(v));
    _mm_storeu_ps(AT(1), _mm256_extractf128_ps(v, 1));
#else
    _mm_storeu_ps(AT(0), v);
#endif
#undef AT
}

ALWAYS_INLINE void __pyx_fuse_1transpose_squares(f32v *v)
{
    f64v a = (f64v)v[0], b = (f64v)v[1];
    v[0] = (f32v)SIMD(unpacklo, pd)(a, b);
    v[1] = (f32v)SIMD(unpackhi, pd)(a, b);
}

ALWAYS_INLINE void __pyx_fuse_0transpose_squares(f32v *v)
{
    f32v a[2] = {SIMD(unpacklo, ps)(v[0], v[1]), SIMD(unpacklo, ps)(v[2], v[3])};
    f32v b[2] = {SIMD(unpackhi, ps)(v[0], v[1]), SIMD(unpackhi, ps)(v[2], v[3])};
    __pyx_fuse_1transpose_squares(a);
    __pyx_fuse_1transpose_squares(b);
    v[0] = a[0];
    v[1] = a[1];
    v[2] = b[0];
    v[3] = b[1];
}
#endif
