/* Attention of new tokens to the keys and values of their own sequence, and the small parts around
   it: norm, rotation, the cache, SwiGLU. */

typedef struct {
    int64_t heads, kv_heads, dim, kept; /* kept: FLOAT32, BFLOAT16 or INT8 keys and values */
    float eps;
} Shape;

typedef struct {         /* new tokens of one sequence, one after the other */
    char *cache;         /* its slot: (layers, 2 * kv_heads, capacity, entry) */
    const float *turns;  /* (tokens, dim / 2, 2): cosine and sine at each position */
    int64_t layer_bytes; /* from one layer of the slot to the next */
    int64_t capacity, length; /* tokens there is room for, tokens held before */
    int64_t first, num;  /* where its new tokens stand among those of the pass, and how many */
} Span;

static void norm(const float *x, const float *weight, int64_t width, float eps, float *y) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += x[i] * x[i];
    float factor = 1 / sqrtf(sum / width + eps);
    for (int64_t i = 0; i < width; i++) y[i] = x[i] * factor * weight[i];
}

static void swiglu(const float *gate, const float *up, int64_t num, float *y) {
    for (int64_t i = 0; i < num; i++) y[i] = gate[i] / (1 + exponential(-gate[i])) * up[i];
}

static void rotate(float *x, const float *turns, int64_t dim, float scale) {
    for (int64_t i = 0; i < dim; i += 2) {
        float a = x[i] * scale, b = x[i + 1] * scale;
        x[i] = a * turns[i] - b * turns[i + 1];
        x[i + 1] = a * turns[i + 1] + b * turns[i];
    }
}

/* An entry is what a head keeps of one token: its key, or its value. One of int8 ends with its scale,
   a float32, which may stand at any address. */
INLINE int64_t entry_bytes(int64_t dim, int64_t kind) {
    return kind == FLOAT32 ? 4 * dim : kind == BFLOAT16 ? 2 * dim : dim + (int64_t)sizeof(float);
}

INLINE float scale_of(const char *entry, int64_t dim) {
    float scale;
    memcpy(&scale, entry + dim, sizeof scale);
    return scale;
}

static void keep_int8(const float *x, int8_t *entry, int64_t dim) {
    float top = 0, sum = 0;
#pragma omp simd reduction(max : top) reduction(+ : sum)
    for (int64_t i = 0; i < dim; i++) {
        float size = fabsf(x[i]);
        top = size > top ? size : top;
        sum += x[i];
    }
    float inverse = top > 0 ? 127 / top : 0, scale = isfinite(sum) ? top / 127 : NAN;
    for (int64_t i = 0; i < dim; i++) entry[i] = (int8_t)rintf(x[i] * inverse);
    memcpy(entry + dim, &scale, sizeof scale);
}

static void keep(const float *x, void *entry, int64_t dim, int64_t kind) {
    if (kind == FLOAT32) memcpy(entry, x, dim * sizeof(float));
    else if (kind == INT8) keep_int8(x, entry, dim);
    else for (int64_t i = 0; i < dim; i++) ((uint16_t *)entry)[i] = narrow(x[i]);
}

#define HEADS 4 /* query heads that look together: each key and value is read once for them */

/* Scores (num, longest) of the queries of `num` heads against the keys of `tokens` entries. */
INLINE void look(const float *q, const char *keys, int64_t tokens, int64_t dim, const int kind,
                 const int num, float *scores, int64_t longest) {
    for (int64_t t = 0; t < tokens; t++, keys += entry_bytes(dim, kind)) {
        Floats sum[HEADS] = {0};
        for (int64_t d = 0; d < dim; d += LANES) {
            Floats key = load_from(keys, d, kind);
            for (int h = 0; h < num; h++) sum[h] += key * load(q + h * dim + d);
        }
        float scale = kind == INT8 ? scale_of(keys, dim) : 1;
        for (int h = 0; h < num; h++) scores[h * longest + t] = total(&sum[h], LANES) * scale;
    }
}

