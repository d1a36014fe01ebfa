/* y = x · weightᵀ with weights in float32, bfloat16, int8 or 4 bits.

   Integer weights meet activations quantized to integers, a span of columns at a time: the processor's
   integer dot products are what makes them fast. Float weights meet float32 activations. Each product
   is summed in an order of its own, so a row's result does not depend on the rows beside it, be it
   the one token of a reply or among hundreds of a prompt. */

typedef struct {
    const void *weight;  /* (rows, width); INT4: (rows / 8, width / 32, 4, 32) bytes */
    const void *scale;   /* INT8: (rows) float32; INT4: (rows / 8, width / group, 8) bfloat16 */
    const uint16_t *zero; /* INT4, or NULL: what is added to each weight of a group, as `scale` */
    int64_t rows, width, kind, group; /* INT4: 32, or 128 where `zero` is NULL */
} Matrix;

/* Rows of activations (num, width) as a matrix wants them. As integers they stand by fours, some columns
   of each and then the next columns: what a tile needs next is always what comes next. */
typedef struct {
    int64_t num;
    float *wide;   /* (num, width), for float weights and as the source of the others */
    void *values;  /* (num, width) by 64 columns: Input8 for INT8, int8_t for INT4 */
    float *scale;  /* (num, spans) by one, a span of columns being SPAN8 or GROUP */
    int32_t *sums; /* (num, width / 32) by two: 8 times the sum of `values`, as 4 bits are offset by 8 */
} Activations;

#define MOST 4 /* rows of activations in a tile */

/* How many rows stand together with row `at`: as far is one part of a row from the next. */
INLINE int64_t apart(Activations a, int64_t at) {
    int64_t left = a.num - at / MOST * MOST;
    return left < MOST ? left : MOST;
}

/* Where the first of the `parts` of row `at` stands. */
INLINE int64_t first_part(int64_t at, int64_t parts) { return at / MOST * MOST * parts + at % MOST; }

INLINE int64_t spans_of(int64_t width, int64_t span) { return (width + span - 1) / span; }

/* Row `at` of `wide` → integers up to `top`, `span` columns to a scale. */
INLINE void quantize(Activations a, int64_t at, int64_t width, const int kind, const int64_t span,
                     const int top) {
    const float *x = a.wide + at * width;
    float *scale = a.scale + first_part(at, spans_of(width, span));
    int64_t group = first_part(at, width / GROUP), step = apart(a, at);
    for (int64_t from = 0; from < width; from += span, scale += step) {
        int64_t to = from + span < width ? from + span : width;
        float most = 0, sum = 0;
#pragma omp simd reduction(max : most) reduction(+ : sum)
        for (int64_t i = from; i < to; i++) {
            float size = fabsf(x[i]);
            most = size > most ? size : most;
            sum += x[i];
        }
        float inverse = most > 0 ? top / most : 0;
        for (int64_t k = from; k < to; k += GROUP, group += step) {
            int32_t whole[GROUP];
            for (int i = 0; i < GROUP; i++) whole[i] = (int32_t)rintf(x[k + i] * inverse);
            if (kind == INT8) {
                Input8 *values = (Input8 *)a.values + group * GROUP;
                for (int i = 0; i < GROUP; i++) values[i] = (Input8)whole[i];
                continue;
            }
            int8_t *values = (int8_t *)a.values + group * GROUP;
            for (int i = 0; i < GROUP; i++) values[i] = (int8_t)whole[i];
            for (int half = 0; half < 2; half++) {
                int32_t part = 0;
                for (int i = 0; i < GROUP4; i++) part += whole[half * GROUP4 + i];
                a.sums[group * 2 + half] = 8 * part;
            }
        }
        /* a NaN must not become a number on the way: the comparison above drops it */
        *scale = isfinite(sum) ? most / top : NAN;
    }
}

/* Row `at` of x is complete: make it what `next`, the matrix it goes into, wants. */
static void prepare(const Matrix *next, Activations a, int64_t at) {
    if (next->kind == INT8) quantize(a, at, next->width, INT8, SPAN8, TOP8);
    if (next->kind == INT4) quantize(a, at, next->width, INT4, GROUP, 127);
}

/* ---- tiles: a few rows of weights times a few rows of activations -------------------------------- */

