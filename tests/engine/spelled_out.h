/* The instructions that few processors have, spelled out: so that what `integers.h` does with them is
   computed everywhere. Included before the library, with AVX2 and -DSPELL_AVX512 or -DSPELL_AVXVNNI. */

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define SPELLED static inline __attribute__((always_inline))

SPELLED __m256i spelled_dpbusd256(__m256i sum, __m256i a, __m256i b) {
    int32_t sums[8];
    uint8_t is_unsigned[32];
    int8_t is_signed[32];
    memcpy(sums, &sum, 32), memcpy(is_unsigned, &a, 32), memcpy(is_signed, &b, 32);
    for (int i = 0; i < 32; i++) sums[i / 4] += is_unsigned[i] * is_signed[i];
    memcpy(&sum, sums, 32);
    return sum;
}

#ifdef SPELL_AVXVNNI
#define __AVXVNNI__ 1
#define _mm256_dpbusd_avx_epi32 spelled_dpbusd256
#endif

#ifdef SPELL_AVX512
#define __AVX512F__ 1
#define __AVX512BW__ 1
#define __AVX512VNNI__ 1

typedef int32_t Spelled __attribute__((vector_size(64)));
typedef uint16_t SpelledHalves __attribute__((vector_size(64)));
typedef float SpelledFloats __attribute__((vector_size(64)));

SPELLED __m512i spelled_load(const void *from) {
    __m512i all;
    memcpy(&all, from, 64);
    return all;
}
SPELLED __m512i spelled_bytes(char byte) {
    __m512i all;
    memset(&all, byte, 64);
    return all;
}
SPELLED __m256i spelled_half(__m512i all, int at) {
    __m256i half;
    memcpy(&half, (char *)&all + 32 * at, 32);
    return half;
}
SPELLED __m512i spelled_insert(__m512i all, __m256i half, int at) {
    memcpy((char *)&all + 32 * at, &half, 32);
    return all;
}
SPELLED __m512i spelled_dpbusd512(__m512i sum, __m512i a, __m512i b) {
    for (int at = 0; at < 2; at++) {
        __m256i half = spelled_half(sum, at);
        half = spelled_dpbusd256(half, spelled_half(a, at), spelled_half(b, at));
        sum = spelled_insert(sum, half, at);
    }
    return sum;
}
SPELLED __m512i spelled_permute(__m512i at, __m512i from) {
    Spelled all;
    for (int i = 0; i < 16; i++) all[i] = ((Spelled)from)[((Spelled)at)[i] & 15];
    return (__m512i)all;
}
SPELLED __m512 spelled_fused(__m512 a, __m512 b, __m512 sum) {
    SpelledFloats all;
    for (int i = 0; i < 16; i++)
        all[i] = __builtin_fmaf(((SpelledFloats)a)[i], ((SpelledFloats)b)[i], ((SpelledFloats)sum)[i]);
    return (__m512)all;
}

#define _mm512_loadu_si512 spelled_load
#define _mm512_set1_epi8 spelled_bytes
#define _mm512_set1_epi32(x) ((__m512i)((x) + (Spelled){0}))
#define _mm512_setzero_si512() spelled_bytes(0)
#define _mm512_xor_si512(a, b) ((__m512i)((Spelled)(a) ^ (Spelled)(b)))
#define _mm512_and_si512(a, b) ((__m512i)((Spelled)(a) & (Spelled)(b)))
#define _mm512_sub_epi32(a, b) ((__m512i)((Spelled)(a) - (Spelled)(b)))
#define _mm512_add_epi32(a, b) ((__m512i)((Spelled)(a) + (Spelled)(b)))
#define _mm512_slli_epi32(a, num) ((__m512i)((Spelled)(a) << (num)))
#define _mm512_srli_epi16(a, num) ((__m512i)((SpelledHalves)(a) >> (num)))
#define _mm512_dpbusd_epi32 spelled_dpbusd512
#define _mm512_permutexvar_epi32 spelled_permute
#define _mm512_castsi256_si512(half) spelled_insert(spelled_bytes(0), half, 0)
#define _mm512_castsi512_si256(all) spelled_half(all, 0)
#define _mm512_inserti64x4 spelled_insert
#define _mm512_extracti64x4_epi64 spelled_half
#define _mm512_fmadd_ps spelled_fused
#endif
