/* An integer network as a chain of convolutions, and the memory that one image needs in it. */
#ifndef EDGE_CODEC_INT8_NETWORK_H
#define EDGE_CODEC_INT8_NETWORK_H

#include <stdlib.h>

#include "plain.h"
#include "pool.h"
#if defined(__x86_64__)
#include "avx2.h"
#include "vnni.h"
#endif

#define MAX_LAYERS 64
#define MAX_KEPT 4            /* unused workspaces of a network */
#define TICKET_PRODUCTS 4e6   /* some 20 us of work */
#define MAX_BYTES (1ll << 36) /* of a workspace */
#define ALIGNED 64

typedef struct {
    int inputs, outputs, kernel, stride, spread, is_signed;
    int lanes, vectors; /* outputs up to a multiple of 16, vectors of a block of them */
    int8_t *weights;
    int32_t *numbers; /* bias, shift, half and odd, `lanes` of each */
    tile_row *row;
} layer;

/* Rows that one step makes: pixels of the first layer's input, or a layer's outputs. */
typedef struct {
    int rows, columns, rows_of_ticket;
    int64_t first_ticket;
} step;

/* A layer's input: an image with a border of zeros. */
typedef struct {
    uint8_t *pixels; /* of the top left pixel of the image, behind the border */
    ptrdiff_t row;   /* bytes */
    int height, width;
} plane;

typedef struct workspace {
    struct workspace *after;
    uint8_t *memory;
    int height, width;
    int64_t tickets;
    plane planes[MAX_LAYERS];
    step steps[MAX_LAYERS + 2]; /* loading, then the layers; the last has no rows and ends them */
    _Atomic uint32_t *done;     /* for each ticket: images that are past it */
} workspace;

typedef struct {
    int n_layers, unpack, table_rows;
    uint8_t *table; /* NULL: the input is images */
    layer layers[MAX_LAYERS];
    pthread_mutex_t lock;
    workspace *kept;
} network;

static void *aligned(size_t size) {
    void *memory = NULL;
    return posix_memalign(&memory, ALIGNED, size ? size : 1) ? NULL : memory;
}

static void free_workspace(workspace *s) {
    if (!s) return;
    free(s->memory);
    free((void *)s->done);
    free(s);
}

static void free_network(network *net) {
    for (int l = 0; l < net->n_layers; l++) {
        free(net->layers[l].weights);
        free(net->layers[l].numbers);
    }
    free(net->table);
    while (net->kept) {
        workspace *after = net->kept->after;
        free_workspace(net->kept);
        net->kept = after;
    }
    pthread_mutex_destroy(&net->lock);
    free(net);
}

static int divide_up(int a, int b) { return (a + b - 1) / b; }

/* Sizes of all steps and planes for an input; returns the bytes of the planes, or -1. */
static int64_t measure(const network *net, workspace *s, int64_t *offsets) {
    int height = s->height, width = s->width;
    int64_t bytes = 0;
    s->steps[0] = (step){height, width, divide_up(height, 4), 0};
    int64_t ticket = divide_up(height, s->steps[0].rows_of_ticket);
    for (int l = 0; l < net->n_layers; l++) {
        const layer *y = &net->layers[l];
        const int64_t pad = y->kernel / 2, row = (width + 2 * pad) * y->inputs;
        s->planes[l] = (plane){NULL, row, height, width};
        offsets[l] = bytes + pad * row + pad * y->inputs;
        bytes += (row * (height + 2 * pad) + ALIGNED - 1) / ALIGNED * ALIGNED;
        height = divide_up(height, y->stride);
        width = divide_up(width, y->stride);
        const double products = (double)width * y->outputs * y->inputs * y->kernel * y->kernel;
        const double fit = TICKET_PRODUCTS / products;
        const int rows = fit < 1 ? 1 : fit < height ? (int)fit : height;
        s->steps[l + 1] = (step){height, width, rows, ticket};
        ticket += divide_up(height, rows);
        height *= y->spread;
        width *= y->spread;
        if (bytes > MAX_BYTES || height > 1 << 20 || width > 1 << 20) return -1;
    }
    s->steps[net->n_layers + 1] = (step){0, 0, 1, ticket};
    s->tickets = ticket;
    return bytes;
}