#define TILE 4 /* rows of weights, of all kinds but 4 bits */
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
                for (int i = 0; i < num; i++)
                    sum[i][r][half] = fused(part, load(x + i * width + l), sum[i][r][half]);
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
    Sums whole[MOST][TILE] = {0};
    const int64_t width = m->width, step = apart(a, at);
    const int8_t *w = (const int8_t *)m->weight + row * width;
    const Input8 *x = (const Input8 *)a.values + first_part(at, width / GROUP) * GROUP;
    const float *scale = a.scale + first_part(at, spans_of(width, SPAN8)), *row_scale = m->scale;
    for (int64_t from = 0; from < width; from += SPAN8, scale += step) {
        int64_t to = from + SPAN8 < width ? from + SPAN8 : width;
        Parts sum[MOST][TILE] = {0};
        for (int64_t k = from; k < to; k += GROUP, x += step * GROUP)
            for (int r = 0; r < side; r++) {
                /* one row alone is read straight on; of several, what the next ones will be */
                __builtin_prefetch(side == 1 ? w + k + AHEAD : w + side * (width + k) + r * GROUP);
                Weights8 weights = take8(w + r * width + k);
                for (int i = 0; i < num; i++) sum[i][r] = dot8(sum[i][r], weights, x + i * GROUP);
            }
        for (int i = 0; i < num; i++)
            for (int r = 0; r < side; r++)
                whole[i][r] = scaled_sum(__builtin_convertvector(sum[i][r], Sums), scale[i] - (Sums){0},
                                         whole[i][r]);
    }
    for (int i = 0; i < num; i++)
        for (int r = 0; r < side; r++) out[i][r] = total(&whole[i][r], PARTS) * row_scale[row + r];
}

INLINE void int8_tile(const Matrix *m, int64_t row, Activations a, int64_t at, const int num,
                      float out[MOST][PANEL]) {
    const int side = num == 1 ? 1 : num == 2 ? TILE : TILE / 2; /* eight sums stay in registers */
    for (int r = 0; r < TILE; r += side)
        int8_rows(m, row + r, a, at, num, side, (float(*)[PANEL])&out[0][r]);
}

INLINE Eight panel_scales(const uint16_t *from) {
#if LANES == PANEL
    return load_wide(from);
#else
    typedef uint16_t Stored __attribute__((vector_size(2 * PANEL), aligned(2), may_alias));
    typedef uint32_t Wide __attribute__((vector_size(4 * PANEL)));
    return (Eight)(__builtin_convertvector(*(const Stored *)from, Wide) << 16);
#endif
}

INLINE void int4_tile(const Matrix *m, int64_t row, Activations a, int64_t at, const int num,
                      const int group, const int zeros, float out[MOST][PANEL]) {
    Eight sum[MOST] = {0};
    int64_t groups = m->width / GROUP4, first = row / PANEL * groups;
    int64_t step = apart(a, at), part = first_part(at, m->width / GROUP);
    const uint8_t *w = (const uint8_t *)m->weight + first * (PANEL * GROUP4 / 2);
    for (int64_t g = 0; g < groups; g += 2, part += step)
        for (int half = 0; half < 2; half++, w += PANEL * GROUP4 / 2) {
            int64_t scaled = (first + g + half) / (group / GROUP4);
            Eight scale = panel_scales((const uint16_t *)m->scale + scaled * PANEL);
            Panel4 weights = take4(w);
            for (int i = 0; i < num; i++) {
                const int8_t *x = (const int8_t *)a.values + (part + i) * GROUP + half * GROUP4;
                int32_t offset = a.sums[(part + i) * 2 + half];
                Panel dot = dot4(weights, x) - offset;
                float unit = a.scale[part + i];
                sum[i] = fused8(__builtin_convertvector(dot, Eight), scale * unit, sum[i]);
                if (zeros)
                    sum[i] = fused8(panel_scales(m->zero + (first + g + half) * PANEL),
                                    offset * unit / 8 - (Eight){0}, sum[i]);
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
static void tile3(const Matrix *m, int64_t row, Activations a, int64_t at, float out[MOST][PANEL]) {
    tile(m, row, a, at, 3, out);
}
static void tile4(const Matrix *m, int64_t row, Activations a, int64_t at, float out[MOST][PANEL]) {
    tile(m, row, a, at, 4, out);
}

/* y (num, stride): columns `from` to `to` of x · weightᵀ, or added to them. */
static void columns(const Matrix *m, Activations a, int64_t num, int64_t from, int64_t to, float *y,
                    int64_t stride, int add) {
    int64_t height = m->kind == INT4 ? PANEL : TILE, most = m->kind >= INT8 ? MOST : MOST / 2;
    void (*const tiles[])(const Matrix *, int64_t, Activations, int64_t, float[MOST][PANEL]) = {
        NULL, tile1, tile2, tile3, tile4};
    float part[MOST][PANEL];
    for (int64_t at = 0, some; at < num; at += some) {
        some = num - at >= most ? most : num - at;
        for (int64_t row = from; row < to; row += height) {
            tiles[some](m, row, a, at, part);
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
