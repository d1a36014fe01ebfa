/* One step of a Llama for a few rows of one new token each, on a CPU, with int8 weights.

   What it saves against a call per operation: the calls (some 15 of 5 to 40 µs a layer), and float
   arithmetic on the weights. Activations are quantized to int8 per group of 64, as the weights are
   per row, and multiplied by the processor's own int8 dot products where it has them.

   The order of work is that of `Block` in engine/llama.py. Rotary pairs are neighbours. Threads are
   those of torch: this file is compiled with OpenMP but not linked to a runtime of its own, so that
   the regions run on the team that torch started; two teams would stand in each other's way. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

#define GROUP 64 /* activations that share a scale; every width is a multiple of it */

typedef struct {
    const int8_t *weight; /* (rows, width) */
    const float *scale;   /* (rows) */
    int64_t rows, width;
} Matrix;

typedef struct {
    const float *norm1, *norm2; /* (hidden) */
    Matrix qkv, out, gate_up, down;
} Layer;

typedef struct {
    int64_t heads, kv_heads, dim, wide_cache; /* wide_cache: float32 keys and values, else bfloat16 */
    float eps;
} Shape;

typedef struct {
    char *cache;         /* the row's slot: (layers, 2 * kv_heads, capacity, dim) */
    const float *turns;  /* (dim / 2, 2): cosine and sine at the row's position */
    int64_t layer_bytes; /* from one layer of the slot to the next */
    int64_t capacity, position;
} Row;

typedef struct { /* activations of one row, quantized */
    int8_t *values;
    float *scale; /* (width / GROUP) */
} Quantized;

/* ---- int8 products ---------------------------------------------------------------------------- */

static void quantize(const float *x, int64_t width, Quantized q) {
    for (int64_t g = 0; g < width / GROUP; g++, x += GROUP) {
        float top = 0;
        for (int i = 0; i < GROUP; i++) top = fmaxf(top, fabsf(x[i]));
        /* a NaN must not become a number on the way: fmaxf would drop it */
        float sum = 0;
        for (int i = 0; i < GROUP; i++) sum += x[i];
        float inverse = top > 0 ? 127 / top : 0;
        for (int i = 0; i < GROUP; i++) q.values[g * GROUP + i] = (int8_t)(int32_t)rintf(x[i] * inverse);
        q.scale[g] = isfinite(sum) ? top / 127 : NAN;
    }
}

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)

/* Four rows of weights times one row of activations. vpdpbusd wants one side unsigned: weights are
   shifted by 128, and 128 times the sum of the activations is taken off again. */
static void dot4(const int8_t *w, int64_t stride, int64_t width, Quantized q, float *out) {
    const __m512i shift = _mm512_set1_epi8((char)0x80);
    const __m512i ones = _mm512_set1_epi8(1);
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                     _mm512_setzero_ps()};
    for (int64_t g = 0; g < width / GROUP; g++) {
        __m512i x = _mm512_loadu_si512(q.values + g * GROUP);
        __m512i back = _mm512_slli_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, x), 7);
        __m512i start = _mm512_sub_epi32(_mm512_setzero_si512(), back);
        __m512 scale = _mm512_set1_ps(q.scale[g]);
        for (int r = 0; r < 4; r++) {
            __m512i v = _mm512_xor_si512(_mm512_loadu_si512(w + r * stride + g * GROUP), shift);
            __m512i product = _mm512_dpbusd_epi32(start, v, x);
            sum[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(product), scale, sum[r]);
        }
    }
    for (int r = 0; r < 4; r++) out[r] = _mm512_reduce_add_ps(sum[r]);
}

#else

#if defined(__AVX2__)
static int32_t dot_group(const int8_t *w, const int8_t *x) {
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < GROUP; i += 32) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(w + i));
        __m256i b = _mm256_loadu_si256((const __m256i *)(x + i));
        /* |w| · (x with the sign of w): pairs stay below 2 · 128 · 127 and fit 16 bits */
        __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
    return _mm_cvtsi128_si32(half);
}
#elif defined(__ARM_FEATURE_DOTPROD)
static int32_t dot_group(const int8_t *w, const int8_t *x) {
    int32x4_t sum = vdupq_n_s32(0);
    for (int i = 0; i < GROUP; i += 16) sum = vdotq_s32(sum, vld1q_s8(w + i), vld1q_s8(x + i));
    return vaddvq_s32(sum);
}
#else
static int32_t dot_group(const int8_t *w, const int8_t *x) {
    int32_t sum = 0;
    for (int i = 0; i < GROUP; i++) sum += w[i] * x[i];
    return sum;
}
#endif

