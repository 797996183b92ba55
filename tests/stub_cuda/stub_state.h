/* The stub's log and settings, and what it knows of all that was made. */
#ifndef STUB_STATE_H
#define STUB_STATE_H
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PARAMETERS 64
#define MAX_BLOCKS 65536
#define GUARD 0xA5

typedef int status;
typedef unsigned long long device_pointer;
enum {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY = 209,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
};

static int setting(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

/* Bytes of shared memory that a kernel may ask for. */
static int shared_limit(void) {
    int capability = setting("STUB_CUDA_CAPABILITY", 90);
    if (capability == 80 || capability == 87) return 166912;
    return capability == 90 || capability == 100 || capability == 110 ? 232448 : 101376;
}

static void write_line(const char *format, va_list arguments) {
    const char *path = getenv("STUB_CUDA_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    vfprintf(file, format, arguments);
    fputc('\n', file);
    fclose(file);
}

static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(format, arguments);
    va_end(arguments);
}

static status violation(const char *what) {
    say("VIOLATION %s", what);
    return INVALID_VALUE;
}

/* ------------------------------------------------------------------------------------- objects */

typedef enum { DEVICE = 1, PINNED = 2 } kind;
typedef struct {
    char *start;
    size_t size;
    kind kind;
    int live;
} block;

typedef struct {
    char *image; /* of one ELF file */
    size_t size;
    int live;
} module;

typedef struct {
    module *owner;
    char name[256];
    unsigned sizes[MAX_PARAMETERS];
    unsigned offsets[MAX_PARAMETERS];
    unsigned n;
    unsigned shared;
} function;

typedef enum { UPLOAD, DOWNLOAD, LAUNCH } action;
typedef struct graph graph;
typedef struct operation {
    action action;
    char *device, *host;
    size_t size;
    function *function;
    unsigned grid[3], threads, shared;
    uint64_t values[MAX_PARAMETERS];
    graph *source; /* replayed from it, or NULL */
} operation;

typedef struct {
    operation *items;
    size_t n;
} work;

struct graph {
    work work;
    int live, executable, n_branches;
};

typedef struct stream stream;
struct stream {
    work pending, captured;
    int live, capturing, invalid, mode, n_branches;
    stream *origin;            /* whose capture it has been taken into, or NULL */
    size_t n_captured, joined; /* operations, and those that the origin waits for, plus 1 */
};

typedef struct {
    stream *from; /* in whose capture it was recorded, or NULL */
    size_t mark;  /* operations before it */
    int live;
} event;

static block blocks[MAX_BLOCKS];
static size_t n_blocks;
static stream *streams[64];
static size_t n_streams;
static int initialized, retained, allocations, launches;
static int n_live[4]; /* modules, graphs, streams, blocks */
static status sticky;
static int context; /* its address is the primary context */
static __thread void *current[16];
static __thread int depth; /* of the stack of contexts below the current one */

static status ready(void) {
    if (!initialized) return NOT_INITIALIZED;
    if (sticky) return sticky;
    return current[depth] == &context && retained > 0 ? OK : INVALID_CONTEXT;
}
#define READY()                       \
    do {                              \
        status ready_ = ready();      \
        if (ready_) return ready_;    \
    } while (0)

static void append(work *list, const operation *item) {
    list->items = realloc(list->items, (list->n + 1) * sizeof *list->items);
    list->items[list->n++] = *item;
}

static block *find(const char *start, size_t size, kind wanted) {
    for (size_t i = 0; i < n_blocks; i++) {
        block *b = &blocks[i];
        if (b->live && b->kind == wanted && b->start <= start && start + size <= b->start + b->size)
            return b;
    }
    return NULL;
}

/* Whether work that has not run yet touches a block, a module or a graph. */
static int is_awaited(const block *memory, const module *code, const graph *replayed) {
    for (size_t s = 0; s < n_streams; s++)
        for (size_t i = 0; i < streams[s]->pending.n; i++) {
            const operation *o = &streams[s]->pending.items[i];
            if (replayed && o->source == replayed) return 1;
            if (code && o->action == LAUNCH && o->function->owner == code) return 1;
            if (!memory) continue;
            const char *first = memory->start, *end = first + memory->size;
            if (o->action != LAUNCH &&
                ((o->device >= first && o->device < end) || (o->host >= first && o->host < end)))
                return 1;
            for (unsigned p = 0; o->action == LAUNCH && p < o->function->n; p++)
                if (o->function->sizes[p] == 8 && (char *)o->values[p] >= first &&
                    (char *)o->values[p] < end)
                    return 1;
        }
    return 0;
}

/* Whether a stream records in a mode in which this thread may not call what could wait. */
static int is_strict_capture(void) {
    for (size_t s = 0; s < n_streams; s++)
        if (streams[s]->live && streams[s]->capturing && streams[s]->mode != 2) return 1;
    return 0;
}
#endif
