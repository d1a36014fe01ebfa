/* One pass of a Llama over a few new tokens, on a CPU, in one call.

   What it saves against a call per operation: the calls (some 15 of 5 to 40 µs a layer), and float
   arithmetic on quantized weights. The order of work is that of `Block` in engine/llama.py. Rotary
   pairs are neighbours. Threads are those of torch: this file is compiled with OpenMP but not linked
   to a runtime of its own, so that the regions run on the team that torch started; two teams would
   stand in each other's way. */

#include "numbers.h"
#include "integers.h"
#include "products.h"
#include "attention.h"

typedef struct {
    const float *norm1, *norm2; /* (hidden) */
    Matrix qkv, out, gate_up, down;
} Layer;

typedef struct { /* room for what a pass computes on the way */
    float *qkv, *wide, *scores;
    Activations a;
} Scratch;

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t widest_of(const Layer *layer) {
    return most(most(layer->qkv.width, layer->out.width), layer->down.width);
}

/* Bytes that Activations of `num` rows of at most `width` take: a multiple of four. */
static int64_t activation_bytes(int64_t num, int64_t width) {
    return num * (width * (4 + (int64_t)sizeof(Input8)) + width / GROUP * 12);
}

static Activations activations_in(char *room, int64_t num, int64_t width) {
    Activations a = {.num = num, .wide = (float *)room};
    a.values = a.wide + num * width;
    a.scale = (float *)((Input8 *)a.values + num * width);
    a.sums = (int32_t *)(a.scale + num * (width / GROUP));
    return a;
}

static void norm_all(const float *x, const float *weight, int64_t num, float eps, const Matrix *next,
                     Activations a) {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < num; i++) {
        norm(x + i * next->width, weight, next->width, eps, a.wide + i * next->width);
        prepare(next, a, i);
    }
}

/* x (num, hidden) in place. Called by all threads of a team. */
static void layer_step(const Shape *s, const Layer *layer, int64_t at, int64_t num, float *x,
                       const Span *spans, int64_t num_spans, int64_t longest, Scratch m) {
    int64_t ffn = layer->down.width;
    norm_all(x, layer->norm1, num, s->eps, &layer->qkv, m.a);
    multiply(&layer->qkv, m.a, num, m.qkv, 0);
#pragma omp for schedule(static)
    for (int64_t j = 0; j < num_spans * s->kv_heads; j++) {
        const Span *span = spans + j / s->kv_heads;
        attend(s, span, span->cache + at * span->layer_bytes, m.qkv, j % s->kv_heads,
               m.scores + j * HEADS * longest, longest, m.a.wide);
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < num; i++) prepare(&layer->out, m.a, i);
    multiply(&layer->out, m.a, num, x, 1);
    norm_all(x, layer->norm2, num, s->eps, &layer->gate_up, m.a);
    multiply(&layer->gate_up, m.a, num, m.wide, 0);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < num; i++) {
        const float *gate = m.wide + i * 2 * ffn;
        swiglu(gate, gate + ffn, ffn, m.a.wide + i * ffn);
        prepare(&layer->down, m.a, i);
    }
    multiply(&layer->down, m.a, num, x, 1);
}

/* Bytes of scratch that `corral_step` needs for `num` tokens of `num_spans` sequences of at most
   `longest` tokens. */
int64_t corral_step_bytes(const Shape *s, const Layer *layer, int64_t num, int64_t num_spans,
                          int64_t longest) {
    int64_t floats = num * (layer->qkv.rows + layer->gate_up.rows);
    floats += num_spans * s->kv_heads * HEADS * longest;
    return floats * 4 + activation_bytes(num, widest_of(layer));
}

/* x (num, hidden), the embeddings of all spans' new tokens, becomes the last layer's output; logits
   (num_last, head->rows) are those of the tokens `last`. All layers are alike. */
void corral_step(const Shape *s, const Layer *layers, int64_t num_layers, const float *last_norm,
                 const Matrix *head, int64_t num, float *x, const Span *spans, int64_t num_spans,
                 int64_t longest, const int64_t *last, int64_t num_last, char *scratch,
                 float *logits, int threads) {
    Scratch m = {.a = activations_in(scratch, num, widest_of(layers))}; /* first: it is aligned */
    m.qkv = (float *)(scratch + activation_bytes(num, widest_of(layers)));
    m.wide = m.qkv + num * layers->qkv.rows;
    m.scores = m.wide + num * layers->gate_up.rows;
    Activations ends = m.a;
    ends.num = num_last;
#pragma omp parallel num_threads(threads)
    {
        for (int64_t at = 0; at < num_layers; at++)
            layer_step(s, layers + at, at, num, x, spans, num_spans, longest, m);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < num_last; i++) {
            norm(x + last[i] * head->width, last_norm, head->width, s->eps,
                 ends.wide + i * head->width);
            prepare(head, ends, i);
        }
        multiply(head, ends, num_last, logits, 0);
    }
}

int64_t corral_multiply_bytes(const Matrix *m, int64_t num) {
    return activation_bytes(num, m->width);
}

/* y (num, rows) = x (num, width) · weightᵀ, of a few rows as of many. */
void corral_multiply(const Matrix *m, const float *x, int64_t num, float *y, char *scratch,
                     int threads) {
    Activations a = activations_in(scratch, num, m->width);
    a.wide = (float *)x;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < num; i++) prepare(m, a, i);
        multiply(m, a, num, y, 0);
    }
}
