/* Dot products of small integers, by the instructions each processor has for them: AVX512-VNNI,
   AVX-VNNI, AVX2, NEON, or plain C. Three primitives: 64 int8 weights of one row, and 32 4-bit
   weights of eight rows, times int8 activations; and int16 times int16. */

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
typedef int16_t Shorts __attribute__((vector_size(4 * PARTS), aligned(2), may_alias));

INLINE Shorts load16(const int16_t *from) { return *(const Shorts *)from; }

/* dot8: 64 weights times activations. dot16: each pair of products is added to the sum of its lane. */

#if LANES == 16 /* AVX512-VNNI */

/* dpbusd wants one side unsigned: weights are shifted by 128, and 128 times the sum of the
   activations is taken off again. */
INLINE Parts dot8(const int8_t *w, const int8_t *x) {
    __m512i values = _mm512_loadu_si512(x), shift = _mm512_set1_epi8((char)0x80);
    __m512i sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), values);
    __m512i start = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums, 7));
    return (Parts)_mm512_dpbusd_epi32(start, _mm512_xor_si512(_mm512_loadu_si512(w), shift), values);
}

INLINE Parts dot16(Parts sum, Shorts a, Shorts b) {
    return (Parts)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
}

#elif defined(__AVX2__)

INLINE __m256i add_dot(__m256i sum, __m256i is_unsigned, __m256i is_signed) {
#if defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(sum, is_unsigned, is_signed);
#else
    __m256i pairs = _mm256_maddubs_epi16(is_unsigned, is_signed);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}

INLINE Parts dot8(const int8_t *w, const int8_t *x) {
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < GROUP; i += 32) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(w + i));
        __m256i b = _mm256_loadu_si256((const __m256i *)(x + i));
        /* |w| · (x with the sign of w): pairs stay below 2 · 128 · 127 and fit 16 bits */
        sum = add_dot(sum, _mm256_abs_epi8(a), _mm256_sign_epi8(b, a));
    }
    return (Parts)sum;
}

INLINE Parts dot16(Parts sum, Shorts a, Shorts b) {
#if defined(__AVXVNNI__)
    return (Parts)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#else
    return sum + (Parts)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#endif
}

#elif defined(__ARM_FEATURE_DOTPROD)

INLINE Parts dot8(const int8_t *w, const int8_t *x) {
    int32x4_t sum = vdupq_n_s32(0);
    for (int i = 0; i < GROUP; i += 16) sum = vdotq_s32(sum, vld1q_s8(w + i), vld1q_s8(x + i));
    return (Parts)sum;
}

INLINE Parts dot16(Parts sum, Shorts a, Shorts b) { /* which lane takes which pair does not matter */
    int16x8_t first = (int16x8_t)a, second = (int16x8_t)b;
    int32x4_t lower = vmlal_s16((int32x4_t)sum, vget_low_s16(first), vget_low_s16(second));
    return (Parts)vmlal_high_s16(lower, first, second);
}

#else

INLINE Parts dot8(const int8_t *w, const int8_t *x) {
    Parts sum = {0, 0, 0, 0};
    for (int i = 0; i < GROUP; i++) sum[i % PARTS] += w[i] * x[i];
    return sum;
}

INLINE Parts dot16(Parts sum, Shorts a, Shorts b) {
    for (int i = 0; i < PARTS; i++) sum[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    return sum;
}

#endif

/* A group of 4-bit weights of 8 rows is 4 times 32 bytes. The j-th 32 bytes hold, row after row,
   columns 4j … 4j + 3 in the low halves and 16 + 4j … in the high ones: so 32 bits of activations
   meet the same columns of all 8 rows, and each row has its own sum from beginning to end. */

#if LANES == 16

INLINE Panel dot4(const uint8_t *w, const int8_t *x) {
    const __m512i low = _mm512_set1_epi8(15);
    __m512i values = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)x));
    __m512i sum = _mm512_setzero_si512();
    for (int j = 0; j < 4; j += 2) { /* columns of j in the lower eight sums, of j + 1 in the upper */
        __m512i bytes = _mm512_loadu_si512(w + 32 * j);
        __m512i first = _mm512_inserti64x4(_mm512_set1_epi32(j), _mm256_set1_epi32(j + 1), 1);
        __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(4));
        __m512i high = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low);
        sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(bytes, low),
                                  _mm512_permutexvar_epi32(first, values));
        sum = _mm512_dpbusd_epi32(sum, high, _mm512_permutexvar_epi32(second, values));
    }
    return (Panel)_mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
}

#elif defined(__AVX2__)

INLINE __m256i four_columns(const int8_t *x) {
    int32_t four;
    memcpy(&four, x, 4);
    return _mm256_set1_epi32(four);
}

INLINE Panel dot4(const uint8_t *w, const int8_t *x) {
    const __m256i low = _mm256_set1_epi8(15);
    __m256i sum = _mm256_setzero_si256();
    for (int j = 0; j < 4; j++) {
        __m256i bytes = _mm256_loadu_si256((const __m256i *)(w + 32 * j));
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low);
        bytes = _mm256_and_si256(bytes, low);
#if defined(__AVXVNNI__)
        sum = add_dot(sum, bytes, four_columns(x + 4 * j));
        sum = add_dot(sum, high, four_columns(x + 16 + 4 * j));
#else /* eight pairs below 2 · 15 · 127 fit 16 bits together: widen once */
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(bytes, four_columns(x + 4 * j)));
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(high, four_columns(x + 16 + 4 * j)));
#endif
    }
#if !defined(__AVXVNNI__)
    sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
#endif
    return (Panel)sum;
}

#elif defined(__ARM_FEATURE_DOTPROD)

INLINE Panel dot4(const uint8_t *w, const int8_t *x) {
    int8x16_t before = vld1q_s8(x), behind = vld1q_s8(x + 16), low = vdupq_n_s8(15);
    int32x4_t sum[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
#define COLUMNS(j)                                                                  \
    for (int half = 0; half < 2; half++) {                                          \
        uint8x16_t bytes = vld1q_u8(w + 32 * j + 16 * half);                        \
        int8x16_t first = vandq_s8(vreinterpretq_s8_u8(bytes), low);                \
        int8x16_t second = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));               \
        sum[half] = vdotq_laneq_s32(sum[half], first, before, j);                   \
        sum[half] = vdotq_laneq_s32(sum[half], second, behind, j);                  \
    }
    COLUMNS(0) COLUMNS(1) COLUMNS(2) COLUMNS(3)
#undef COLUMNS
    Panel both;
    memcpy(&both, sum, sizeof both);
    return both;
}

#else

INLINE Panel dot4(const uint8_t *w, const int8_t *x) {
    Panel sum = {0};
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 32; i++) {
            uint8_t byte = w[32 * j + i];
            sum[i / 4] += (byte & 15) * x[4 * j + i % 4] + (byte >> 4) * x[16 + 4 * j + i % 4];
        }
    return sum;
}

#endif
