/* y = x · weightᵀ for a few rows x, with weights in float32, bfloat16, int8 or 4 bits.

   Integer weights meet activations in int8, quantized per group of 64: the processor's integer dot
   products are what makes them fast. Float weights meet float32 activations. Each product is
   summed in an order of its own, so a row's result does not depend on the rows beside it. */

typedef struct {
    const void *weight;  /* (rows, width); INT4: (rows / 8, width / 32, 4, 32) bytes */
    const void *scale;   /* INT8: (rows) float32; INT4: (rows / 8, width / group, 8) bfloat16 */
    const uint16_t *zero; /* INT4, or NULL: what is added to each weight of a group, as `scale` */
    int64_t rows, width, kind, group; /* INT4: 32, or 128 where `zero` is NULL */
} Matrix;

typedef struct { /* activations (num, width) as a matrix wants them */
    float *wide;
    int8_t *values;
    float *scale; /* (num, width / 64) */
    int32_t *sums; /* (num, width / 32): of `values`, which 4-bit weights are offset by */
} Activations;

/* Of one row. */
typedef struct {
    const int8_t *values;
    const float *scale;
    const int32_t *sums;
} Quantized;

INLINE Quantized quantized_row(Activations a, int64_t at, int64_t width) {
    return (Quantized){a.values + at * width, a.scale + at * (width / GROUP),
                       a.sums + at * (width / GROUP4)};
}

static void quantize(const float *x, int64_t width, Quantized q) {
    int8_t *values = (int8_t *)q.values;
    for (int64_t g = 0; g < width / GROUP; g++, x += GROUP, values += GROUP) {
        float top = 0, sum = 0;
#pragma omp simd reduction(max : top) reduction(+ : sum)
        for (int i = 0; i < GROUP; i++) {
            float size = fabsf(x[i]);
            top = size > top ? size : top;
            sum += x[i];
        }
        float inverse = top > 0 ? 127 / top : 0;
        int32_t whole[GROUP];
        for (int i = 0; i < GROUP; i++) whole[i] = (int32_t)rintf(x[i] * inverse);
        for (int i = 0; i < GROUP; i++) values[i] = (int8_t)whole[i];
        for (int half = 0; half < GROUP / GROUP4; half++) {
            int32_t part = 0;
            for (int i = 0; i < GROUP4; i++) part += whole[half * GROUP4 + i];
            ((int32_t *)q.sums)[g * (GROUP / GROUP4) + half] = part;
        }
        /* a NaN must not become a number on the way: the comparison above drops it */
        ((float *)q.scale)[g] = isfinite(sum) ? top / 127 : NAN;
    }
}

/* Row `at` of x is complete: make it what `next`, the matrix it goes into, wants. */
static void prepare(const Matrix *next, Activations a, int64_t at) {
    if (next->kind >= INT8)
        quantize(a.wide + at * next->width, next->width, quantized_row(a, at, next->width));
}

/* ---- tiles: a few rows of weights times a few rows of activations -------------------------------- */

#define TILE 4 /* rows of weights, of all kinds but 4 bits */
#define MOST 4 /* rows of activations */
#define AHEAD 1024 /* bytes: weights are fetched so long before they are needed */

/* `side` rows of weights are read side by side. For one row of activations it is one after the other,
   as memory answers fastest to reading straight on; for more, what is loaded of them serves all. */
INLINE void float_rows(const Matrix *m, int64_t row, Activations a, int64_t at, const int num,
                       const int kind, const int side, float out[MOST][PANEL]) {
    Floats sum[MOST][TILE][2] = {0}; /* in turn, so that one addition need not wait for another */
    const int64_t bytes = kind == FLOAT32 ? 4 : 2, width = m->width;
    const float *x = a.wide + at * width;
    const char *w = (const char *)m->weight + row * width * bytes;
    for (int64_t k = 0; k < width; k += 2 * LANES)
        for (int r = 0; r < side; r++) {
            __builtin_prefetch(w + (r * width + k) * bytes + AHEAD);
            for (int half = 0; half < 2; half++) {
                int64_t l = k + half * LANES;
                Floats part = load_from(w, r * width + l, kind);
                for (int i = 0; i < num; i++) sum[i][r][half] += part * load(x + i * width + l);
            }
        }
    for (int i = 0; i < num; i++)
        for (int r = 0; r < side; r++) {
            Floats whole = sum[i][r][0] + sum[i][r][1];
            out[i][r] = total(&whole, LANES);
        }
}

INLINE void float_tile(const Matrix *m, int64_t row, Activations a, int64_t at, const int num,
                       const int kind, float out[MOST][PANEL]) {
    const int side = num == 1 ? 1 : 2;
    for (int r = 0; r < TILE; r += side)
        float_rows(m, row + r, a, at, num, kind, side, (float(*)[PANEL])&out[0][r]);
}

INLINE void int8_rows(const Matrix *m, int64_t row, Activations a, int64_t at, const int num,
                      const int side, float out[MOST][PANEL]) {
    typedef float Sums __attribute__((vector_size(4 * PARTS)));
    Sums sum[MOST][TILE] = {0};
    const int8_t *w = (const int8_t *)m->weight + row * m->width;
    const int8_t *x = a.values + at * m->width;
    const float *scale = a.scale + at * (m->width / GROUP), *row_scale = m->scale;
    for (int64_t g = 0; g < m->width / GROUP; g++)
        for (int r = 0; r < side; r++) {
            __builtin_prefetch(w + r * m->width + g * GROUP + AHEAD);
            for (int i = 0; i < num; i++) {
                Parts dot = dot8(w + r * m->width + g * GROUP, x + i * m->width + g * GROUP);
                sum[i][r] += __builtin_convertvector(dot, Sums) * scale[i * (m->width / GROUP) + g];
            }
        }
    for (int i = 0; i < num; i++)
        for (int r = 0; r < side; r++) out[i][r] = total(&sum[i][r], PARTS) * row_scale[row + r];
}

