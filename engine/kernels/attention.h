/* Attention of new tokens to the keys and values of their own sequence, and the small parts around
   it: norm, rotation, the cache, SwiGLU. */

typedef struct {
    int64_t heads, kv_heads, dim, wide_cache; /* wide_cache: float32 keys and values, else bfloat16 */
    float eps;
} Shape;

typedef struct {         /* new tokens of one sequence, one after the other */
    char *cache;         /* its slot: (layers, 2 * kv_heads, capacity, dim) */
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

static void keep(const float *x, void *cache, int64_t at, int64_t dim, int64_t wide) {
    if (wide) memcpy((float *)cache + at, x, dim * sizeof(float));
    else for (int64_t i = 0; i < dim; i++) ((uint16_t *)cache + at)[i] = narrow(x[i]);
}

#define HEADS 4 /* query heads that look together: each key and value is read once for them */

/* Scores (num, longest) of the queries of `num` heads against keys 0 … tokens - 1. */
INLINE void look(const float *q, const void *cache, int64_t keys, int64_t tokens, int64_t dim,
                 const int wide, const int num, float *scores, int64_t longest) {
    for (int64_t t = 0; t < tokens; t++) {
        Floats sum[HEADS] = {0};
        for (int64_t d = 0; d < dim; d += LANES) {
            Floats key = load_either(cache, keys + t * dim + d, wide);
            for (int h = 0; h < num; h++) sum[h] += key * load(q + h * dim + d);
        }
        for (int h = 0; h < num; h++) scores[h * longest + t] = total(sum[h]);
    }
}

/* out (num, dim): values 0 … tokens - 1, blended by `scores`. */
INLINE void blend(const void *cache, int64_t values, int64_t tokens, int64_t dim, const int wide,
                  const int num, const float *scores, int64_t longest, float *out) {
    for (int64_t d = 0; d < dim; d += LANES) {
        Floats sum[HEADS] = {0};
        for (int64_t t = 0; t < tokens; t++) {
            Floats value = load_either(cache, values + t * dim + d, wide);
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

INLINE void some_heads(const float *q, const void *cache, int64_t keys, int64_t values,
                       int64_t tokens, int64_t dim, const int wide, const int num, float *scores,
                       int64_t longest, float *out) {
    look(q, cache, keys, tokens, dim, wide, num, scores, longest);
    for (int h = 0; h < num; h++) softmax(scores + h * longest, tokens);
    blend(cache, values, tokens, dim, wide, num, scores, longest, out);
}

/* One key-value head of one sequence: rotate its new tokens, write them to the cache, and let their
   query heads look at all that stand before. `scores` has room for HEADS times `longest`. */
static void attend(const Shape *s, const Span *span, void *cache, float *qkv, int64_t head,
                   float *scores, int64_t longest, float *out) {
    int64_t group = s->heads / s->kv_heads, dim = s->dim;
    int64_t width = (s->heads + 2 * s->kv_heads) * dim;
    int64_t keys = head * span->capacity * dim;
    int64_t values = (s->kv_heads + head) * span->capacity * dim;
    for (int64_t i = 0; i < span->num; i++) {
        float *token = qkv + (span->first + i) * width, *q = token + head * group * dim;
        float *k = token + (s->heads + head) * dim, *v = k + s->kv_heads * dim;
        float *y = out + (span->first + i) * s->heads * dim + head * group * dim;
        const float *turns = span->turns + i * dim;
        int64_t at = span->length + i;
        rotate(k, turns, dim, 1);
        keep(k, cache, keys + at * dim, dim, s->wide_cache);
        keep(v, cache, values + at * dim, dim, s->wide_cache);
        for (int64_t h = 0; h < group; h++) rotate(q + h * dim, turns, dim, 1 / sqrtf(dim));
        for (int64_t h = 0, some; h < group; h += some) {
            some = group - h >= HEADS ? HEADS : group - h;
            float *from = q + h * dim, *to = y + h * dim;
#define LOOK(wide, num) some_heads(from, cache, keys, values, at + 1, dim, wide, num, scores, longest, to)
#define LOOK_WITH(num) case num: if (s->wide_cache) LOOK(1, num); else LOOK(0, num); break;
            switch (some) { LOOK_WITH(1) LOOK_WITH(2) LOOK_WITH(3) LOOK_WITH(4) }
        }
    }
}
