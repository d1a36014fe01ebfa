/* y = x · weightᵀ for many rows x, as a prompt has them, with int8 or 4-bit weights.

   Both sides become int16, of which processors multiply and add pairs: twice as many products in an
   instruction as in float32, and a hundred times closer than activations in int8. A span of columns
   of a row shares a scale. A block of weights is widened once and meets all rows of activations. */

#define SPAN (64 * PARTS) /* columns: 64 to a lane, and 64 · 2047 · 16383 fits 32 bits */
#define TOP_WEIGHT 2047   /* eleven bits keep what four said; int8 has seven */
#define TOP_INPUT 16383
#define BLOCK 64 /* rows of weights, widened 64 KB with AVX2: they stay in a core's L2 */
#define NEAR 24  /* rows of activations, 24 KB of a span: they stay in its L1 */
#define SIDE 2   /* rows of activations in a tile */

typedef struct {
    int16_t *values; /* (spans, num, SPAN): rows of a power of two apart would share cache lines */
    float *scale;    /* (spans, num) */
} Halves;

INLINE int64_t num_spans(int64_t width) { return (width + SPAN - 1) / SPAN; }

/* `num` columns of a row of activations → int16 and their scale. */
static float halve_input(const float *x, int64_t num, int16_t *values) {
    float top = 0, sum = 0;
#pragma omp simd reduction(max : top) reduction(+ : sum)
    for (int64_t i = 0; i < num; i++) {
        float size = fabsf(x[i]);
        top = size > top ? size : top;
        sum += x[i];
    }
    float inverse = top > 0 ? TOP_INPUT / top : 0;
    for (int64_t i = 0; i < num; i++) values[i] = (int16_t)(int32_t)rintf(x[i] * inverse);
    return isfinite(sum) ? top / TOP_INPUT : NAN; /* as in `quantize` */
}

/* ---- weights → int16, a span of some rows at a time: (rows, SPAN) and a scale for each row -------- */

static void halve_row(const Matrix *m, int64_t row, int64_t at, int64_t span, int16_t *w) {
    const int8_t *from = (const int8_t *)m->weight + row * m->width + at;
    for (int64_t k = 0; k < span; k++) w[k] = from[k];
}

INLINE PanelFloats size_of(PanelFloats x) { return (PanelFloats)((Panel)x & 0x7fffffff); }

/* The scales of eight rows in one group of columns; the group is counted through all panels. */
INLINE PanelFloats panel_scale(const Matrix *m, int64_t group) {
    return panel_scales((const uint16_t *)m->scale + group / (m->group / GROUP4) * PANEL);
}

INLINE PanelFloats panel_zero(const Matrix *m, int64_t group) {
    return m->zero ? panel_scales(m->zero + group * PANEL) : (PanelFloats){0};
}

/* Eight rows of 4-bit weights from `row` on. Values -8 … 7 times their scale are rounded to what the
   largest weight possible with these scales leaves of TOP_WEIGHT steps. */
static void halve_panel(const Matrix *m, int64_t row, int64_t at, int64_t span, int16_t *w,
                        float *scale) {
    int64_t first = row / PANEL * (m->width / GROUP4) + at / GROUP4, last = first + span / GROUP4;
    PanelFloats top = {0}, sum = {0}, inverse;
    for (int64_t g = first; g < last; g++) {
        PanelFloats most = size_of(panel_scale(m, g)) * 8 + size_of(panel_zero(m, g));
        for (int r = 0; r < PANEL; r++) top[r] = most[r] > top[r] ? most[r] : top[r];
        sum += most;
    }
    for (int r = 0; r < PANEL; r++) {
        inverse[r] = top[r] > 0 ? TOP_WEIGHT / top[r] : 0;
        scale[r] = isfinite(sum[r]) ? top[r] / TOP_WEIGHT : NAN;
    }
    const uint8_t *from = (const uint8_t *)m->weight + first * (PANEL * GROUP4 / 2);
    for (int64_t g = first; g < last; g++, w += GROUP4, from += PANEL * GROUP4 / 2) {
        PanelFloats unit = panel_scale(m, g) * inverse, zero = panel_zero(m, g) * inverse;
        for (int r = 0; r < PANEL; r++) {
            uint8_t pairs[GROUP4 / 2]; /* columns 0 … 15 in the low halves, 16 … 31 in the high ones */
            for (int j = 0; j < 4; j++) memcpy(pairs + 4 * j, from + 32 * j + 4 * r, 4);
            int16_t *low = w + r * SPAN, *high = low + GROUP4 / 2;
            for (int c = 0; c < GROUP4 / 2; c++) {
                low[c] = (int16_t)(int32_t)rintf(((pairs[c] & 15) - 8) * unit[r] + zero[r]);
                high[c] = (int16_t)(int32_t)rintf(((pairs[c] >> 4) - 8) * unit[r] + zero[r]);
            }
        }
    }
}

/* Rows `from` to `to`, at most BLOCK. */
static void halve_block(const Matrix *m, int64_t from, int64_t to, int64_t at, int64_t span, int16_t *w,
                  float *scale) {
    for (int64_t row = from; row < to; row += PANEL, w += PANEL * SPAN, scale += PANEL) {
        if (m->kind == INT4) halve_panel(m, row, at, span, w, scale);
        else for (int r = 0; r < PANEL && row + r < to; r++) {
            halve_row(m, row + r, at, span, w + r * SPAN);
            scale[r] = ((const float *)m->scale)[row + r];
        }
    }
}