INLINE void int8_tile(const Matrix *m, int64_t row, Activations a, int64_t at, const int num,
                      float out[MOST][PANEL]) {
    const int side = num == 1 ? 1 : TILE;
    for (int r = 0; r < TILE; r += side)
        int8_rows(m, row + r, a, at, num, side, (float(*)[PANEL])&out[0][r]);
}

typedef float PanelFloats __attribute__((vector_size(4 * PANEL), aligned(4), may_alias));

INLINE PanelFloats panel_scales(const uint16_t *from) {
#if LANES == PANEL
    return load_wide(from);
#else
    typedef uint16_t Stored __attribute__((vector_size(2 * PANEL), aligned(2), may_alias));
    typedef uint32_t Wide __attribute__((vector_size(4 * PANEL)));
    return (PanelFloats)(__builtin_convertvector(*(const Stored *)from, Wide) << 16);
#endif
}

INLINE void int4_tile(const Matrix *m, int64_t row, Activations a, int64_t at, const int num,
                      const int group, const int zeros, float out[MOST][PANEL]) {
    PanelFloats sum[MOST] = {0};
    int64_t groups = m->width / GROUP4, first = row / PANEL * groups;
    const uint8_t *w = (const uint8_t *)m->weight + first * (PANEL * GROUP4 / 2);
    for (int64_t g = 0; g < groups; g++, w += PANEL * GROUP4 / 2) {
        int64_t scaled = (first + g) / (group / GROUP4);
        PanelFloats scale = panel_scales((const uint16_t *)m->scale + scaled * PANEL);
        for (int i = 0; i < num; i++) {
            int32_t offset = a.sums[(at + i) * groups + g];
            float unit = a.scale[((at + i) * groups + g) / (GROUP / GROUP4)];
            Panel dot = dot4(w, a.values + (at + i) * m->width + g * GROUP4) - 8 * offset;
            sum[i] += __builtin_convertvector(dot, PanelFloats) * (scale * unit);
            if (zeros) sum[i] += panel_scales(m->zero + (first + g) * PANEL) * (offset * unit);
        }
    }
    for (int i = 0; i < num; i++) memcpy(out[i], &sum[i], sizeof sum[i]);
}

INLINE void tile(const Matrix *m, int64_t row, Activations a, int64_t at, const int num,
                 float out[MOST][PANEL]) {
    switch (m->kind) {
    case FLOAT32: float_tile(m, row, a, at, num, FLOAT32, out); break;
    case BFLOAT16: float_tile(m, row, a, at, num, BFLOAT16, out); break;
    case INT8: int8_tile(m, row, a, at, num, out); break;
    default:
        if (m->zero) int4_tile(m, row, a, at, num, GROUP4, 1, out);
        else if (m->group == GROUP4) int4_tile(m, row, a, at, num, GROUP4, 0, out);
        else int4_tile(m, row, a, at, num, 4 * GROUP4, 0, out);
    }
}

/* Tiles of `num` rows of activations, each a function of its own: so that its sums stay in registers. */
static void tile1(const Matrix *m, int64_t row, Activations a, int64_t at, float out[MOST][PANEL]) {
    tile(m, row, a, at, 1, out);
}
static void tile2(const Matrix *m, int64_t row, Activations a, int64_t at, float out[MOST][PANEL]) {
    tile(m, row, a, at, 2, out);
}
static void tile4(const Matrix *m, int64_t row, Activations a, int64_t at, float out[MOST][PANEL]) {
    tile(m, row, a, at, 4, out);
}

/* y (num, stride): columns `from` to `to` of x · weightᵀ, or added to them. */
static void columns(const Matrix *m, Activations a, int64_t num, int64_t from, int64_t to, float *y,
                    int64_t stride, int add) {
    int64_t height = m->kind == INT4 ? PANEL : TILE, most = m->kind == INT4 ? MOST : MOST / 2;
    float part[MOST][PANEL];
    for (int64_t at = 0, some; at < num; at += some) {
        some = num - at >= most ? most : num - at >= 2 ? 2 : 1;
        for (int64_t row = from; row < to; row += height) {
            (some == 4 ? tile4 : some == 2 ? tile2 : tile1)(m, row, a, at, part);
            for (int64_t i = 0; i < some; i++) {
                float *out = y + (at + i) * stride + row - from;
                for (int64_t k = 0; k < height; k++) out[k] = (add ? out[k] : 0) + part[i][k];
            }
        }
    }
}

#define CHUNK 32 /* columns that one thread takes at a time; what is left over is a smaller chunk */

/* y (num, rows) = x · weightᵀ, or added to y. Called by all threads of a team; ends together. */
static void multiply(const Matrix *m, Activations a, int64_t num, float *y, int add) {
#pragma omp for schedule(static)
    for (int64_t from = 0; from < m->rows; from += CHUNK) {
        int64_t to = from + CHUNK < m->rows ? from + CHUNK : m->rows;
        columns(m, a, num, from, to, y + from, m->rows, add);
    }
}
