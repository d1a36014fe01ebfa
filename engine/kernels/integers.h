/* Dot products of small integers, by the instructions each processor has for them: AVX512-VNNI,
   AVX-VNNI, AVX2, NEON, or plain C. Two primitives: some int8 weights of one row, and 32 4-bit weights
   of eight rows, times activations. Sums are exact whatever the instructions. */

#define GROUP 64 /* int8 activations that share a scale; every width is a multiple of it */
#define GROUP4 32 /* 4-bit weights of a row that share a scale */
#define PANEL 8 /* rows of 4-bit weights that are stored together */

typedef int32_t Panel __attribute__((vector_size(4 * PANEL))); /* one number for each of 8 rows */

#if LANES == 16
#define PARTS 16 /* sums of 32 bits that are carried side by side */
#elif defined(__AVX2__)
#define PARTS 8
#else
#define PARTS 4
#endif

typedef int32_t Parts __attribute__((vector_size(4 * PARTS)));
#if PARTS == LANES
typedef Floats Sums;
#define scaled_sum fused
#else
typedef float Sums __attribute__((vector_size(4 * PARTS)));
INLINE Sums scaled_sum(Sums a, Sums b, Sums sum) { return sum + a * b; }
#endif

/* Activations beside int8 weights. Where bytes can be multiplied at once they are bytes, and 64 share
   a scale. Elsewhere int16 takes fewer instructions, as pairs of products are summed in 32 bits as
   they are; it has room for 14 bits and for a scale in 512 columns. */
#if defined(__AVX2__) && LANES != 16 && !defined(__AVXVNNI__)
typedef int16_t Input8;
#define SPAN8 512 /* 64 products to a lane: 64 · 128 · 16383 fits 32 bits */
#define TOP8 16383
#else
typedef int8_t Input8;
#define SPAN8 GROUP
#define TOP8 127
#endif

/* SLICE products added to the sums of their lanes. Weights and activations are taken up once for all
   products of a tile that they are in. */

#if LANES == 16 /* AVX512-VNNI */

/* dpbusd wants one side unsigned: weights are shifted by 128, and 128 times the sum of the
   activations is taken off again. */
#define SLICE 64
typedef __m512i Weights8;
typedef struct { __m512i values, less; } Inputs8;

INLINE Weights8 take8(const int8_t *w) {
    return _mm512_xor_si512(_mm512_loadu_si512(w), _mm512_set1_epi8((char)0x80));
}

INLINE Inputs8 inputs8(const Input8 *x) {
    __m512i values = _mm512_loadu_si512(x);
    __m512i sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), values);
    return (Inputs8){values, _mm512_slli_epi32(sums, 7)};
}

INLINE Parts dot8(Parts sum, Weights8 w, Inputs8 x) {
    return (Parts)_mm512_dpbusd_epi32(_mm512_sub_epi32((__m512i)sum, x.less), w, x.values);
}

#elif defined(__AVXVNNI__)

#define SLICE 32
typedef struct { __m256i size, sign; } Weights8;
typedef __m256i Inputs8;

INLINE Weights8 take8(const int8_t *w) {
    __m256i values = _mm256_loadu_si256((const __m256i *)w);
    return (Weights8){_mm256_abs_epi8(values), values};
}

INLINE Inputs8 inputs8(const Input8 *x) { return _mm256_loadu_si256((const __m256i *)x); }

INLINE Parts dot8(Parts sum, Weights8 w, Inputs8 x) { /* one side must be unsigned: |w| · (± x) */
    __m256i values = _mm256_sign_epi8(x, w.sign);
    return (Parts)_mm256_dpbusd_avx_epi32((__m256i)sum, w.size, values);
}

#elif defined(__AVX2__)

#define SLICE 16
typedef __m256i Weights8;
typedef __m256i Inputs8;

INLINE Weights8 take8(const int8_t *w) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w));
}

INLINE Inputs8 inputs8(const Input8 *x) {
    __m256i values = _mm256_loadu_si256((const __m256i *)x);
    __asm__("" : "+x"(values)); /* or GCC loads it again for every product */
    return values;
}

INLINE Parts dot8(Parts sum, Weights8 w, Inputs8 x) {
    sum += (Parts)_mm256_madd_epi16(w, x);
    __asm__("" : "+x"(sum)); /* or it adds in another order, with all products waiting in memory */
    return sum;
}

#elif defined(__ARM_FEATURE_DOTPROD)

#define SLICE 16
typedef int8x16_t Weights8;
typedef int8x16_t Inputs8;

INLINE Weights8 take8(const int8_t *w) { return vld1q_s8(w); }

INLINE Inputs8 inputs8(const Input8 *x) { return vld1q_s8(x); }

INLINE Parts dot8(Parts sum, Weights8 w, Inputs8 x) {
    return (Parts)vdotq_s32((int32x4_t)sum, w, x);
}

#else

#define SLICE GROUP
typedef const int8_t *Weights8;
typedef const Input8 *Inputs8;

INLINE Weights8 take8(const int8_t *w) { return w; }