/* ---- products ------------------------------------------------------------------------------------ */

/* GCC would rather load again what several products need: two loads for each. */
INLINE Shorts in_register(Shorts x) {
#if defined(__AVX512F__)
    __asm__("" : "+v"(x));
#elif defined(__SSE2__)
    __asm__("" : "+x"(x));
#elif defined(__ARM_NEON)
    __asm__("" : "+w"(x));
#endif
    return x;
}

typedef float Tile __attribute__((vector_size(4 * TILE), aligned(4), may_alias));

/* The sums of TILE rows; as floats, since the lanes together may not fit 32 bits. */
INLINE Tile totals(const Parts sum[TILE]) {
    typedef float Sums __attribute__((vector_size(4 * PARTS)));
    Sums wide[TILE];
    for (int r = 0; r < TILE; r++) wide[r] = __builtin_convertvector(sum[r], Sums);
#if defined(__AVX2__) && PARTS == 8
    __m256 first = _mm256_hadd_ps((__m256)wide[0], (__m256)wide[1]);
    __m256 second = _mm256_hadd_ps((__m256)wide[2], (__m256)wide[3]);
    __m256 both = _mm256_hadd_ps(first, second);
    return (Tile)_mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
#else
    return (Tile){total(&wide[0], PARTS), total(&wide[1], PARTS), total(&wide[2], PARTS),
                  total(&wide[3], PARTS)};
#endif
}

/* out[i]: TILE rows of weights times row i of `num` rows of activations, in one span. */
INLINE void tile16(const int16_t *w, const int16_t *x, int64_t span, const int num, Tile out[SIDE]) {
    Parts sum[SIDE][TILE] = {0};
    for (int64_t k = 0; k < span; k += 2 * PARTS) {
        Shorts inputs[SIDE];
        for (int i = 0; i < num; i++) inputs[i] = in_register(load16(x + i * SPAN + k));
        for (int r = 0; r < TILE; r++) {
            Shorts weights = in_register(load16(w + r * SPAN + k));
            for (int i = 0; i < num; i++) sum[i][r] = dot16(sum[i][r], weights, inputs[i]);
        }
    }
    for (int i = 0; i < num; i++) out[i] = totals(sum[i]);
}

static void tile16_1(const int16_t *w, const int16_t *x, int64_t span, Tile out[SIDE]) {
    tile16(w, x, span, 1, out);
}
static void tile16_2(const int16_t *w, const int16_t *x, int64_t span, Tile out[SIDE]) {
    tile16(w, x, span, SIDE, out);
}

/* Columns `from` to `to` of y (num, rows), at most BLOCK, of the span that begins with column `at`:
   the first span sets them, the others add to them. */
static void block_of_span(const Matrix *m, Halves a, int64_t num, int64_t from, int64_t to,
                          int64_t at, float *y) {
    int16_t w[BLOCK * SPAN] __attribute__((aligned(64)));
    float scale[BLOCK];
    int64_t span = m->width - at < SPAN ? m->width - at : SPAN;
    halve_block(m, from, to, at, span, w, scale);
    const int16_t *x = a.values + at * num;
    const float *unit = a.scale + at / SPAN * num;
    for (int64_t near = 0; near < num; near += NEAR)
        for (int64_t row = 0; row < to - from; row += TILE) {
            int64_t end = near + NEAR < num ? near + NEAR : num;
            for (int64_t i = near, some; i < end; i += some) {
                Tile part[SIDE], scales = *(const Tile *)(scale + row);
                some = end - i >= SIDE ? SIDE : 1;
                (some == SIDE ? tile16_2 : tile16_1)(w + row * SPAN, x + i * SPAN, span, part);
                for (int64_t j = 0; j < some; j++) {
                    Tile *out = (Tile *)(y + (i + j) * m->rows + from + row);
                    Tile more = part[j] * (scales * unit[i + j]);
                    if (at) more += *out;
                    *out = more;
                }
            }
        }
}

/* Bytes of scratch that `multiply_many` needs. */
static int64_t halves_bytes(int64_t num, int64_t width) {
    return num * num_spans(width) * (SPAN * sizeof(int16_t) + sizeof(float));
}

/* y (num, rows) = x (num, width) · weightᵀ. Called by all threads of a team; ends together. */
static void multiply_many(const Matrix *m, const float *x, int64_t num, float *y, char *scratch) {
    int64_t spans = num_spans(m->width);
    Halves a = {.values = (int16_t *)scratch};
    a.scale = (float *)(a.values + num * spans * SPAN);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < num; i++)
        for (int64_t s = 0; s < spans; s++) {
            int64_t left = m->width - s * SPAN, to = s * num + i;
            a.scale[to] = halve_input(x + i * m->width + s * SPAN, left < SPAN ? left : SPAN,
                                a.values + to * SPAN);
        }
#pragma omp for schedule(dynamic)
    for (int64_t from = 0; from < m->rows; from += BLOCK) {
        int64_t to = from + BLOCK < m->rows ? from + BLOCK : m->rows;
        for (int64_t at = 0; at < m->width; at += SPAN) block_of_span(m, a, num, from, to, at, y);
    }
}