static void dot4(const int8_t *w, int64_t stride, int64_t width, Quantized q, float *out) {
    float sum[4] = {0, 0, 0, 0};
    for (int64_t g = 0; g < width / GROUP; g++)
        for (int r = 0; r < 4; r++)
            sum[r] += q.scale[g] * dot_group(w + r * stride + g * GROUP, q.values + g * GROUP);
    memcpy(out, sum, sizeof sum);
}

#endif

/* y (num, rows) = x · weightᵀ, or added to y. Called by all threads of a team; ends together. */
static void multiply(Matrix m, const Quantized *x, int64_t num, float *y, int add) {
#pragma omp for schedule(static)
    for (int64_t r = 0; r < m.rows; r += 4) /* rows are a multiple of 4 */
        for (int64_t i = 0; i < num; i++) {
            float part[4], *to = y + i * m.rows + r;
            dot4(m.weight + r * m.width, m.width, m.width, x[i], part);
            for (int k = 0; k < 4; k++) to[k] = (add ? to[k] : 0) + part[k] * m.scale[r + k];
        }
}

/* ---- the rest of a layer ----------------------------------------------------------------------- */

static void norm(const float *x, const float *weight, int64_t width, float eps, float *y) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += x[i] * x[i];
    float factor = 1 / sqrtf(sum / width + eps);
    for (int64_t i = 0; i < width; i++) y[i] = x[i] * factor * weight[i];
}

static inline float exponential(float x) { /* e^x, to 2e-7, without a call: loops vectorize */
    x = x < -87 ? -87 : x > 88 ? 88 : x; /* NaN stays */
    float n = rintf(x * 1.44269504f), r = x - n * 0.693145752f - n * 1.42860677e-6f;
    float p = 1 + r * (1 + r * (0.5f + r * (0.166666657f + r * (0.0416573475f + r * 0.00830129f))));
    union { int32_t i; float f; } power = {((int32_t)n + 127) << 23};
    return p * power.f;
}

static void rotate(float *x, const float *turns, int64_t dim) {
    for (int64_t i = 0; i < dim; i += 2) {
        float a = x[i], b = x[i + 1];
        x[i] = a * turns[i] - b * turns[i + 1];
        x[i + 1] = a * turns[i + 1] + b * turns[i];
    }
}

static inline float widen(uint16_t half) { /* bfloat16 → float32 */
    union { uint32_t i; float f; } wide = {(uint32_t)half << 16};
    return wide.f;
}

static inline uint16_t narrow(float x) { /* to the nearest, ties to even; NaN stays NaN */
    union { float f; uint32_t i; } wide = {x};
    if (x != x) return 0x7fc0;
    return (uint16_t)((wide.i + 0x7fff + (wide.i >> 16 & 1)) >> 16);
}

static void keep(const float *x, void *cache, int64_t at, int64_t dim, int64_t wide) {
    if (wide) memcpy((float *)cache + at, x, dim * sizeof(float));
    else for (int64_t i = 0; i < dim; i++) ((uint16_t *)cache + at)[i] = narrow(x[i]);
}

static float look(const float *q, const void *cache, int64_t at, int64_t dim, int64_t wide) {
    float sum = 0;
    if (wide) {
        const float *k = (const float *)cache + at;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < dim; i++) sum += q[i] * k[i];
    } else {
        const uint16_t *k = (const uint16_t *)cache + at;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < dim; i++) sum += q[i] * widen(k[i]);
    }
    return sum;
}

static void blend(float *y, float w, const void *cache, int64_t at, int64_t dim, int64_t wide) {
    if (wide) {
        const float *v = (const float *)cache + at;
        for (int64_t i = 0; i < dim; i++) y[i] += w * v[i];
    } else {
        const uint16_t *v = (const uint16_t *)cache + at;
        for (int64_t i = 0; i < dim; i++) y[i] += w * widen(v[i]);
    }
}

/* One key-value head of one row: rotate, write to the cache, attend with its query heads. */
static void attend(const Shape *s, const Row *row, void *cache, float *qkv, int64_t head,
                   float *scores, float *out) {
    int64_t group = s->heads / s->kv_heads, dim = s->dim, num = row->position + 1;
    int64_t keys = head * row->capacity * dim, values = (s->kv_heads + head) * row->capacity * dim;
    float *k = qkv + (s->heads + head) * dim, *v = qkv + (s->heads + s->kv_heads + head) * dim;
    rotate(k, row->turns, dim);
    keep(k, cache, keys + row->position * dim, dim, s->wide_cache);
    keep(v, cache, values + row->position * dim, dim, s->wide_cache);
    for (int64_t h = head * group; h < (head + 1) * group; h++) {
        float *q = qkv + h * dim, *y = out + h * dim, top = -INFINITY, sum = 0;
        rotate(q, row->turns, dim);
        for (int64_t t = 0; t < num; t++) {
            scores[t] = look(q, cache, keys + t * dim, dim, s->wide_cache) / sqrtf(dim);
            top = fmaxf(top, scores[t]);
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t t = 0; t < num; t++) sum += scores[t] = exponential(scores[t] - top);
        memset(y, 0, dim * sizeof(float));
        for (int64_t t = 0; t < num; t++)
            blend(y, scores[t] / sum, cache, values + t * dim, dim, s->wide_cache);
    }
}