INLINE Inputs8 inputs8(const Input8 *x) { return x; }

INLINE Parts dot8(Parts sum, Weights8 w, Inputs8 x) {
    for (int i = 0; i < SLICE; i++) sum[i % PARTS] += w[i] * x[i];
    return sum;
}

#endif

/* A group of 4-bit weights of 8 rows is 4 times 32 bytes. The j-th 32 bytes hold, row after row,
   columns 4j … 4j + 3 in the low halves and 16 + 4j … in the high ones: so 32 bits of activations
   meet the same columns of all 8 rows, and each row has its own sum from beginning to end. */

#if LANES == 16

typedef struct { __m512i low[2], high[2]; } Panel4;

INLINE Panel4 take4(const uint8_t *w) {
    const __m512i low = _mm512_set1_epi8(15);
    Panel4 taken;
    for (int i = 0; i < 2; i++) {
        __m512i bytes = _mm512_loadu_si512(w + 64 * i);
        taken.low[i] = _mm512_and_si512(bytes, low);
        taken.high[i] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low);
    }
    return taken;
}

INLINE Panel dot4(Panel4 w, const int8_t *x) {
    __m512i values = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)x));
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < 2; i++) { /* columns of j = 2i in the lower eight sums, of j + 1 in the upper */
        __m512i first = _mm512_inserti64x4(_mm512_set1_epi32(2 * i), _mm256_set1_epi32(2 * i + 1), 1);
        __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(4));
        sum = _mm512_dpbusd_epi32(sum, w.low[i], _mm512_permutexvar_epi32(first, values));
        sum = _mm512_dpbusd_epi32(sum, w.high[i], _mm512_permutexvar_epi32(second, values));
    }
    return (Panel)_mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
}

#elif defined(__AVX2__)

typedef struct { __m256i low[4], high[4]; } Panel4;

INLINE Panel4 take4(const uint8_t *w) {
    const __m256i low = _mm256_set1_epi8(15);
    Panel4 taken;
    for (int j = 0; j < 4; j++) {
        __m256i bytes = _mm256_loadu_si256((const __m256i *)w + j);
        taken.low[j] = _mm256_and_si256(bytes, low);
        taken.high[j] = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low);
    }
    return taken;
}

INLINE __m256i four_columns(const int8_t *x) {
    int32_t four;
    memcpy(&four, x, 4);
    return _mm256_set1_epi32(four);
}

INLINE Panel dot4(Panel4 w, const int8_t *x) {
    __m256i sum = _mm256_setzero_si256();
    for (int j = 0; j < 4; j++) {
        __asm__("" : "+r"(x), "+x"(sum)); /* or GCC loads ahead more than fits its registers */
        __m256i before = four_columns(x + 4 * j), behind = four_columns(x + 16 + 4 * j);
#if defined(__AVXVNNI__)
        sum = _mm256_dpbusd_avx_epi32(sum, w.low[j], before);
        sum = _mm256_dpbusd_avx_epi32(sum, w.high[j], behind);
#else /* eight pairs below 2 · 15 · 127 fit 16 bits together: widen once */
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w.low[j], before));
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w.high[j], behind));
#endif
    }
#if !defined(__AVXVNNI__)
    sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
#endif
    return (Panel)sum;
}

#elif defined(__ARM_FEATURE_DOTPROD)

typedef struct { int8x16_t low[4][2], high[4][2]; } Panel4;

INLINE Panel4 take4(const uint8_t *w) {
    Panel4 taken;
    for (int j = 0; j < 4; j++)
        for (int half = 0; half < 2; half++) {
            uint8x16_t bytes = vld1q_u8(w + 32 * j + 16 * half);
            taken.low[j][half] = vandq_s8(vreinterpretq_s8_u8(bytes), vdupq_n_s8(15));
            taken.high[j][half] = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
        }
    return taken;
}

INLINE Panel dot4(Panel4 w, const int8_t *x) {
    int8x16_t before = vld1q_s8(x), behind = vld1q_s8(x + 16);
    int32x4_t sum[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
#define COLUMNS(j)                                                              \
    for (int half = 0; half < 2; half++) {                                      \
        sum[half] = vdotq_laneq_s32(sum[half], w.low[j][half], before, j);      \
        sum[half] = vdotq_laneq_s32(sum[half], w.high[j][half], behind, j);     \
    }
    COLUMNS(0) COLUMNS(1) COLUMNS(2) COLUMNS(3)
#undef COLUMNS
    Panel both;
    memcpy(&both, sum, sizeof both);
    return both;
}

#else

typedef const uint8_t *Panel4;

INLINE Panel4 take4(const uint8_t *w) { return w; }

INLINE Panel dot4(Panel4 w, const int8_t *x) {
    Panel sum = {0};
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 32; i++) {
            uint8_t byte = w[32 * j + i];
            sum[i / 4] += (byte & 15) * x[4 * j + i % 4] + (byte >> 4) * x[16 + 4 * j + i % 4];
        }
    return sum;
}

#endif
