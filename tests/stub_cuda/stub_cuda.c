/* A stand-in for NVIDIA's libcuda.so.1: tests of edge_codec.runtime.cuda_device without a GPU.
 *
 * Device memory is the host's, copies are real, and kernels do not run: a launch is a line in a
 * log, with the parameters that were found at the addresses given, in the sizes that the machine
 * code states.  Work runs only when its stream is synchronized, the latest that a driver may run
 * it, so that what is freed or changed too early is noticed.  Misuse that a driver might forgive,
 * or answer with a crash, gives a line "VIOLATION ..." and an error.
 *
 * Environment: STUB_CUDA_LOG (file), STUB_CUDA_CAPABILITY (90), STUB_CUDA_DRIVER (13000),
 * STUB_CUDA_DEVICES (1), STUB_CUDA_FAIL_ALLOC=k (the k-th allocation finds no memory),
 * STUB_CUDA_FAIL_LAUNCH=k (the k-th kernel that runs reads an illegal address).
 */
#include "stub_module.h"
#include "stub_state.h"
#include "stub_work.h"

#define EXPORT __attribute__((visibility("default")))

/* --------------------------------------------------------------------- driver, device, context */

static const struct {
    status code;
    const char *name, *text;
} statuses[] = {
    {OK, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "not while a stream captures"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "capture failed earlier"},
};

static status get_error(status code, const char **text, int by_name) {
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].code == code) {
            *text = by_name ? statuses[i].name : statuses[i].text;
            return OK;
        }
    *text = NULL;
    return INVALID_VALUE;
}
static status get_error_name(status code, const char **text) { return get_error(code, text, 1); }
static status get_error_string(status code, const char **text) { return get_error(code, text, 0); }

static status driver_get_version(int *version) {
    *version = setting("STUB_CUDA_DRIVER", 13000);
    return OK;
}

static status init(unsigned flags) {
    if (flags) return INVALID_VALUE;
    if (setting("STUB_CUDA_DEVICES", 1) == 0) return NO_DEVICE;
    initialized = 1;
    return OK;
}

static status device_get_count(int *count) {
    *count = setting("STUB_CUDA_DEVICES", 1);
    return initialized ? OK : NOT_INITIALIZED;
}

static status device_get(int *device, int ordinal) {
    *device = ordinal;
    if (!initialized) return NOT_INITIALIZED;
    return ordinal >= 0 && ordinal < setting("STUB_CUDA_DEVICES", 1) ? OK : INVALID_DEVICE;
}

static status device_get_name(char *name, int length, int device) {
    (void)device;
    snprintf(name, (size_t)length, "Stub GPU");
    return OK;
}

static status device_get_attribute(int *value, int attribute, int device) {
    (void)device;
    int capability = setting("STUB_CUDA_CAPABILITY", 90);
    if (attribute == 75) *value = capability / 10;
    else if (attribute == 76) *value = capability % 10;
    else if (attribute == 97) *value = shared_limit();
    else return INVALID_VALUE;
    return OK;
}

static status primary_retain(void **handle, int device) {
    (void)device;
    if (!initialized) return NOT_INITIALIZED;
    retained++;
    *handle = &context;
    return OK;
}

static status primary_release(int device) {
    (void)device;
    if (retained < 1) return violation("context released twice");
    retained--;
    if (!retained && !sticky && (n_live[0] || n_live[1] || n_live[2] || n_live[3]))
        violation("context released before what is in it");
    say("release");
    return OK;
}

static status context_set_current(void *handle) {
    if (sticky) return sticky;
    if (handle && (handle != &context || !retained)) return INVALID_CONTEXT;
    current[depth] = handle;
    return OK;
}

static status context_push(void *handle) {
    if (handle != &context || !retained) return INVALID_CONTEXT;
    current[++depth] = handle;
    return OK;
}

static status context_pop(void **handle) {
    if (depth < 1) return INVALID_CONTEXT;
    *handle = current[depth--];
    return OK;
}

/* -------------------------------------------------------------------------------------- memory */

static char *reserve(size_t size, kind wanted) {
    char *start = n_blocks < MAX_BLOCKS ? aligned_alloc(4096, (size + 4095) / 4096 * 4096) : NULL;
    if (!start) return NULL;
    memset(start, GUARD, size);
    blocks[n_blocks++] = (block){start, size, wanted, 1};
    n_live[3]++;
    return start;
}

/* Freed memory is not given back, so that its address stays recognizable. */
static status release(void *start, kind wanted) {
    for (size_t i = 0; i < n_blocks; i++) {
        block *b = &blocks[i];
        if (b->start != start || b->kind != wanted) continue;
        if (!b->live) return violation("memory freed twice");
        if (is_awaited(b, NULL, NULL)) return violation("memory freed that work still needs");
        memset(b->start, 0xDD, b->size);
        b->live = 0;
        n_live[3]--;
        say("free %zu", b->size);
        return OK;
    }
    return violation("memory freed that was never allocated");
}