/* out (num, dim): the values of `tokens` entries, blended by `scores`. */
INLINE void blend(const char *values, int64_t tokens, int64_t dim, const int kind, const int num,
                  float *scores, int64_t longest, float *out) {
    int64_t bytes = entry_bytes(dim, kind);
    if (kind == INT8)
        for (int64_t t = 0; t < tokens; t++)
            for (int h = 0; h < num; h++)
                scores[h * longest + t] *= scale_of(values + t * bytes, dim);
    for (int64_t d = 0; d < dim; d += LANES) {
        Floats sum[HEADS] = {0};
        for (int64_t t = 0; t < tokens; t++) {
            Floats value = load_from(values + t * bytes, d, kind);
            for (int h = 0; h < num; h++) sum[h] += value * scores[h * longest + t];
        }
        for (int h = 0; h < num; h++) *(Floats *)(out + h * dim + d) = sum[h];
    }
}

static void softmax(float *scores, int64_t num) {
    float top = -INFINITY, sum = 0;
#pragma omp simd reduction(max : top)
    for (int64_t t = 0; t < num; t++) top = scores[t] > top ? scores[t] : top;
#pragma omp simd reduction(+ : sum)
    for (int64_t t = 0; t < num; t++) sum += scores[t] = exponential(scores[t] - top);
    float inverse = 1 / sum;
    for (int64_t t = 0; t < num; t++) scores[t] *= inverse;
}

/* `num` query heads of one token, which share keys and values: look at `tokens` entries. */
INLINE void some_heads(const float *q, const char *keys, const char *values, int64_t tokens,
                       int64_t dim, const int kind, const int num, float *scores, int64_t longest,
                       float *out) {
    look(q, keys, tokens, dim, kind, num, scores, longest);
    for (int h = 0; h < num; h++) softmax(scores + h * longest, tokens);
    blend(values, tokens, dim, kind, num, scores, longest, out);
}

/* One key-value head of one sequence: rotate its new tokens, write them to the cache, and let their
   query heads look at all that stand before. `scores` has room for HEADS times `longest`. */
static void attend(const Shape *s, const Span *span, char *cache, float *qkv, int64_t head,
                   float *scores, int64_t longest, float *out) {
    int64_t group = s->heads / s->kv_heads, dim = s->dim, bytes = entry_bytes(dim, s->kept);
    int64_t width = (s->heads + 2 * s->kv_heads) * dim;
    char *keys = cache + head * span->capacity * bytes;
    char *values = cache + (s->kv_heads + head) * span->capacity * bytes;
    for (int64_t i = 0; i < span->num; i++) {
        float *token = qkv + (span->first + i) * width, *q = token + head * group * dim;
        float *k = token + (s->heads + head) * dim, *v = k + s->kv_heads * dim;
        float *y = out + (span->first + i) * s->heads * dim + head * group * dim;
        const float *turns = span->turns + i * dim;
        int64_t at = span->length + i;
        rotate(k, turns, dim, 1);
        keep(k, keys + at * bytes, dim, s->kept);
        keep(v, values + at * bytes, dim, s->kept);
        for (int64_t h = 0; h < group; h++) rotate(q + h * dim, turns, dim, 1 / sqrtf(dim));
        for (int64_t h = 0, some; h < group; h += some) {
            some = group - h >= HEADS ? HEADS : group - h;
            float *from = q + h * dim, *to = y + h * dim;
#define LOOK(kind, num) some_heads(from, keys, values, at + 1, dim, kind, num, scores, longest, to)
#define LOOK_WITH(num)                                                              \
    case num:                                                                       \
        if (s->kept == FLOAT32) LOOK(FLOAT32, num);                                 \
        else if (s->kept == BFLOAT16) LOOK(BFLOAT16, num);                          \
        else LOOK(INT8, num);                                                       \
        break;
            switch (some) { LOOK_WITH(1) LOOK_WITH(2) LOOK_WITH(3) LOOK_WITH(4) }
        }
    }
}
