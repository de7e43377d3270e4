/* The part of TensorFlow's C API for operators (tensorflow/c/ops.h, kernels.h, tf_tensor.h, tf_status.h) that `_ops.c`
 * needs. Its functions are found by name in the library that TensorFlow has loaded, so that nothing of TensorFlow is needed
 * to build, and one binary serves several of its versions. */

#ifndef FASTLOGITS_TENSORFLOW_C_H
#define FASTLOGITS_TENSORFLOW_C_H

#include <stddef.h>
#include <stdint.h>

typedef struct TF_Status TF_Status;
typedef struct TF_Tensor TF_Tensor;
typedef struct TF_OpKernelContext TF_OpKernelContext;
typedef struct TF_OpKernelConstruction TF_OpKernelConstruction;
typedef struct TF_KernelBuilder TF_KernelBuilder;
typedef struct TF_OpDefinitionBuilder TF_OpDefinitionBuilder;
typedef struct TF_ShapeInferenceContext TF_ShapeInferenceContext;

enum { TF_FLOAT = 1, TF_DOUBLE = 2, TF_INT32 = 3, TF_INT64 = 9, TF_BFLOAT16 = 14, TF_HALF = 19 };
enum { TF_OK = 0, TF_INVALID_ARGUMENT = 3, TF_RESOURCE_EXHAUSTED = 8, TF_INTERNAL = 13 };

typedef void *(*make_kernel)(TF_OpKernelConstruction *);
typedef void (*compute_kernel)(void *, TF_OpKernelContext *);
typedef void (*delete_kernel)(void *);
typedef void (*shape_function)(TF_ShapeInferenceContext *, TF_Status *);
typedef void (*deallocator)(void *data, size_t size, void *argument);

/* X(type, name, parameters) */
#define TF_FUNCTIONS(X) \
    X(TF_Status *, TF_NewStatus, (void)) \
    X(void, TF_DeleteStatus, (TF_Status *)) \
    X(void, TF_SetStatus, (TF_Status *, int, const char *)) \
    X(int, TF_GetCode, (const TF_Status *)) \
    X(TF_OpDefinitionBuilder *, TF_NewOpDefinitionBuilder, (const char *)) \
    X(void, TF_OpDefinitionBuilderAddAttr, (TF_OpDefinitionBuilder *, const char *)) \
    X(void, TF_OpDefinitionBuilderAddInput, (TF_OpDefinitionBuilder *, const char *)) \
    X(void, TF_OpDefinitionBuilderAddOutput, (TF_OpDefinitionBuilder *, const char *)) \
    X(void, TF_OpDefinitionBuilderSetShapeInferenceFunction, (TF_OpDefinitionBuilder *, shape_function)) \
    X(void, TF_RegisterOpDefinition, (TF_OpDefinitionBuilder *, TF_Status *)) \
    X(void, TF_ShapeInferenceContextSetUnknownShape, (TF_ShapeInferenceContext *, TF_Status *)) \
    X(TF_KernelBuilder *, TF_NewKernelBuilder, \
      (const char *op, const char *device, make_kernel, compute_kernel, delete_kernel)) \
    X(void, TF_RegisterKernelBuilder, (const char *, TF_KernelBuilder *, TF_Status *)) \
    X(void, TF_OpKernelConstruction_GetAttrInt64List, \
      (TF_OpKernelConstruction *, const char *name, int64_t *values, int most, TF_Status *)) \
    X(void, TF_OpKernelConstruction_GetAttrString, \
      (TF_OpKernelConstruction *, const char *name, char *value, size_t most, TF_Status *)) \
    X(void, TF_OpKernelConstruction_Failure, (TF_OpKernelConstruction *, TF_Status *)) \
    X(void, TF_OpKernelContext_Failure, (TF_OpKernelContext *, TF_Status *)) \
    X(void, TF_GetInput, (TF_OpKernelContext *, int, TF_Tensor **, TF_Status *)) \
    X(TF_Tensor *, TF_AllocateOutput, \
      (TF_OpKernelContext *, int, int dtype, const int64_t *dims, int rank, size_t size, TF_Status *)) \
    X(void, TF_SetOutput, (TF_OpKernelContext *, int, const TF_Tensor *, TF_Status *)) \
    X(int, TF_ExpectedOutputDataType, (TF_OpKernelContext *, int)) \
    X(int, TF_TensorType, (const TF_Tensor *)) \
    X(int, TF_NumDims, (const TF_Tensor *)) \
    X(int64_t, TF_Dim, (const TF_Tensor *, int)) \
    X(size_t, TF_TensorByteSize, (const TF_Tensor *)) \
    X(void *, TF_TensorData, (const TF_Tensor *)) \
    X(TF_Tensor *, TF_NewTensor, \
      (int dtype, const int64_t *dims, int rank, void *data, size_t size, deallocator, void *argument)) \
    X(void, TF_DeleteTensor, (TF_Tensor *))

#endif
