/* Vectors of floats, bfloat16 and the exponential: what the rest is written in. Portable: the
   compiler turns these vectors into those of the processor it compiles for. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
#define LANES 16
#else
#define LANES 8
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float Floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Whole __attribute__((vector_size(4 * LANES)));

enum { FLOAT32, BFLOAT16, INT8, INT4 }; /* how numbers are stored */

/* sum + a · b, rounded once where the processor can. Left to itself GCC does so here and not there, as
   it thinks best, and a row beside others would not be to the bit what it is alone. */
#if defined(__FMA__)
INLINE Eight fused8(Eight a, Eight b, Eight sum) {
    return (Eight)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
}
#else
INLINE Eight fused8(Eight a, Eight b, Eight sum) { return sum + a * b; }
#endif
#if LANES == 16
INLINE Floats fused(Floats a, Floats b, Floats sum) {
    return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
}
#else
#define fused fused8
#endif

INLINE Floats load(const float *from) { return *(const Floats *)from; }

#if defined(__AVX2__) && LANES == 8 /* GCC 12 takes four instructions to widen what one does */
INLINE Words widen(const uint16_t *from) {
    return (Words)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
}
INLINE Whole widen_int8(const int8_t *from) {
    return (Whole)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from));
}
#else
INLINE Words widen(const uint16_t *from) {
    typedef uint16_t Halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
    return __builtin_convertvector(*(const Halves *)from, Words);
}
INLINE Whole widen_int8(const int8_t *from) {
    typedef int8_t Bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
    return __builtin_convertvector(*(const Bytes *)from, Whole);
}
#endif

INLINE Floats load_wide(const uint16_t *from) { /* bfloat16: the upper half of a float32 */
    return (Floats)(widen(from) << 16);
}

INLINE Floats load_int8(const int8_t *from) {
    return __builtin_convertvector(widen_int8(from), Floats);
}

/* From numbers that are stored as float32, bfloat16 or int8. */
INLINE Floats load_from(const void *from, int64_t at, const int kind) {
    return kind == FLOAT32    ? load((const float *)from + at)
           : kind == BFLOAT16 ? load_wide((const uint16_t *)from + at)
                              : load_int8((const int8_t *)from + at);
}

/* The sum of `num` floats, a multiple of four: by fours, as one after the other each would wait. */
INLINE float total(const void *x, const int num) {
    typedef float Four __attribute__((vector_size(16)));
    Four sum = {0}, part;
    for (int i = 0; i < num; i += 4) {
        memcpy(&part, (const float *)x + i, sizeof part);
        sum += part;
    }
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

INLINE uint16_t narrow(float x) { /* to the nearest, ties to even; NaN stays NaN */
    union { float f; uint32_t i; } wide = {x};
    if (x != x) return 0x7fc0;
    return (uint16_t)((wide.i + 0x7fff + (wide.i >> 16 & 1)) >> 16);
}

INLINE float exponential(float x) { /* e^x, to 2e-7, without a call: loops vectorize */
    x = x < -87 ? -87 : x > 88 ? 88 : x; /* NaN stays */
    float n = rintf(x * 1.44269504f), r = x - n * 0.693145752f - n * 1.42860677e-6f;
    float p = 1 + r * (1 + r * (0.5f + r * (0.166666657f + r * (0.0416573475f + r * 0.00830129f))));
    union { int32_t i; float f; } power = {((int32_t)n + 127) << 23};
    return p * power.f;
}
