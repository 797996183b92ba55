/* Modules of machine code and the kernels in them. */
#ifndef STUB_MODULE_H
#define STUB_MODULE_H
#include "stub_state.h"


static uint64_t read_bytes(const char *from, size_t n) {
    uint64_t value = 0;
    memcpy(&value, from, n);
    return value;
}

typedef struct {
    const char *name;
    const char *start;
    size_t size;
    int takes_space;
} section;

static section get_section(const char *image, unsigned index) {
    const char *table = image + read_bytes(image + 0x28, 8);
    const char *names = table + 64 * read_bytes(image + 0x3E, 2);
    const char *entry = table + 64 * index;
    const char *strings = image + read_bytes(names + 24, 8);
    return (section){strings + read_bytes(entry, 4), image + read_bytes(entry + 24, 8),
                     read_bytes(entry + 32, 8), read_bytes(entry + 4, 4) != 8};
}

static unsigned count_sections(const char *image) { return (unsigned)read_bytes(image + 0x3C, 2); }

/* As ptxas writes it: in its older files in the low byte of the flags, else in the next one. */
static int get_architecture(const char *image) {
    uint64_t flags = read_bytes(image + 0x30, 4);
    return (int)(image[8] < 8 ? flags & 255 : flags >> 8 & 255);
}

/* Machine code runs on the same generation from its own revision on; from 90 on the kernels are for
 * exactly one (sm_90a). */
static int is_compatible(int architecture, int capability) {
    if (architecture >= 90) return architecture == capability;
    return architecture / 10 == capability / 10 && architecture <= capability;
}

static status module_load(module **loaded, const char *image) {
    READY();
    if (memcmp(image, "\177ELF\2\1", 6) || read_bytes(image + 18, 2) != 190) return INVALID_IMAGE;
    if (!is_compatible(get_architecture(image), setting("STUB_CUDA_CAPABILITY", 90)))
        return NO_BINARY;
    size_t size = read_bytes(image + 0x28, 8) + 64 * count_sections(image);
    for (unsigned i = 0; i < count_sections(image); i++) {
        section s = get_section(image, i);
        size_t end = (size_t)(s.start - image) + s.size;
        if (s.takes_space && end > size) size = end;
    }
    module *made = calloc(1, sizeof *made);
    *made = (module){malloc(size), size, 1};
    memcpy(made->image, image, size);
    n_live[0]++;
    *loaded = made;
    return OK;
}

static status module_unload(module *code) {
    READY();
    if (!code->live) return violation("module unloaded twice");
    if (is_awaited(NULL, code, NULL)) return violation("module unloaded that work still needs");
    code->live = 0;
    n_live[0]--;
    return OK;
}

static const section *find_section(const char *image, const char *prefix, const char *name,
                                   section *found) {
    for (unsigned i = 0; i < count_sections(image); i++) {
        *found = get_section(image, i);
        if (!strncmp(found->name, prefix, strlen(prefix)) &&
            !strcmp(found->name + strlen(prefix), name))
            return found;
    }
    return NULL;
}

/* Reads the records EIATTR_KPARAM_INFO (format 4, attribute 0x17), which ptxas writes backwards. */
static void read_parameters(function *made, const section *info) {
    for (size_t at = 0; at + 4 <= info->size;) {
        unsigned format = (unsigned char)info->start[at];
        unsigned attribute = (unsigned char)info->start[at + 1];
        size_t length = format == 4 ? read_bytes(info->start + at + 2, 2) : 0;
        const char *value = info->start + at + 4;
        if (format == 4 && attribute == 0x17) {
            unsigned ordinal = (unsigned)read_bytes(value + 4, 2) % MAX_PARAMETERS;
            made->offsets[ordinal] = (unsigned)read_bytes(value + 6, 2);
            made->sizes[ordinal] = (unsigned)(read_bytes(value + 8, 4) >> 18);
            if (ordinal + 1 > made->n) made->n = ordinal + 1;
        }
        at += 4 + length;
    }
}

static status module_get_function(function **found, module *code, const char *name) {
    READY();
    if (!code->live) return violation("function of a module that was unloaded");
    section text, info;
    if (!find_section(code->image, ".text.", name, &text)) return NOT_FOUND;
    function *made = calloc(1, sizeof *made);
    made->owner = code;
    made->shared = 48 * 1024;
    snprintf(made->name, sizeof made->name, "%s", name);
    if (find_section(code->image, ".nv.info.", name, &info)) read_parameters(made, &info);
    *found = made;
    return OK;
}

static status function_set_attribute(function *f, int attribute, int value) {
    READY();
    if (attribute != 8 || value < 0 || value > shared_limit()) return INVALID_VALUE;
    f->shared = (unsigned)value;
    return OK;
}

static status function_get_parameter(function *f, size_t index, size_t *offset, size_t *size) {
    READY();
    if (index >= f->n) return INVALID_VALUE;
    *offset = f->offsets[index];
    if (size) *size = f->sizes[index];
    return OK;
}
#endif