static status memory_allocate(device_pointer *pointer, size_t size) {
    READY();
    if (is_strict_capture()) return CAPTURE_UNSUPPORTED;
    if (!size) return INVALID_VALUE;
    if (++allocations == setting("STUB_CUDA_FAIL_ALLOC", 0)) return OUT_OF_MEMORY;
    char *start = reserve(size, DEVICE);
    *pointer = (device_pointer)start;
    return start ? OK : OUT_OF_MEMORY;
}

static status memory_free(device_pointer pointer) {
    READY();
    if (is_strict_capture()) return violation("memory freed in a capture that forbids it");
    return release((void *)pointer, DEVICE);
}

static status host_allocate(void **pointer, size_t size, unsigned flags) {
    READY();
    if (!size || flags > 7) return INVALID_VALUE;
    if (++allocations == setting("STUB_CUDA_FAIL_ALLOC", 0)) return OUT_OF_MEMORY;
    *pointer = reserve(size, PINNED);
    return *pointer ? OK : OUT_OF_MEMORY;
}

static status host_free(void *pointer) {
    READY();
    return release(pointer, PINNED);
}

/* -------------------------------------------------------------------------------- entry points */

EXPORT status cuGetProcAddress_v2(const char *, void **, int, uint64_t, int *);
#define ENTRY(name, since, function) {name, since, (void *)(function)}
static const struct {
    const char *name;
    int since; /* version of CUDA from which on the name means these parameters */
    void *function;
} entries[] = {
    ENTRY("cuGetErrorName", 6000, get_error_name),
    ENTRY("cuGetErrorString", 6000, get_error_string),
    ENTRY("cuDriverGetVersion", 2020, driver_get_version),
    ENTRY("cuInit", 2000, init),
    ENTRY("cuDeviceGetCount", 2000, device_get_count),
    ENTRY("cuDeviceGet", 2000, device_get),
    ENTRY("cuDeviceGetName", 2000, device_get_name),
    ENTRY("cuDeviceGetAttribute", 2000, device_get_attribute),
    ENTRY("cuDevicePrimaryCtxRetain", 7000, primary_retain),
    ENTRY("cuDevicePrimaryCtxRelease", 11000, primary_release),
    ENTRY("cuCtxSetCurrent", 4000, context_set_current),
    ENTRY("cuCtxPushCurrent", 4000, context_push),
    ENTRY("cuCtxPopCurrent", 4000, context_pop),
    ENTRY("cuMemAlloc", 3020, memory_allocate),
    ENTRY("cuMemFree", 3020, memory_free),
    ENTRY("cuMemHostAlloc", 2020, host_allocate),
    ENTRY("cuMemFreeHost", 2000, host_free),
    ENTRY("cuMemcpyHtoDAsync", 3020, copy_to_device),
    ENTRY("cuMemcpyDtoHAsync", 3020, copy_to_host),
    ENTRY("cuModuleLoadData", 2000, module_load),
    ENTRY("cuModuleUnload", 2000, module_unload),
    ENTRY("cuModuleGetFunction", 2000, module_get_function),
    ENTRY("cuFuncSetAttribute", 9000, function_set_attribute),
    ENTRY("cuFuncGetParamInfo", 12040, function_get_parameter),
    ENTRY("cuLaunchKernel", 4000, launch_kernel),
    ENTRY("cuStreamCreate", 2000, stream_create),
    ENTRY("cuStreamSynchronize", 2000, stream_synchronize),
    ENTRY("cuStreamDestroy", 4000, stream_destroy),
    ENTRY("cuEventCreate", 2000, event_create),
    ENTRY("cuEventDestroy", 4000, event_destroy),
    ENTRY("cuEventRecord", 2000, event_record),
    ENTRY("cuStreamWaitEvent", 3020, stream_wait_event),
    ENTRY("cuStreamBeginCapture", 10010, begin_capture),
    ENTRY("cuStreamEndCapture", 10000, end_capture),
    ENTRY("cuGraphInstantiateWithFlags", 11040, instantiate),
    ENTRY("cuGraphInstantiate", 12000, instantiate),
    ENTRY("cuGraphDestroy", 10000, graph_destroy),
    ENTRY("cuGraphExecDestroy", 10000, graph_destroy),
    ENTRY("cuGraphLaunch", 10000, graph_launch),
    ENTRY("cuGetProcAddress", 12000, cuGetProcAddress_v2),
};

/* How cuda-python finds every function: by name, and the version whose parameters it will pass. */
EXPORT status cuGetProcAddress_v2(const char *name, void **address, int version, uint64_t flags,
                                  int *found) {
    (void)flags;
    *address = NULL;
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        if (!strcmp(entries[i].name, name) && version >= entries[i].since &&
            entries[i].since <= setting("STUB_CUDA_DRIVER", 13000))
            *address = entries[i].function;
    if (found) *found = *address ? 0 : 1;
    return *address ? OK : NOT_FOUND;
}