static void swiglu(const float *gate_up, int64_t ffn, float *y) {
    for (int64_t i = 0; i < ffn; i++) {
        float gate = gate_up[i];
        y[i] = gate / (1 + exponential(-gate)) * gate_up[ffn + i];
    }
}

typedef struct { /* room for what a step computes on the way */
    float *qkv, *mixed, *wide, *hot, *scores;
    int64_t widest;
} Scratch;

/* x (num, hidden) in place. Called by all threads of a team. */
static void layer_step(const Shape *s, const Layer *layer, int64_t at, int64_t num, float *x,
                       const Row *rows, int64_t longest, Scratch m, const Quantized *q) {
    int64_t hidden = layer->qkv.width, query = layer->out.width, ffn = layer->down.width;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < num; i++) {
        norm(x + i * hidden, layer->norm1, hidden, s->eps, m.hot + i * m.widest);
        quantize(m.hot + i * m.widest, hidden, q[i]);
    }
    multiply(layer->qkv, q, num, m.qkv, 0);
#pragma omp for schedule(static)
    for (int64_t j = 0; j < num * s->kv_heads; j++) {
        int64_t i = j / s->kv_heads;
        attend(s, rows + i, rows[i].cache + at * rows[i].layer_bytes,
               m.qkv + i * layer->qkv.rows, j % s->kv_heads, m.scores + j * longest,
               m.mixed + i * query);
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < num; i++) quantize(m.mixed + i * query, query, q[i]);
    multiply(layer->out, q, num, x, 1);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < num; i++) {
        norm(x + i * hidden, layer->norm2, hidden, s->eps, m.hot + i * m.widest);
        quantize(m.hot + i * m.widest, hidden, q[i]);
    }
    multiply(layer->gate_up, q, num, m.wide, 0);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < num; i++) {
        swiglu(m.wide + i * 2 * ffn, ffn, m.hot + i * m.widest);
        quantize(m.hot + i * m.widest, ffn, q[i]);
    }
    multiply(layer->down, q, num, x, 1);
}

static int64_t widest_of(const Layer *layer) {
    int64_t widest = layer->qkv.width;
    if (layer->out.width > widest) widest = layer->out.width;
    if (layer->down.width > widest) widest = layer->down.width;
    return widest;
}

/* Floats of scratch that `corral_step` needs for `num` rows of at most `longest` tokens. */
int64_t corral_scratch(const Shape *s, const Layer *layer, int64_t num, int64_t longest) {
    int64_t row = layer->qkv.rows + layer->out.width + layer->gate_up.rows + 3 * widest_of(layer);
    return num * (row + s->kv_heads * longest);
}

/* One new token for each of `num` rows: x (num, hidden), the embeddings, becomes the last layer's
   output; logits (num, head->rows). All layers are alike. */
void corral_step(const Shape *s, const Layer *layers, int64_t num_layers, const float *last_norm,
                 const Matrix *head, int64_t num, float *x, const Row *rows, int64_t longest,
                 float *scratch, float *logits, int threads) {
    Scratch m = {.widest = widest_of(layers)};
    m.qkv = scratch;
    m.mixed = m.qkv + num * layers->qkv.rows;
    m.wide = m.mixed + num * layers->out.width;
    m.hot = m.wide + num * layers->gate_up.rows;
    m.scores = m.hot + num * m.widest;
    float *scales = m.scores + num * s->kv_heads * longest;
    int8_t *values = (int8_t *)(scales + num * m.widest);
    Quantized q[num];
    for (int64_t i = 0; i < num; i++)
        q[i] = (Quantized){values + i * m.widest, scales + i * m.widest};
#pragma omp parallel num_threads(threads)
    {
        for (int64_t at = 0; at < num_layers; at++)
            layer_step(s, layers + at, at, num, x, rows, longest, m, q);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < num; i++) {
            norm(x + i * head->width, last_norm, head->width, s->eps, m.hot + i * m.widest);
            quantize(m.hot + i * m.widest, head->width, q[i]);
        }
        multiply(*head, q, num, logits, 0);
    }
}