static workspace *new_workspace(const network *net, int height, int width) {
    int64_t offsets[MAX_LAYERS];
    workspace *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->height = height;
    s->width = width;
    const int64_t bytes = measure(net, s, offsets);
    if (bytes < 0 || !(s->memory = aligned((size_t)bytes)) ||
        !(s->done = calloc((size_t)s->tickets, sizeof *s->done))) {
        free_workspace(s);
        return NULL;
    }
    memset(s->memory, 0, (size_t)bytes); /* the borders stay 0 */
    for (int l = 0; l < net->n_layers; l++) s->planes[l].pixels = s->memory + offsets[l];
    return s;
}

/* A workspace for an image size: one that lies there, or a new one; NULL without memory. */
static workspace *take_workspace(network *net, int height, int width) {
    pthread_mutex_lock(&net->lock);
    workspace **link = &net->kept, *found = NULL;
    while (*link && ((*link)->height != height || (*link)->width != width)) link = &(*link)->after;
    if (*link) {
        found = *link;
        *link = found->after;
    }
    pthread_mutex_unlock(&net->lock);
    return found ? found : new_workspace(net, height, width);
}

/* Keep a workspace for the next image; the one that lay there longest goes where there are many. */
static void keep_workspace(network *net, workspace *s) {
    pthread_mutex_lock(&net->lock);
    s->after = net->kept;
    net->kept = s;
    workspace **link = &net->kept;
    for (int i = 0; i < MAX_KEPT && *link; i++) link = &(*link)->after;
    workspace *oldest = *link;
    *link = NULL;
    pthread_mutex_unlock(&net->lock);
    free_workspace(oldest);
}

/* ---- the work on one ticket ---- */

typedef struct {
    job job; /* first: a job is all that the pool knows */
    const network *net;
    workspace *space;
    const void *source;
    uint8_t *result;
    int64_t result_bytes; /* of an image */
    _Atomic int bad_token;
} pass;

/* Copy rows of an image, or of a table by tokens, into the first layer's input. */
static void load_rows(pass *p, int64_t image, int begin, int end) {
    const network *net = p->net;
    const plane *to = &p->space->planes[0];
    const int u = net->unpack, inputs = net->layers[0].inputs, width = to->width;
    for (int r = begin; r < end; r++) {
        uint8_t *out = to->pixels + r * to->row;
        const int64_t row = image * to->height + r;
        if (net->table) {
            const int32_t *tokens = (const int32_t *)p->source + row * width;
            for (int c = 0; c < width; c++, out += inputs) {
                const int known = tokens[c] >= 0 && tokens[c] < net->table_rows;
                if (!known) atomic_store(&p->bad_token, 1);
                memcpy(out, net->table + (ptrdiff_t)(known ? tokens[c] : 0) * inputs,
                       (size_t)inputs);
            }
            continue;
        }
        for (int y = 0; y < u; y++, out += u) {
            const uint8_t *from = (const uint8_t *)p->source + (row * u + y) * width * u;
            if (u == 4) /* the size of a constant: no call */
                for (int c = 0; c < width; c++) memcpy(out + c * 16, from + c * 4, 4);
            else
                for (int c = 0; c < width; c++) memcpy(out + c * inputs, from + c * u, (size_t)u);
        }
    }
}

