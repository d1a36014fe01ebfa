/* Vectors of floats, bfloat16 and the exponential: what the rest is written in. Portable: the
   compiler turns these vectors into those of the processor it compiles for. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
#define LANES 16
#else
#define LANES 8
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float Floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

INLINE Floats load(const float *from) { return *(const Floats *)from; }

INLINE Floats load_wide(const uint16_t *from) { /* bfloat16: the upper half of a float32 */
    return (Floats)(__builtin_convertvector(*(const Halves *)from, Words) << 16);
}

/* From numbers that are stored as float32 (`wide`) or as bfloat16. */
INLINE Floats load_either(const void *from, int64_t at, const int wide) {
    return wide ? load((const float *)from + at) : load_wide((const uint16_t *)from + at);
}

INLINE float total(Floats x) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
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
