/* Exact int8 networks on the CPU: chains of convolutions in integers.
 *
 * load(level, unpack, table, layers) makes a network. A layer is ((inputs, outputs, kernel, stride,
 * spread, is_signed), weights, bias, shift): int8 weights in the order (output, row, column,
 * input), int32 bias and shift; `edge_codec.kernels.int8_layer` says what they mean, and its `pack`
 * has proven that no sum reaches 2**25. run(network, source, images, height, width, result,
 * threads) runs it; the interpreter is free meanwhile. Sizes are those of the first layer's input
 * in its pixels. What does not fit is refused here once more, since C has no second chance.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "network.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define CAPSULE "edge_codec.runtime.native._int8"
#define MAX_SHIFT 26

enum { VNNI_LEVEL, AVX2_LEVEL, PLAIN_LEVEL, N_LEVELS };
static const char *const LEVELS[N_LEVELS] = {"vnni", "avx2", "plain"};

static int is_there(int level) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (level == VNNI_LEVEL)
        return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (level == AVX2_LEVEL) return __builtin_cpu_supports("avx2");
#endif
    return level == PLAIN_LEVEL;
}

static void choose(layer *l, int level) {
    l->lanes = (l->outputs + LANES - 1) / LANES * LANES;
    l->vectors = 1;
    l->row = plain_row;
#if defined(__x86_64__)
    if (level == AVX2_LEVEL) l->row = avx2_row;
    if (level == VNNI_LEVEL) {
        l->vectors = l->lanes % (4 * LANES) == 0 ? 4 : l->lanes % (2 * LANES) == 0 ? 2 : 1;
        l->row = l->vectors == 4 ? vnni_row_4 : l->vectors == 2 ? vnni_row_2 : vnni_row_1;
    }
#else
    (void)level;
#endif
}

static int is_sound(const layer *l, const Py_buffer *weights, const Py_buffer *bias,
                    const Py_buffer *shift) {
    if (l->inputs < 4 || l->inputs > 4096 || l->inputs % 4 || l->outputs < 1 ||
        l->outputs > 4096 || l->kernel < 1 || l->kernel > 7 ||
        l->kernel % 2 == 0 || l->stride < 1 || l->stride > 4 || l->spread < 1 || l->spread > 16 ||
        l->outputs % (l->spread * l->spread))
        return 0;
    const int64_t count = (int64_t)l->outputs * l->kernel * l->kernel * l->inputs;
    if (weights->len != count || bias->len != 4 * l->outputs || shift->len != 4 * l->outputs)
        return 0;
    for (int i = 0; i < l->outputs; i++) {
        int32_t places;
        memcpy(&places, (const char *)shift->buf + 4 * i, 4);
        if (places < 0 || places > MAX_SHIFT) return 0;
    }
    return 1;
}

/* Arrange a layer's numbers for its tiles; returns 0 without memory. */
static int pack(layer *l, const int8_t *weights, const int32_t *bias, const int32_t *shift) {
    const int window = l->kernel * l->inputs, lanes = l->lanes, block = LANES * l->vectors;
    const size_t size = (size_t)lanes * l->kernel * window;
    l->weights = aligned(size);
    l->numbers = calloc((size_t)lanes * 4, sizeof(int32_t));
    if (!l->weights || !l->numbers) return 0;
    memset(l->weights, 0, size);
    int8_t *to = l->weights;
    for (int first = 0; first < lanes; first += block)
        for (int row = 0; row < l->kernel; row++)
            for (int g = 0; g < window; g += 4)
                for (int o = first; o < first + block; o++, to += 4)
                    if (o < l->outputs)
                        memcpy(to, weights + ((ptrdiff_t)o * l->kernel + row) * window + g, 4);
    memcpy(l->numbers, bias, (size_t)l->outputs * 4);
    memcpy(l->numbers + lanes, shift, (size_t)l->outputs * 4);
    for (int o = 0; o < lanes; o++) {
        const int places = l->numbers[lanes + o];
        l->numbers[2 * lanes + o] = places ? (1 << (places - 1)) - 1 : 0;
        l->numbers[3 * lanes + o] = places ? 1 : 0;
    }
    return 1;
}

#if defined(__x86_64__)
static int exceeds(const Py_buffer *weights, int largest) {
    for (Py_ssize_t i = 0; i < weights->len; i++)
        if (abs(((const int8_t *)weights->buf)[i]) > largest) return 1;
    return 0;
}
#endif

/* Read one layer; returns 0 with an exception set. */
static int read_layer(layer *l, PyObject *tuple, int level) {
    Py_buffer b[3];
    if (!PyArg_ParseTuple(tuple, "(iiiiip)y*y*y*", &l->inputs, &l->outputs, &l->kernel, &l->stride,
                          &l->spread, &l->is_signed, &b[0], &b[1], &b[2]))
        return 0;
    int done = is_sound(l, &b[0], &b[1], &b[2]);
    if (!done) {
        PyErr_SetString(PyExc_ValueError, "a layer that has no such sizes or numbers");
    } else {
#if defined(__x86_64__)
        if (level == AVX2_LEVEL && exceeds(&b[0], AVX2_MAX_WEIGHT)) level = PLAIN_LEVEL;
#endif
        choose(l, level);
        done = pack(l, b[0].buf, b[1].buf, b[2].buf);
        if (!done) PyErr_NoMemory();
    }
    for (int i = 0; i < 3; i++) PyBuffer_Release(&b[i]);
    return done;
}

static int read_level(const char *name) {
    int level = 0;
    while (level < N_LEVELS && strcmp(name, LEVELS[level])) level++;
    if (level < N_LEVELS && is_there(level)) return level;
    PyErr_Format(PyExc_ValueError, "this processor has no level '%s'", name);
    return -1;
}

