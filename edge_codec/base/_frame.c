/* Whole frames in one go: look-ups of samples and codes, and the check of a frame.
 *
 * look_up_codes(samples, table, codes, rows, columns): codes[r, c] = table[samples[r, c]], uint32 to
 * uint8, where the codes' frame may be larger and repeats the last row and column.
 * look_up_samples(codes, table, samples, rows, columns): samples[r, c] = table[codes[r, c]] of the
 * top left part of a frame of codes. Both return whether all indices were in the table.
 * crc32(data): what zlib's gives, by carry-less products where the processor has them.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>

#define CLMUL __attribute__((target("pclmul,sse4.1")))

static int has_clmul(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

CLMUL static inline __m128i fold(__m128i sum, __m128i by, __m128i next) {
    const __m128i low = _mm_clmulepi64_si128(sum, by, 0x00);
    const __m128i high = _mm_clmulepi64_si128(sum, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* Gopal et al., "Fast CRC computation for generic polynomials using PCLMULQDQ" (Intel, 2009), for
 * the reflected polynomial 0xEDB88320; `size` is a multiple of 16, 64 or more. */
CLMUL static uint32_t crc_by_products(uint32_t crc, const uint8_t *data, size_t size) {
    const __m128i by_64 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
    const __m128i by_16 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    const __m128i by_8 = _mm_set_epi64x(0, 0x0163cd6124);
    const __m128i barrett = _mm_set_epi64x(0x01f7011641, 0x01db710641);
    const __m128i low_word = _mm_setr_epi32(~0, 0, ~0, 0);
    const __m128i *block = (const __m128i *)data;
    __m128i a = _mm_xor_si128(_mm_loadu_si128(block), _mm_cvtsi32_si128((int)crc));
    __m128i b = _mm_loadu_si128(block + 1), c = _mm_loadu_si128(block + 2);
    __m128i d = _mm_loadu_si128(block + 3);
    for (block += 4, size -= 64; size >= 64; block += 4, size -= 64) {
        a = fold(a, by_64, _mm_loadu_si128(block));
        b = fold(b, by_64, _mm_loadu_si128(block + 1));
        c = fold(c, by_64, _mm_loadu_si128(block + 2));
        d = fold(d, by_64, _mm_loadu_si128(block + 3));
    }
    a = fold(fold(fold(a, by_16, b), by_16, c), by_16, d);
    for (; size >= 16; block++, size -= 16) a = fold(a, by_16, _mm_loadu_si128(block));
    /* 128 bits to 64, to 32, and the remainder by Barrett's method. */
    __m128i t = _mm_clmulepi64_si128(a, by_16, 0x10);
    a = _mm_xor_si128(_mm_srli_si128(a, 8), t);
    t = _mm_srli_si128(a, 4);
    a = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(a, low_word), by_8, 0x00), t);
    t = _mm_clmulepi64_si128(_mm_and_si128(a, low_word), barrett, 0x10);
    t = _mm_clmulepi64_si128(_mm_and_si128(t, low_word), barrett, 0x00);
    return (uint32_t)_mm_extract_epi32(_mm_xor_si128(a, t), 1);
}
#else
static int has_clmul(void) { return 0; }

static uint32_t crc_by_products(uint32_t crc, const uint8_t *data, size_t size) {
    (void)data, (void)size;
    return crc;
}
#endif

/* Bit by bit: for the few bytes behind the last block. */
static uint32_t crc_by_bits(uint32_t crc, const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
    }
    return crc;
}

static PyObject *py_crc32(PyObject *self, PyObject *args) {
    Py_buffer data;
    uint32_t crc = ~0u;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*", &data)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    size_t blocks = has_clmul() && data.len >= 64 ? (size_t)data.len / 16 * 16 : 0;
    if (blocks) crc = crc_by_products(crc, data.buf, blocks);
    crc = crc_by_bits(crc, (const uint8_t *)data.buf + blocks, (size_t)data.len - blocks);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLong(crc ^ ~0u);
}

