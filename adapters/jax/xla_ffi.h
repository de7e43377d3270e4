/* The part of XLA's foreign function interface that `_handler.pyx` needs, so that nothing of jaxlib is needed to build.

   Declared after jaxlib/include/xla/ffi/api/c_api.h (Apache License 2.0, see NOTICE), version 0.3, of jaxlib 0.10.2;
   what stands here is the same in 0.1, of jaxlib 0.5. Structs grow at their end only, and each carries its size. */

#ifndef FASTLOGITS_XLA_FFI_H
#define FASTLOGITS_XLA_FFI_H

#include <stddef.h>
#include <stdint.h>

enum { XLA_FFI_MAJOR = 0, XLA_FFI_MINOR = 3 };

enum { XLA_FFI_METADATA = 1 };  /* an extension */
enum { XLA_FFI_INVALID_ARGUMENT = 3, XLA_FFI_INTERNAL = 13 };  /* error codes */
enum { XLA_FFI_ARRAY = 1, XLA_FFI_SCALAR = 3, XLA_FFI_STRING = 4 };  /* kinds of attributes */

typedef struct xla_ffi_extension {
    size_t struct_size;
    int type;
    struct xla_ffi_extension *next;
} xla_ffi_extension;

typedef struct {
    size_t struct_size;
    xla_ffi_extension *extensions;
    int major, minor;
} xla_ffi_version;

typedef struct {
    size_t struct_size;
    xla_ffi_version version;
    uint32_t traits;
} xla_ffi_metadata;

typedef struct {
    xla_ffi_extension base;
    xla_ffi_metadata *metadata;
} xla_ffi_metadata_extension;

typedef struct xla_ffi_error xla_ffi_error;
typedef struct xla_ffi_context xla_ffi_context;

typedef struct {
    size_t struct_size;
    xla_ffi_extension *extensions;
    const char *message;
    int code;
} xla_ffi_error_create_args;

typedef struct {
    size_t struct_size;
    xla_ffi_extension *extensions;
    xla_ffi_error *error;
} xla_ffi_error_destroy_args;

typedef struct {
    size_t struct_size;
    xla_ffi_extension *extensions;
    xla_ffi_context *context;
    void (*task)(void *);
    void *data;
} xla_ffi_schedule_args;

typedef struct {
    size_t struct_size;
    xla_ffi_extension *extensions;
    xla_ffi_version version;
    void *internal;
    xla_ffi_error *(*error_create)(xla_ffi_error_create_args *);
    void *error_get_message;
    void (*error_destroy)(xla_ffi_error_destroy_args *);
    void *handler_register, *stream_get, *type_register, *context_get, *state_set, *state_get, *allocate, *free;
    xla_ffi_error *(*schedule)(xla_ffi_schedule_args *);
} xla_ffi_api;

typedef struct {
    size_t struct_size;
    xla_ffi_extension *extensions;
    int dtype;
    void *data;
    int64_t rank;
    int64_t *dims;
} xla_ffi_buffer;

typedef struct {
    const char *start;
    size_t length;
} xla_ffi_span;

typedef struct {
    int dtype;
    void *value;
} xla_ffi_scalar;

typedef struct {
    int dtype;
    size_t size;
    void *data;
} xla_ffi_array;

typedef struct {
    size_t struct_size;
    xla_ffi_extension *extensions;
    int64_t size;
    int *types;
    void **values;
} xla_ffi_values;

typedef struct {
    size_t struct_size;
    xla_ffi_extension *extensions;
    int64_t size;
    int *types;
    xla_ffi_span **names;
    void **values;
} xla_ffi_attributes;

typedef struct {
    size_t struct_size;
    xla_ffi_extension *extensions;
    const xla_ffi_api *api;
    xla_ffi_context *context;
    int stage;
    xla_ffi_values arguments, results;
    xla_ffi_attributes attributes;
} xla_ffi_call;

#endif