/* Read the table of what tokens stand for; returns 0 with an exception set. */
static int read_table(network *net, const Py_buffer *table) {
    const int inputs = net->layers[0].inputs;
    if (!table->buf) {
        if (net->unpack >= 1 && net->unpack * net->unpack == inputs) return 1;
        PyErr_SetString(PyExc_ValueError, "blocks are no pixels of the first layer");
        return 0;
    }
    if (!table->len || table->len % inputs || table->len / inputs > 1 << 24) {
        PyErr_SetString(PyExc_ValueError, "a table without rows of the first layer's inputs");
        return 0;
    }
    net->table_rows = (int)(table->len / inputs);
    net->table = aligned((size_t)table->len);
    if (!net->table) {
        PyErr_NoMemory();
        return 0;
    }
    memcpy(net->table, table->buf, (size_t)table->len);
    return 1;
}

static void drop(PyObject *capsule) { free_network(PyCapsule_GetPointer(capsule, CAPSULE)); }

static int read_layers(network *net, PyObject *layers, int level) {
    const Py_ssize_t count = PyTuple_GET_SIZE(layers);
    if (count < 1 || count > MAX_LAYERS) {
        PyErr_Format(PyExc_ValueError, "%zd layers; use 1 to %d", count, MAX_LAYERS);
        return 0;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        layer *l = &net->layers[net->n_layers++];
        if (!read_layer(l, PyTuple_GET_ITEM(layers, i), level)) return 0;
        const layer *before = l - 1;
        if (i && before->outputs != l->inputs * before->spread * before->spread) {
            PyErr_SetString(PyExc_ValueError, "a layer has other inputs than the one before makes");
            return 0;
        }
    }
    return 1;
}

static PyObject *py_load(PyObject *self, PyObject *args) {
    const char *name;
    Py_buffer table;
    PyObject *layers, *capsule = NULL;
    int unpack;
    (void)self;
    if (!PyArg_ParseTuple(args, "siz*O!", &name, &unpack, &table, &PyTuple_Type, &layers))
        return NULL;
    const int level = read_level(name);
    network *net = level < 0 ? NULL : calloc(1, sizeof *net);
    if (net) {
        pthread_mutex_init(&net->lock, NULL);
        net->unpack = unpack;
        if (read_layers(net, layers, level) && read_table(net, &table))
            capsule = PyCapsule_New(net, CAPSULE, drop);
        if (!capsule) free_network(net);
    } else if (level >= 0) {
        PyErr_NoMemory();
    }
    PyBuffer_Release(&table);
    return capsule;
}

static int64_t source_size(const network *net, Py_ssize_t images, int height, int width) {
    return (int64_t)images * height * width * (net->table ? 4 : net->unpack * net->unpack);
}

static int64_t result_size(const network *net, const workspace *s, Py_ssize_t images) {
    const step *end = &s->steps[net->n_layers];
    return (int64_t)images * end->rows * end->columns * net->layers[net->n_layers - 1].outputs;
}

static PyObject *py_run(PyObject *self, PyObject *args) {
    PyObject *capsule, *answer = NULL;
    Py_buffer source, result;
    Py_ssize_t images;
    int height, width, threads, known = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "Oy*niiw*i", &capsule, &source, &images, &height, &width, &result,
                          &threads))
        return NULL;
    network *net = PyCapsule_GetPointer(capsule, CAPSULE);
    workspace *s = NULL;
    if (net && (height < 1 || width < 1 || height > 1 << 16 || width > 1 << 16 || images < 1 ||
                images > 1 << 16)) {
        PyErr_Format(PyExc_ValueError, "%zd images of %dx%d", images, height, width);
    } else if (net && source.len != source_size(net, images, height, width)) {
        PyErr_SetString(PyExc_ValueError, "a source of another size than the images");
    } else if (net && !(s = take_workspace(net, height, width))) {
        PyErr_NoMemory();
    } else if (net && result.len != result_size(net, s, images)) {
        PyErr_SetString(PyExc_ValueError, "a result of another size than the images");
    } else if (net) {
        Py_BEGIN_ALLOW_THREADS
        known = run_network(net, s, source.buf, result.buf, images, threads);
        Py_END_ALLOW_THREADS
        answer = PyBool_FromLong(known);
    }
    if (s) keep_workspace(net, s);
    PyBuffer_Release(&source);
    PyBuffer_Release(&result);
    return answer;
}

static PyObject *py_levels(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    PyObject *names = PyList_New(0);
    for (int level = 0; names && level < N_LEVELS; level++) {
        if (!is_there(level)) continue;
        PyObject *name = PyUnicode_FromString(LEVELS[level]);
        if (!name || PyList_Append(names, name)) Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

/* Whether the processor has AMX, with which other libraries are faster. */
static PyObject *py_has_amx(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    int amx = 0;
#if defined(__x86_64__)
    unsigned a, b, c, d;
    amx = __get_cpuid_count(7, 0, &a, &b, &c, &d) && d >> 25 & 1; /* AMX-INT8 */
#endif
    return PyBool_FromLong(amx);
}

static PyMethodDef METHODS[] = {
    {"has_amx", py_has_amx, METH_NOARGS, "whether the processor multiplies int8 matrices"},
    {"levels", py_levels, METH_NOARGS, "instruction sets of this processor, best first"},
    {"load", py_load, METH_VARARGS, "make a network; see the file's head"},
    {"run", py_run, METH_VARARGS, "run images through it; whether all tokens were known"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_int8", "Exact int8 networks on the CPU.", 0, METHODS,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__int8(void) { return PyModule_Create(&MODULE); }
