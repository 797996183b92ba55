/* Streams and graphs: what was started, recorded, replayed. */
#ifndef STUB_WORK_H
#define STUB_WORK_H
#include "stub_state.h"


static status enqueue(stream *s, operation *item) {
    if (!s || !s->live) return violation("work for a stream that was destroyed");
    if (s->invalid) return CAPTURE_INVALIDATED;
    if (!s->capturing) {
        append(&s->pending, item);
        return OK;
    }
    s->n_captured++;
    append(&(s->origin ? s->origin : s)->captured, item);
    return OK;
}

static status copy(action way, char *device, char *host, size_t size, stream *s) {
    READY();
    if (!find(device, size, DEVICE)) return violation("copy outside of device memory");
    if (s && s->capturing && !find(host, size, PINNED))
        return violation("captured copy of memory that is not page-locked");
    operation item = {.action = way, .device = device, .host = host, .size = size};
    return enqueue(s, &item);
}
static status copy_to_device(device_pointer to, void *from, size_t size, stream *s) {
    return copy(UPLOAD, (char *)to, from, size, s);
}
static status copy_to_host(void *to, device_pointer from, size_t size, stream *s) {
    return copy(DOWNLOAD, (char *)from, to, size, s);
}

static status launch_kernel(function *f, unsigned x, unsigned y, unsigned z, unsigned threads,
                            unsigned threads_y, unsigned threads_z, unsigned shared, stream *s,
                            void **parameters, void **extra) {
    READY();
    if (!f->owner->live) return violation("launch of a kernel whose module was unloaded");
    if (!x || !y || !z || x > 2147483647u || y > 65535 || z > 65535) return INVALID_VALUE;
    if (!threads || threads * threads_y * threads_z > 1024 || shared > f->shared || extra)
        return INVALID_VALUE;
    operation item = {.action = LAUNCH, .function = f, .grid = {x, y, z}, .shared = shared};
    item.threads = threads;
    for (unsigned p = 0; p < f->n; p++) memcpy(&item.values[p], parameters[p], f->sizes[p]);
    return enqueue(s, &item);
}

static status run_launch(const operation *o) {
    char values[24 * MAX_PARAMETERS + 1] = "";
    int is_illegal = ++launches == setting("STUB_CUDA_FAIL_LAUNCH", 0);
    for (unsigned p = 0; p < o->function->n; p++) {
        unsigned size = o->function->sizes[p];
        snprintf(values + strlen(values), 24, " %u:%llu", size, (unsigned long long)o->values[p]);
        if (size == 8 && o->values[p] && !find((char *)o->values[p], 1, DEVICE)) {
            violation("a kernel was given memory that is not there");
            is_illegal = 1;
        }
    }
    say("launch %s grid %u %u %u threads %u shared %u parameters%s", o->function->name, o->grid[0],
        o->grid[1], o->grid[2], o->threads, o->shared, values);
    return is_illegal ? ILLEGAL_ADDRESS : OK;
}

static status run(const operation *o) {
    if (o->action == LAUNCH) return run_launch(o);
    if (!find(o->device, o->size, DEVICE)) return ILLEGAL_ADDRESS;
    if (o->action == UPLOAD) memcpy(o->device, o->host, o->size);
    else memcpy(o->host, o->device, o->size);
    say(o->action == UPLOAD ? "upload %zu" : "download %zu", o->size);
    return OK;
}

static status stream_create(stream **made, unsigned flags) {
    READY();
    if (flags > 1 || n_streams == 64) return INVALID_VALUE;
    stream *s = calloc(1, sizeof *s);
    s->live = 1;
    streams[n_streams++] = s;
    n_live[2]++;
    say("stream %llu flags %u", (unsigned long long)(uintptr_t)s, flags);
    *made = s;
    return OK;
}

/* Events only order streams here: recorded in a capture, they take other streams into it. */
static status event_create(event **made, unsigned flags) {
    READY();
    *made = calloc(1, sizeof **made);
    (*made)->live = 1;
    return flags == 2 ? OK : INVALID_VALUE;
}

