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

/* The rows of weights in a tile are a quarter of the matrix apart. Memory answers fastest to reading
   straight on, in several places at a time. */
#define TILE 4 /* rows of weights, of all kinds but 4 bits, where it is panels of eight */
#define AHEAD(num) ((num) <= 2 ? 1024 : 2048) /* bytes: weights are fetched so long before their use */

INLINE void float_rows(const Matrix *m, int64_t row, Activations a, int64_t at, const int num,
                       const int kind, const int side, float out[MOST][TILE * PANEL]) {
    Floats sum[MOST][TILE][2] = {0}; /* in turn, so that one addition need not wait for another */
    const int64_t width = m->width, quarter = m->rows / TILE * width, bytes = kind == FLOAT32 ? 4 : 2;
    const float *x = a.wide + at * width;
    const char *w = (const char *)m->weight + row * width * bytes;
    for (int64_t k = 0; k < width; k += 2 * LANES)
        for (int r = 0; r < side; r++) {
            __builtin_prefetch(w + (r * quarter + k) * bytes + AHEAD(num));
            for (int half = 0; half < 2; half++) {
                int64_t l = k + half * LANES;
                Floats part = load_from(w, r * quarter + l, kind);
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

INLINE void int8_rows(const Matrix *m, int64_t row, Activations a, int64_t at, const int num,
                      const int side, float out[MOST][TILE * PANEL]) {
    Sums whole[MOST][TILE] = {0};
    const int64_t width = m->width, quarter = m->rows / TILE * width, step = apart(a, at);
    const int8_t *w = (const int8_t *)m->weight + row * width;
    const Input8 *x = (const Input8 *)a.values + first_part(at, width / GROUP) * GROUP;
    const float *scale = a.scale + first_part(at, spans_of(width, SPAN8));
    for (int64_t from = 0; from < width; from += SPAN8, scale += step) {
        int64_t to = from + SPAN8 < width ? from + SPAN8 : width;
        Parts sum[MOST][TILE] = {0};
        for (int64_t k = from; k < to; k += GROUP, x += step * GROUP) {
            for (int r = 0; r < side; r++) __builtin_prefetch(w + r * quarter + k + AHEAD(num));
            for (int l = 0; l < GROUP; l += SLICE) {
                Weights8 weights[TILE];
                for (int r = 0; r < side; r++) weights[r] = take8(w + r * quarter + k + l);
                for (int i = 0; i < num; i++) {
                    Inputs8 inputs = inputs8(x + i * GROUP + l);
                    for (int r = 0; r < side; r++) sum[i][r] = dot8(sum[i][r], weights[r], inputs);
                }
            }
        }
        for (int i = 0; i < num; i++) {
            Sums unit = scale[i] - (Sums){0}; /* in all lanes */
            for (int r = 0; r < side; r++)
                whole[i][r] = scaled_sum(__builtin_convertvector(sum[i][r], Sums), unit, whole[i][r]);
        }
    }
    const float *row_scale = (const float *)m->scale + row;
    for (int i = 0; i < num; i++)
        for (int r = 0; r < side; r++)
            out[i][r] = total(&whole[i][r], PARTS) * row_scale[r * (m->rows / TILE)];
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

INLINE void int4_panels(const Matrix *m, int64_t panel, Activations a, int64_t at, const int num,
                        const int side, const int group, const int zeros,
                        float out[MOST][TILE * PANEL]) {
    Eight sum[MOST][TILE] = {0};
    const int64_t groups = m->width / GROUP4, quarter = m->rows / PANEL / TILE * groups;
    int64_t step = apart(a, at), part = first_part(at, m->width / GROUP), first = panel * groups;
    for (int64_t g = 0; g < groups; g += 2, part += step)
        for (int half = 0; half < 2; half++)
            for (int r = 0; r < side; r++) {
                int64_t here = first + r * quarter + g + half;
                const uint8_t *w = (const uint8_t *)m->weight + here * (PANEL * GROUP4 / 2);
                __builtin_prefetch(w + AHEAD(num));
                __builtin_prefetch(w + AHEAD(num) + 64);
                Eight scale = panel_scales((const uint16_t *)m->scale + here / (group / GROUP4) * PANEL);
                Panel4 weights = take4(w);
                for (int i = 0; i < num; i++) {
                    const int8_t *x = (const int8_t *)a.values + (part + i) * GROUP + half * GROUP4;
                    int32_t offset = a.sums[(part + i) * 2 + half];
                    float unit = a.scale[part + i];
                    Panel dot = dot4(weights, x) - offset;
                    sum[i][r] = fused8(__builtin_convertvector(dot, Eight), scale * unit, sum[i][r]);
                    if (zeros)
                        sum[i][r] = fused8(panel_scales(m->zero + here * PANEL),
                                           offset * unit / 8 - (Eight){0}, sum[i][r]);
                }
            }
    for (int i = 0; i < num; i++) memcpy(out[i], sum[i], side * sizeof sum[i][0]);
}

/* Rows, or panels of rows, that a tile takes at a time: as many as leave its sums in registers. */
INLINE int side_of(const int kind, const int num) {
    return kind == INT8 ? (num <= 2 ? TILE : TILE / 2) : num == 1 ? TILE : kind == INT4 ? 1 : TILE / 2;
}

/* out (num, side, height), from row or panel `at_row` on. */
INLINE void some_rows(const Matrix *m, int64_t at_row, Activations a, int64_t at, const int num,
                      const int kind, const int side, float out[MOST][TILE * PANEL]) {
#define PANELS(group, zeros) int4_panels(m, at_row, a, at, num, side, group, zeros, out)
    if (kind == INT8) int8_rows(m, at_row, a, at, num, side, out);
    else if (kind != INT4) float_rows(m, at_row, a, at, num, kind, side, out);
    else if (m->zero) PANELS(GROUP4, 1);
    else if (m->group == GROUP4) PANELS(GROUP4, 0);
    else PANELS(4 * GROUP4, 0);
#undef PANELS
}

INLINE void tile_of(const Matrix *m, int64_t first, Activations a, int64_t at, const int num,
                    const int kind, float out[MOST][TILE * PANEL]) {
    const int height = kind == INT4 ? PANEL : 1, side = side_of(kind, num);
    for (int r = 0; r < TILE; r += side)
        some_rows(m, first + r * (m->rows / height / TILE), a, at, num, kind, side,
                  (float(*)[TILE * PANEL])&out[0][r * height]);
}

INLINE void tile(const Matrix *m, int64_t first, Activations a, int64_t at, const int num,
                 float out[MOST][TILE * PANEL]) {
    switch (m->kind) {
    case FLOAT32: tile_of(m, first, a, at, num, FLOAT32, out); break;
    case BFLOAT16: tile_of(m, first, a, at, num, BFLOAT16, out); break;
    case INT8: tile_of(m, first, a, at, num, INT8, out); break;
    default: tile_of(m, first, a, at, num, INT4, out);
    }
}

/* Tiles of `num` rows of activations, each a function of its own: so that its sums stay in registers. */
typedef void Tile(const Matrix *m, int64_t first, Activations a, int64_t at,
                  float out[MOST][TILE * PANEL]);
#define TILE_OF(num)                                                                        \
    static void tile##num(const Matrix *m, int64_t first, Activations a, int64_t at,        \
                          float out[MOST][TILE * PANEL]) {                                  \
        tile(m, first, a, at, num, out);                                                    \
    }
TILE_OF(1) TILE_OF(2) TILE_OF(3) TILE_OF(4)
#undef TILE_OF

/* Tiles `from` to `to` of y (num, rows) = x · weightᵀ, or added to y. */
static void tiles(const Matrix *m, Activations a, int64_t num, int64_t from, int64_t to, float *y,
                  int add) {
    Tile *const sizes[] = {NULL, tile1, tile2, tile3, tile4};
    int64_t height = m->kind == INT4 ? PANEL : 1, most = m->kind >= INT8 ? MOST : MOST / 2;
    int64_t quarter = m->rows / height / TILE * height;
    float part[MOST][TILE * PANEL];
    for (int64_t at = 0, some; at < num; at += some) {
        some = num - at >= most ? most : num - at;
        for (int64_t first = from; first < to; first++) {
            sizes[some](m, first, a, at, part);
            for (int64_t i = 0; i < some; i++)
                for (int64_t r = 0; r < TILE; r++) {
                    float *out = y + (at + i) * m->rows + r * quarter + first * height;
                    for (int64_t k = 0; k < height; k++)
                        out[k] = (add ? out[k] : 0) + part[i][r * height + k];
                }
        }
    }
}

#define CHUNK 32 /* rows of weights that one thread takes at a time; what is left over is less */

/* y (num, rows) = x · weightᵀ, or added to y. Called by all threads of a team; ends together. */
static void multiply(const Matrix *m, Activations a, int64_t num, float *y, int add) {
    int64_t height = m->kind == INT4 ? PANEL : 1, all = m->rows / height / TILE;
    int64_t chunk = CHUNK / height / TILE;
#pragma omp for schedule(static)
    for (int64_t from = 0; from < all; from += chunk)
        tiles(m, a, num, from, from + chunk < all ? from + chunk : all, y, add);
}