static PyObject *py_has_clmul(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    return PyBool_FromLong(has_clmul());
}

/* Eight at a time: loads of the table do not wait for stores, which the compiler cannot know. */
static void look_up_row(const uint32_t *restrict samples, const uint8_t *restrict table,
                        uint8_t *restrict codes, size_t columns) {
    size_t c = 0;
    for (; c + 8 <= columns; c += 8) {
        uint64_t eight = 0;
        for (int i = 7; i >= 0; i--) eight = eight << 8 | table[samples[c + (size_t)i]];
        for (int i = 0; i < 8; i++) codes[c + (size_t)i] = (uint8_t)(eight >> 8 * i);
    }
    for (; c < columns; c++) codes[c] = table[samples[c]];
}

static int codes_of(const uint32_t *samples, const uint8_t *table, size_t entries, uint8_t *codes,
                    size_t rows, size_t columns, size_t high, size_t wide) {
    int unknown = 0;
    for (size_t i = 0; i < rows * columns; i++) unknown |= samples[i] >= entries;
    if (unknown) return 0;
    for (size_t r = 0; r < rows; r++, samples += columns) {
        uint8_t *row = codes + r * wide;
        look_up_row(samples, table, row, columns);
        memset(row + columns, row[columns - 1], wide - columns);
    }
    for (size_t r = rows; r < high; r++) memcpy(codes + r * wide, codes + (rows - 1) * wide, wide);
    return 1;
}

static PyObject *fail(void) {
    PyErr_SetString(PyExc_ValueError, "arrays do not fit each other");
    return NULL;
}

static PyObject *py_look_up_codes(PyObject *self, PyObject *args) {
    Py_buffer samples, table, codes;
    Py_ssize_t rows, columns, high, wide;
    int known = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*w*(nn)(nn)", &samples, &table, &codes, &rows, &columns, &high,
                          &wide))
        return NULL;
    const int fits = rows >= 1 && columns >= 1 && high >= rows && wide >= columns &&
                     high < 1 << 20 && wide < 1 << 20 && samples.len == 4 * rows * columns &&
                     codes.len == high * wide;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        known = codes_of(samples.buf, table.buf, (size_t)table.len, codes.buf, (size_t)rows,
                         (size_t)columns, (size_t)high, (size_t)wide);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&samples);
    PyBuffer_Release(&table);
    PyBuffer_Release(&codes);
    return fits ? PyBool_FromLong(known) : fail();
}

static PyObject *py_look_up_samples(PyObject *self, PyObject *args) {
    Py_buffer codes, table, samples;
    Py_ssize_t rows, columns, high, wide;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*w*(nn)(nn)", &codes, &table, &samples, &rows, &columns, &high,
                          &wide))
        return NULL;
    const int fits = rows >= 1 && columns >= 1 && high >= rows && wide >= columns &&
                     high < 1 << 20 && wide < 1 << 20 && samples.len == 4 * rows * columns &&
                     codes.len == high * wide && table.len == 4 * 256;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        const uint8_t *from = codes.buf;
        const uint32_t *values = table.buf;
        uint32_t *to = samples.buf;
        for (Py_ssize_t r = 0; r < rows; r++, from += wide, to += columns)
            for (Py_ssize_t c = 0; c < columns; c++) to[c] = values[from[c]];
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&codes);
    PyBuffer_Release(&table);
    PyBuffer_Release(&samples);
    if (!fits) return fail();
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"look_up_codes", py_look_up_codes, METH_VARARGS, "samples to codes; see the file's head"},
    {"look_up_samples", py_look_up_samples, METH_VARARGS, "codes to samples"},
    {"crc32", py_crc32, METH_VARARGS, "CRC-32 of some bytes"},
    {"has_clmul", py_has_clmul, METH_NOARGS, "whether crc32 is fast here; else zlib's is"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_frame", "Whole frames in one go.", 0, METHODS, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__frame(void) { return PyModule_Create(&MODULE); }