static status event_destroy(event *e) {
    READY();
    if (!e->live) return violation("event destroyed twice");
    e->live = 0;
    return OK;
}

static status event_record(event *e, stream *s) {
    READY();
    if (!e->live || !s->live) return violation("event or stream that was destroyed");
    e->from = s->capturing ? s : NULL;
    e->mark = s->n_captured;
    return OK;
}

static status stream_wait_event(stream *s, event *e, unsigned flags) {
    READY();
    if (!e->live || !s->live || flags) return violation("event or stream that was destroyed");
    if (!e->from) return violation("wait for an event of no capture");
    if (s->capturing) {
        e->from->joined = e->mark + 1;
        return OK;
    }
    s->capturing = 1;
    s->origin = e->from->origin ? e->from->origin : e->from;
    s->n_captured = s->joined = 0;
    return OK;
}

static status stream_synchronize(stream *s) {
    READY();
    if (!s || !s->live) return violation("a destroyed stream synchronized");
    if (s->capturing) {
        s->invalid = 1;
        return CAPTURE_UNSUPPORTED;
    }
    for (size_t i = 0; i < s->pending.n && !sticky; i++) sticky = run(&s->pending.items[i]);
    s->pending.n = 0;
    return sticky;
}

static status stream_destroy(stream *s) {
    READY();
    if (!s->live) return violation("stream destroyed twice");
    if (s->pending.n) return violation("stream destroyed before its work was done");
    s->live = 0;
    n_live[2]--;
    return OK;
}

static status begin_capture(stream *s, int mode) {
    READY();
    if (!s->live || s->capturing || mode < 0 || mode > 2) return INVALID_VALUE;
    s->capturing = 1;
    s->invalid = 0;
    s->mode = mode;
    s->captured = (work){NULL, 0};
    s->n_branches = 1;
    return OK;
}

static status end_capture(stream *s, graph **made) {
    *made = NULL;
    READY();
    if (!s->capturing || s->origin) return violation("end of a capture that did not begin");
    s->capturing = 0;
    int is_joined = 1;
    for (size_t i = 0; i < n_streams; i++)
        if (streams[i]->origin == s) {
            s->n_branches += streams[i]->n_captured > 0;
            is_joined = is_joined && streams[i]->joined == streams[i]->n_captured + 1;
            streams[i]->capturing = 0;
            streams[i]->origin = NULL;
        }
    if (s->invalid) {
        s->invalid = 0;
        return CAPTURE_INVALIDATED;
    }
    if (!is_joined) return violation("a branch of the capture was not joined");
    *made = calloc(1, sizeof **made);
    **made = (graph){s->captured, 1, 0, s->n_branches};
    n_live[1]++;
    return OK;
}

static status instantiate(graph **made, graph *g, unsigned long long flags) {
    READY();
    if (!g || !g->live || g->executable || flags) return violation("no graph to instantiate");
    *made = calloc(1, sizeof **made);
    for (size_t i = 0; i < g->work.n; i++) {
        operation item = g->work.items[i];
        item.source = *made;
        append(&(*made)->work, &item);
    }
    (*made)->live = (*made)->executable = 1;
    (*made)->n_branches = g->n_branches;
    n_live[1]++;
    return OK;
}

static status graph_destroy(graph *g) {
    READY();
    if (!g->live) return violation("graph destroyed twice");
    if (is_awaited(NULL, NULL, g)) return violation("graph destroyed that still runs");
    g->live = 0;
    n_live[1]--;
    return OK;
}

static status graph_launch(graph *g, stream *s) {
    READY();
    if (!g->live || !g->executable) return violation("replay of what is no executable graph");
    if (g->n_branches == 1) say("graph of %zu", g->work.n);
    else say("graph of %zu in %d branches", g->work.n, g->n_branches);
    status failed = OK;
    for (size_t i = 0; i < g->work.n && !failed; i++) failed = enqueue(s, &g->work.items[i]);
    return failed;
}
#endif
