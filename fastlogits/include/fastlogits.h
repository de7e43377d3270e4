/* The compiled kernels as C functions: no Python objects, no interpreter lock, any thread.
 *
 *     const fl_api *fl = (const fl_api *)PyCapsule_Import(FL_CAPSULE, 0);      once, with the interpreter lock
 *     fl_rows call = fl_rows_of(FL_FLOAT32, logits, rows, classes);
 *     call.z = probabilities;
 *     if (fl->softmax(&call)) ...
 *
 * `fastlogits.get_include()` is the folder of this file. Structs grow at their end alone and carry their size, so that a
 * program goes on working with later versions; `abi` rises if anything else changes. Nothing is checked but what is said
 * here: arrays must be where they are said to be, and may overlap only where they are the same.
 */

#ifndef FASTLOGITS_H
#define FASTLOGITS_H

#include <stddef.h>
#include <stdint.h>

#define FL_CAPSULE "fastlogits._C_API"

enum { FL_ABI = 1 };

/* What a call returns. */
enum {
    FL_OK,
    FL_BAD_ARGUMENT,    /* a size, dtype or reduction that there is not, no classes, a pointer missing */
    FL_BAD_LABEL,       /* neither a class nor ignore_index, the first in bad_row; nothing was written */
    FL_NO_MEMORY,       /* nothing was written */
    FL_INTERRUPTED      /* a signal's handler raised; the exception is set, results are in part */
};

/* Types of arrays. Half types are computed in float32. */
enum { FL_FLOAT32 = 1, FL_FLOAT64, FL_FLOAT16, FL_BFLOAT16, FL_INT32, FL_INT64 };

/* What becomes of the losses of rows; FL_NORMALIZED divides their sum by `normalizer`, and is 0 where that is. */
enum { FL_NONE, FL_SUM, FL_MEAN, FL_NORMALIZED };

/* Threads of others that help in the place of the package's own. */
typedef struct fl_pool {
    /* Lets `help` of the API run on so many other threads: soon, late or never. */
    void (*invite)(struct fl_pool *pool, int helpers);
} fl_pool;

/* Rows of logits, and what belongs to them: element (o, c, i) of an array lies o * stride + c * inner + i elements after
 * its first, for o in [0, outer), c in [0, classes), i in [0, inner). The last axis: inner = 1, stride = classes. */
typedef struct {
    size_t size;        /* of this struct */
    int dtype;          /* of x, y and z, but where said otherwise */
    int threads;        /* at most; 0: as many as the package would take by default */
    int listen;         /* to signals now and then: for a Python thread that waits, without the interpreter lock */
    int64_t outer, classes, inner;
    int64_t x_stride, y_stride, z_stride;
    const void *x;      /* logits, or the gradient that arrives at y */
    const void *y;      /* for gradients, the result of the forward function */
    void *z;            /* results; one a row, in order, of argmax (ptrdiff_t) and logsumexp (dtype; float32 of half types) */
    double scale;       /* what logits are multiplied by, of softmax and log_softmax */
} fl_rows;

/* A loss: with z = logit_scale * softcap * tanh(x / softcap) and lse = logsumexp(z), the loss of a row is
 * sample_weight * (weight[label] * (lse - z[label]) + z_loss * lse**2). */
typedef struct {
    size_t size;        /* of this struct */
    int dtype;          /* of logits, grad and targets */
    int threads, listen;
    int64_t outer, classes, inner;
    int64_t x_stride, grad_stride, targets_stride;
    const void *x;
    void *grad;                     /* or NULL; x itself for in place */
    const void *labels;             /* one a row, in order; or NULL, and */
    const void *targets;            /* distributions */
    int label_dtype;                /* FL_INT64, FL_INT32 */
    int loss_dtype;                 /* of losses: FL_FLOAT64, FL_FLOAT32 */
    int reduction;
    const void *weight;             /* of each class, in the dtype that is computed in; or NULL */
    const double *sample_weight;    /* of each row, or NULL */
    const double *grad_loss;        /* what arrives at the loss of each row, beside `upstream`; or NULL */
    double upstream;                /* what arrives at the loss */
    double normalizer;              /* of FL_NORMALIZED */
    int64_t ignore_index;
    double label_smoothing, z_loss, softcap, logit_scale;  /* softcap 0: none */
    void *losses;                   /* of FL_NONE, or NULL: one a row, in order */
    double loss;                    /* result, of the other reductions */
    double divisor;                 /* result: what the losses were divided by */
    int64_t bad_row;                /* result */
} fl_loss;

typedef struct {
    size_t size;        /* of this struct */
    int abi;
    int (*softmax)(const fl_rows *call);
    int (*log_softmax)(const fl_rows *call);
    int (*logsumexp)(const fl_rows *call);
    int (*argmax)(const fl_rows *call);
    int (*softmax_backward)(const fl_rows *call);
    int (*log_softmax_backward)(const fl_rows *call);
    int (*cross_entropy)(fl_loss *call);
    void (*join)(fl_pool *pool);    /* the pool that the calling thread belongs to from now on; NULL: none */
    void (*help)(void);             /* takes part in calls that are under way, if there are any */
} fl_api;

/* Calls on packed rows; what is not set here is to be set. */

static inline fl_rows fl_rows_of(int dtype, const void *x, int64_t rows, int64_t classes) {
    fl_rows call = {0};
    call.size = sizeof(call);
    call.dtype = dtype;
    call.outer = rows;
    call.classes = call.x_stride = call.y_stride = call.z_stride = classes;
    call.inner = 1;
    call.x = x;
    call.scale = 1.0;
    return call;
}

static inline fl_loss fl_loss_of(int dtype, const void *x, int64_t rows, int64_t classes) {
    fl_loss call = {0};
    call.size = sizeof(call);
    call.dtype = dtype;
    call.outer = rows;
    call.classes = call.x_stride = call.grad_stride = call.targets_stride = classes;
    call.inner = 1;
    call.x = x;
    call.label_dtype = FL_INT64;
    call.loss_dtype = FL_FLOAT64;
    call.reduction = FL_MEAN;
    call.upstream = call.logit_scale = 1.0;
    call.ignore_index = -100;
    return call;
}

#endif
