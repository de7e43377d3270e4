/* DLPack's exchange of tensors in C (dlpack.h 1.3), as far as it is used here; see NOTICE. */
#pragma once
#include <stdint.h>

typedef struct { uint32_t major, minor; } dl_version;
typedef struct { int32_t type, id; } dl_device;
typedef struct { uint8_t code, bits; uint16_t lanes; } dl_type;

enum { DL_CPU = 1, DL_INT = 0, DL_FLOAT = 2, DL_BFLOAT = 4 };

typedef struct {
    void *data;
    dl_device device;
    int32_t ndim;
    dl_type dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} dl_tensor;

typedef struct dl_managed {
    dl_version version;
    void *manager;
    void (*deleter)(struct dl_managed *);
    uint64_t flags;
    dl_tensor tensor;
} dl_managed;

typedef struct {
    dl_version version;
    void *previous;
    int (*allocate)(dl_tensor *like, dl_managed **made, void *context,
                    void (*set_error)(void *context, const char *kind, const char *message));
    int (*managed_from_python)(void *object, dl_managed **made);
    int (*to_python)(dl_managed *managed, void **object);
    int (*from_python)(void *object, dl_tensor *view);
    int (*stream)(int32_t type, int32_t id, void **stream);
} dl_exchange;