static void convolve_rows(pass *p, int64_t image, int number, int begin, int end) {
    const layer *l = &p->net->layers[number];
    const plane *from = &p->space->planes[number];
    const int columns = p->space->steps[number + 1].columns, pad = l->kernel / 2;
    const int window = l->kernel * l->inputs;
    const int run = l->outputs / l->spread; /* bytes of a pixel that stay together in a row */
    const int last = number + 1 == p->net->n_layers;
    const plane *to = last ? NULL : &p->space->planes[number + 1];
    uint8_t *out = last ? p->result + image * p->result_bytes : to->pixels;
    const ptrdiff_t out_row = last ? (ptrdiff_t)columns * run : to->row;
    const int is_even = l->outputs % LANES == 0;
    tile t = {.window_rows = l->kernel, .groups = window / 4, .is_signed = l->is_signed,
              .in_row = from->row, .in_pixel = (ptrdiff_t)l->stride * l->inputs,
              .out_row = out_row, .out_pixel = run, .outputs = l->outputs, .run = run,
              .piece = !is_even ? 0 : run % LANES == 0 ? LANES : LANES % run == 0 ? run : 0};
    const int block = LANES * l->vectors;
    for (t.first = 0; t.first < l->outputs; t.first += block) {
        t.weights = l->weights + (ptrdiff_t)t.first * l->kernel * window;
        t.bias = l->numbers + t.first;
        t.shift = t.bias + l->lanes;
        t.half = t.shift + l->lanes;
        t.odd = t.half + l->lanes;
        for (int n = 0; n < l->vectors; n++) {
            const int channel = t.first + LANES * n;
            t.place[n] = channel / run * out_row + channel % run;
        }
        for (int r = begin; r < end; r++)
            l->row(&t, from->pixels + (r * l->stride - pad) * from->row - pad * l->inputs,
                   out + (ptrdiff_t)r * l->spread * out_row, columns);
    }
}

/* Wait until a step is past an image in some of its tickets. */
static void wait_for(const pass *p, const step *of, int64_t begin, int64_t end, uint32_t images) {
    int turns = 0;
    for (int64_t t = of->first_ticket + begin; t < of->first_ticket + end; t++)
        while (atomic_load_explicit(&p->space->done[t], memory_order_acquire) < images)
            pause_briefly(&turns);
}

static int clamp(int value, int high) { return value < 0 ? 0 : value > high ? high : value; }

/* Wait for the rows of its input that rows of a layer's output are made from. */
static void wait_for_input(const pass *p, int number, int begin, int end, uint32_t images) {
    const layer *l = &p->net->layers[number];
    const step *from = &p->space->steps[number];
    const int spread = number ? p->net->layers[number - 1].spread : 1, pad = l->kernel / 2;
    const int low = clamp((begin * l->stride - pad) / spread, from->rows - 1);
    const int high = clamp(((end - 1) * l->stride - pad + l->kernel - 1) / spread, from->rows - 1);
    wait_for(p, from, low / from->rows_of_ticket, high / from->rows_of_ticket + 1, images);
}

static void do_ticket(job *j, int64_t ticket) {
    pass *p = (pass *)j;
    const workspace *s = p->space;
    const int64_t image = ticket / s->tickets, local = ticket % s->tickets;
    int k = 0;
    while (s->steps[k + 1].first_ticket <= local) k++;
    const step *now = &s->steps[k], *reader = now + 1;
    const int begin = (int)(local - now->first_ticket) * now->rows_of_ticket;
    const int end = clamp(begin + now->rows_of_ticket, now->rows);
    if (image && k < p->net->n_layers) /* who reads what is to be overwritten */
        wait_for(p, reader, 0, (reader + 1)->first_ticket - reader->first_ticket, (uint32_t)image);
    if (k) {
        wait_for_input(p, k - 1, begin, end, (uint32_t)image + 1);
        convolve_rows(p, image, k - 1, begin, end);
    } else {
        load_rows(p, image, begin, end);
    }
    atomic_store_explicit(&p->space->done[local], (uint32_t)image + 1, memory_order_release);
}

/* Run `images` images; returns whether all tokens were rows of the table. */
static int run_network(const network *net, workspace *s, const void *source, uint8_t *result,
                       int64_t images, int threads) {
    const layer *last = &net->layers[net->n_layers - 1];
    const step *end = &s->steps[net->n_layers];
    pass p = {.job = {.work = do_ticket, .tickets = s->tickets * images},
              .net = net, .space = s, .source = source, .result = result,
              .result_bytes = (int64_t)end->rows * end->columns * last->outputs};
    memset((void *)s->done, 0, (size_t)s->tickets * sizeof *s->done);
    run_job(&p.job, threads);
    return !atomic_load(&p.bad_token);
}

#endif
