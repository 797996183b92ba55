/* What the processor has, for the choice of a build (`edge_codec/native_build.py`). Needs Python.h. */
#ifndef EDGE_CODEC_PROCESSOR_H
#define EDGE_CODEC_PROCESSOR_H

/* Those that the system supports as well: it has to save their registers. */
static PyObject *py_features(PyObject *self, PyObject *none) {
    int avx2 = 0, avx512 = 0;
    (void)self, (void)none;
#if defined(__x86_64__) && defined(__GNUC__)
    avx2 = __builtin_cpu_supports("avx2") != 0;
    avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni");
#endif
    return Py_BuildValue("{s:O,s:O}", "avx2", avx2 ? Py_True : Py_False, "avx512",
                         avx512 ? Py_True : Py_False);
}

#endif
