/* TensorFlow's operators on the C core. They know neither Python nor its lock.
 *
 * TensorFlow loads this file as a library of operators, and a constructor registers them; then Python imports it as a
 * module, which hands over the core. */

#define _GNU_SOURCE
#include <Python.h>
#include <dlfcn.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif
#include "fastlogits.h"
#include "tensorflow_c.h"

#define DECLARE(type, name, parameters) static type (*name) parameters;
TF_FUNCTIONS(DECLARE)

static const fl_api *fl;
static int registered;

enum { MOST_DIMENSIONS = 16, NAME = 64 };


/* Memory of large results, kept when TensorFlow gives it back: 131 MB of fresh pages cost more than their gradient. */

enum { KEPT = 2, KEPT_FROM = 1 << 22, HUGE_PAGE = 1 << 21 };
static struct { void *data; size_t size; } kept[KEPT];
static char kept_lock;

static void *exchange(int i, void *data, size_t size) {
    void *old;
    while (__atomic_test_and_set(&kept_lock, __ATOMIC_ACQUIRE)) {}
    old = kept[i].data;
    kept[i].data = data;
    kept[i].size = size;
    __atomic_clear(&kept_lock, __ATOMIC_RELEASE);
    return old;
}

static void give_back(void *data, size_t size, void *unused) {
    static unsigned next;
    (void)unused;
    free(exchange(__atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) % KEPT, data, size));
}

static void *take(size_t size) {
    void *data = NULL;
    while (__atomic_test_and_set(&kept_lock, __ATOMIC_ACQUIRE)) {}
    for (int i = 0; i < KEPT && !data; i++)
        if (kept[i].data && kept[i].size == size) {
            data = kept[i].data;
            kept[i].data = NULL;
        }
    __atomic_clear(&kept_lock, __ATOMIC_RELEASE);
    if (data || posix_memalign(&data, HUGE_PAGE, size)) return data;
#ifdef MADV_HUGEPAGE
    madvise(data, size, MADV_HUGEPAGE);
#endif
    return data;
}

static void empty_cache(void) {
    for (int i = 0; i < KEPT; i++) free(exchange(i, NULL, 0));
}


/* What a kernel is made with: the attribute `plan`, see _native.py. */
typedef struct {
    int64_t function, axis, threads, with_grad, reduction, ignore_index, told, given;
    double label_smoothing, z_loss, softcap, logit_scale;
    char label_name[NAME];
} plan;

enum { SOFTMAX, LOG_SOFTMAX };
enum { WEIGHT = 1, SAMPLE_WEIGHT = 2, NORMALIZER = 4 }; /* `given`: the inputs that follow, in this order */
enum { PLAN_FIELDS = 12 };
static const int64_t NO_LABEL = INT64_MIN; /* as an ignore_index: no label is ignored, and this one is bad too */

static void *make(TF_OpKernelConstruction *construction) {
    TF_Status *status = TF_NewStatus();
    plan *own = (plan *)calloc(1, sizeof(plan));
    if (!own) {
        TF_SetStatus(status, TF_RESOURCE_EXHAUSTED, "fastlogits: no memory");
    } else {
        TF_OpKernelConstruction_GetAttrInt64List(construction, "plan", &own->function, PLAN_FIELDS, status);
        if (TF_GetCode(status) == TF_OK)
            TF_OpKernelConstruction_GetAttrString(construction, "label_name", own->label_name, NAME - 1, status);
    }
    if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
    TF_DeleteStatus(status);
    return own;
}

static void end(void *kernel) {
    free(kernel);
}


/* One computation: its inputs, outputs and memory, until `finish`. */
typedef struct {
    const plan *own;
    TF_OpKernelContext *context;
    TF_Status *status;
    TF_Tensor *tensors[12];
    void *memory[4];
    int n, m;
} computation;

static computation begin(void *kernel, TF_OpKernelContext *context) {
    computation c = {0};
    c.own = (const plan *)kernel;
    c.context = context;
    c.status = TF_NewStatus();
    return c;
}

static void finish(computation *c) {
    if (TF_GetCode(c->status) != TF_OK) TF_OpKernelContext_Failure(c->context, c->status);
    while (c->n) TF_DeleteTensor(c->tensors[--c->n]);
    while (c->m) free(c->memory[--c->m]);
    TF_DeleteStatus(c->status);
}

static TF_Tensor *input(computation *c, int i) {
    TF_Tensor *tensor = NULL;
    TF_GetInput(c->context, i, &tensor, c->status);
    if (tensor) c->tensors[c->n++] = tensor;
    return tensor;
}

static void *scratch(computation *c, int64_t count, size_t each) {
    void *memory = malloc((size_t)(count ? count : 1) * each);
    if (memory)
        c->memory[c->m++] = memory;
    else
        TF_SetStatus(c->status, TF_RESOURCE_EXHAUSTED, "fastlogits: no memory");
    return memory;
}

static int dtype_of(const TF_Tensor *tensor) {
    switch (TF_TensorType(tensor)) {
    case TF_FLOAT: return FL_FLOAT32;
    case TF_DOUBLE: return FL_FLOAT64;
    case TF_HALF: return FL_FLOAT16;
    case TF_BFLOAT16: return FL_BFLOAT16;
    case TF_INT32: return FL_INT32;
    case TF_INT64: return FL_INT64;
    default: return 0;
    }
}

static size_t size_of(int type) {
    return type == TF_DOUBLE ? 8 : type == TF_FLOAT ? 4 : 2;
}

static void *output(computation *c, int i, int type, const int64_t *dims, int rank) {
    TF_Tensor *tensor = NULL;
    size_t size = size_of(type);
    for (int d = 0; d < rank; d++) size *= (size_t)dims[d];
    if (size >= KEPT_FROM) {
        void *data = take(size);
        if (data) tensor = TF_NewTensor(type, dims, rank, data, size, give_back, NULL);
        if (tensor) TF_SetOutput(c->context, i, tensor, c->status);
    } else {
        tensor = TF_AllocateOutput(c->context, i, type, dims, rank, size, c->status);
    }
    if (!tensor) {
        TF_SetStatus(c->status, TF_RESOURCE_EXHAUSTED, "fastlogits: no memory");
        return NULL;
    }
    c->tensors[c->n++] = tensor;
    return TF_GetCode(c->status) == TF_OK ? TF_TensorData(tensor) : NULL;
}

/* The lengths of a tensor, and its rows along the axis; 0, or an error is set. */
static int shape_of(computation *c, const TF_Tensor *x, int64_t *dims, int64_t *outer, int64_t *classes,
                    int64_t *inner) {
    int rank = TF_NumDims(x), axis = (int)c->own->axis;
    *outer = *inner = 1;
    if (rank > MOST_DIMENSIONS || axis < -rank || axis >= rank) {
        TF_SetStatus(c->status, TF_INVALID_ARGUMENT, "fastlogits: the logits have no such axis, or too many");
        return -1;
    }
    if (axis < 0) axis += rank;
    for (int d = 0; d < rank; d++) {
        dims[d] = TF_Dim(x, d);
        if (d < axis) *outer *= dims[d];
        if (d > axis) *inner *= dims[d];
    }
    *classes = dims[axis];
    return 0;
}

/* Whether a tensor has the lengths `dims`, but for that of the axis `without` if it is none of theirs. */
static int has_shape(const TF_Tensor *tensor, const int64_t *dims, int rank, int without) {
    int n = 0;
    if (TF_NumDims(tensor) != rank - (without < rank)) return 0;
    for (int d = 0; d < rank; d++)
        if (d != without && TF_Dim(tensor, n++) != dims[d]) return 0;
    return 1;
}

static void set_error(computation *c, int code) {
    if (code == FL_NO_MEMORY)
        TF_SetStatus(c->status, TF_RESOURCE_EXHAUSTED, "fastlogits: no memory");
    else if (code != FL_OK)
        TF_SetStatus(c->status, TF_INTERNAL, "fastlogits: the core has refused a call");
}


/* softmax, log_softmax: x -> y; and their gradients: (g, y) -> x */

static void compute_rows(computation *c, TF_Tensor *x, TF_Tensor *y, int (*function)(const fl_rows *)) {
    int64_t dims[MOST_DIMENSIONS], outer, classes, inner;
    if (TF_GetCode(c->status) != TF_OK || shape_of(c, x, dims, &outer, &classes, &inner)) return;
    void *results = output(c, 0, TF_TensorType(x), dims, TF_NumDims(x));
    if (!results || outer * classes * inner == 0) return;
    fl_rows call = fl_rows_of(dtype_of(x), TF_TensorData(x), outer, classes);
    call.inner = inner;
    call.x_stride = call.y_stride = call.z_stride = classes * inner;
    call.y = y ? TF_TensorData(y) : NULL;
    call.z = results;
    call.threads = (int)c->own->threads;
    set_error(c, function(&call));
}

static void rows(void *kernel, TF_OpKernelContext *context) {
    computation c = begin(kernel, context);
    TF_Tensor *x = input(&c, 0);
    compute_rows(&c, x, NULL, c.own->function == SOFTMAX ? fl->softmax : fl->log_softmax);
    finish(&c);
}

static void rows_grad(void *kernel, TF_OpKernelContext *context) {
    computation c = begin(kernel, context);
    TF_Tensor *g = input(&c, 0), *y = input(&c, 1);
    if (TF_GetCode(c.status) == TF_OK && TF_TensorByteSize(g) != TF_TensorByteSize(y))
        TF_SetStatus(c.status, TF_INVALID_ARGUMENT, "fastlogits: a gradient has another shape than what it belongs to");
    compute_rows(&c, g, y, c.own->function == SOFTMAX ? fl->softmax_backward : fl->log_softmax_backward);
    finish(&c);
}


/* Losses */

/* The number that arrived at all losses of a kind the last time, NaN where they got several: what will arrive is guessed,
 * so that the gradient is there after one sweep, and computed anew where something else does; none is computed where
 * nothing can be guessed. Two kinds at one place only guess worse. */
enum { KINDS = 64 };
static double usual[KINDS];

static double *usual_of(const fl_loss *call) {
    uint64_t hash = (uint64_t)call->outer * 31 + (uint64_t)call->inner * 7 + (uint64_t)call->classes;
    hash = (hash * 31 + (uint64_t)call->reduction) * 31 + (uint64_t)call->dtype;
    return &usual[hash * 0x9E3779B97F4A7C15u >> 58];
}

/* At first what a mean of the losses sends, in the dtype of the losses. */
static double guess_of(const fl_loss *call, int type) {
    double guess, rows = (double)(call->outer * call->inner);
    __atomic_load(usual_of(call), &guess, __ATOMIC_RELAXED);
    if (guess != 0 || rows == 0) return guess == 0 ? 1 : guess;
    if (call->reduction != FL_NONE) return 1;
    return type == TF_DOUBLE ? 1 / rows : (double)(1.0f / (float)rows);
}

static int64_t label_at(const fl_loss *call, int64_t row) {
    return call->label_dtype == FL_INT32 ? ((const int32_t *)call->labels)[row] : ((const int64_t *)call->labels)[row];
}

static void bad_label(computation *c, const fl_loss *call, const TF_Tensor *labels) {
    char text[256], ignored[48] = "", place[MOST_DIMENSIONS * 24] = "";
    int64_t row = call->bad_row, label = label_at(call, row), position[MOST_DIMENSIONS];
    int rank = TF_NumDims(labels);
    for (int d = rank - 1; d >= 0; d--) {
        position[d] = row % TF_Dim(labels, d);
        row /= TF_Dim(labels, d);
    }
    for (int d = 0, n = 0; d < rank; d++)
        n += snprintf(place + n, sizeof place - (size_t)n, d ? ", %lld" : "%lld", (long long)position[d]);
    if (c->own->told)
        snprintf(ignored, sizeof ignored, " or ignore_index=%lld", (long long)c->own->ignore_index);
    snprintf(text, sizeof text, "%s: expected values in [0, %lld)%s, got %lld at (%s%s)", c->own->label_name,
             (long long)call->classes, ignored, (long long)label, place, rank == 1 ? "," : "");
    TF_SetStatus(c->status, TF_INVALID_ARGUMENT, text);
}

/* The row of a label that is bad, of those that the core does not look for; or -1. Where nothing is ignored it takes one
 * number for one that is, and it takes no rows without classes. */
static int64_t unseen_bad_row(const fl_loss *call) {
    if (!call->labels || (call->classes && (call->ignore_index != NO_LABEL || call->label_dtype == FL_INT32))) return -1;
    for (int64_t i = 0; i < call->outer * call->inner; i++)
        if (call->classes ? label_at(call, i) == NO_LABEL
                          : call->ignore_index == NO_LABEL || label_at(call, i) != call->ignore_index)
            return i;
    return -1;
}

/* A loss of tensors. */
typedef struct {
    fl_loss call;
    int64_t dims[MOST_DIMENSIONS], rows[MOST_DIMENSIONS];
    int type, rank; /* of the logits */
    const TF_Tensor *labels;
} loss_call;

static double stored(int type, const void *values, int64_t i) {
    uint16_t half;
    if (type == TF_DOUBLE) return ((const double *)values)[i];
    if (type == TF_FLOAT) return ((const float *)values)[i];
    memcpy(&half, (const char *)values + 2 * i, 2);
    if (type == TF_HALF) {
        _Float16 value;
        memcpy(&value, &half, 2);
        return (double)value;
    }
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* The numbers of `tensor`, float or double, in doubles or floats; NULL, and an error is set, if there is no memory. */
static const void *numbers(computation *c, const TF_Tensor *tensor, int64_t count, int type) {
    int own = TF_TensorType(tensor);
    const void *values = TF_TensorData(tensor);
    if (own == type) return values;
    void *results = scratch(c, count, size_of(type));
    for (int64_t i = 0; results && i < count; i++)
        if (type == TF_DOUBLE)
            ((double *)results)[i] = stored(own, values, i);
        else
            ((float *)results)[i] = (float)stored(own, values, i);
    return results;
}

static int refuse(computation *c, const char *message) {
    TF_SetStatus(c->status, TF_INVALID_ARGUMENT, message);
    return -1;
}

/* What is given beside logits and labels, the inputs from `i` on; 0, or an error is set. */
static int add_others(computation *c, int i, const int64_t *dims, int rank, int axis, fl_loss *call) {
    int64_t given = c->own->given, rows = call->outer * call->inner;
    int computed = call->dtype == FL_FLOAT64 ? TF_DOUBLE : TF_FLOAT;
    if (given & WEIGHT) {
        TF_Tensor *weight = input(c, i++);
        if (!weight || !has_shape(weight, &call->classes, 1, 1))
            return refuse(c, "weight: expected a number for each class");
        call->weight = numbers(c, weight, call->classes, computed);
    }
    if (given & SAMPLE_WEIGHT) {
        TF_Tensor *weight = input(c, i++);
        if (!weight || !has_shape(weight, dims, rank, axis))
            return refuse(c, "sample_weight: expected the shape of the logits without the class axis");
        call->sample_weight = (const double *)numbers(c, weight, rows, TF_DOUBLE);
    }
    if (given & NORMALIZER) {
        TF_Tensor *normalizer = input(c, i++);
        double number = normalizer ? *(const double *)TF_TensorData(normalizer) : -1;
        if (!(number >= 0 && number <= DBL_MAX))
            return refuse(c, "normalizer: expected a finite number of at least 0");
        call->reduction = FL_NORMALIZED;
        call->normalizer = number;
    }
    return TF_GetCode(c->status) == TF_OK ? 0 : -1;
}

/* A loss as a call: the inputs from `i` on are logits, labels or distributions, and what is `given`; 0, or an error is set. */
static int loss_of(computation *c, int i, loss_call *loss) {
    const plan *own = c->own;
    TF_Tensor *x = input(c, i), *labels = input(c, i + 1);
    int64_t outer, classes, inner;
    if (TF_GetCode(c->status) != TF_OK || shape_of(c, x, loss->dims, &outer, &classes, &inner)) return -1;
    int rank = TF_NumDims(x), axis = (int)own->axis, soft = TF_TensorType(labels) == TF_TensorType(x);
    if (axis < 0) axis += rank;
    if (!has_shape(labels, loss->dims, rank, soft ? rank : axis))
        return refuse(c, "fastlogits: labels have a shape that does not fit the logits");
    fl_loss *call = &loss->call;
    *call = fl_loss_of(dtype_of(x), TF_TensorData(x), outer, classes);
    loss->type = TF_TensorType(x);
    loss->rank = rank;
    loss->labels = labels;
    for (int d = 0, n = 0; d < rank; d++)
        if (d != axis) loss->rows[n++] = loss->dims[d];
    call->inner = inner;
    call->x_stride = call->grad_stride = call->targets_stride = classes * inner;
    if (soft) {
        call->targets = TF_TensorData(labels);
    } else {
        call->labels = TF_TensorData(labels);
        call->label_dtype = dtype_of(labels);
    }
    call->threads = (int)own->threads;
    call->reduction = (int)own->reduction;
    call->ignore_index = own->ignore_index;
    call->label_smoothing = own->label_smoothing;
    call->z_loss = own->z_loss;
    call->softcap = own->softcap;
    call->logit_scale = own->logit_scale;
    return add_others(c, i + 2, loss->dims, rank, axis, call);
}

/* What a mean of rows without classes divides by; labels of such rows are all ignored. */
static double sum_of_weights(const fl_loss *call) {
    double sum = 0;
    for (int64_t i = 0; call->targets && i < call->outer * call->inner; i++)
        sum += call->sample_weight ? call->sample_weight[i] : 1;
    return sum;
}

static void compute_loss(computation *c, fl_loss *call, const TF_Tensor *labels) {
    int code = FL_OK;
    call->bad_row = unseen_bad_row(call);
    if (call->bad_row >= 0)
        code = FL_BAD_LABEL;
    else if (call->classes)
        code = fl->cross_entropy(call);
    else
        call->loss = call->reduction == FL_MEAN && !sum_of_weights(call) ? NAN : 0;
    if (code == FL_BAD_LABEL)
        bad_label(c, call, labels);
    else
        set_error(c, code);
}

static void store(int type, void *results, int64_t i, double value) {
    float single = (float)value;
    if (type == TF_DOUBLE) {
        ((double *)results)[i] = value;
    } else if (type == TF_FLOAT) {
        ((float *)results)[i] = single;
    } else if (type == TF_HALF) {
        _Float16 half = (_Float16)value;
        memcpy((char *)results + 2 * i, &half, 2);
    } else {
        uint32_t bits;
        memcpy(&bits, &single, 4);
        bits = single != single ? 0x7fc00000 : bits + 0x7fff + (bits >> 16 & 1);
        bits >>= 16;
        memcpy((char *)results + 2 * i, &bits, 2); /* little-endian, as all that TensorFlow's wheels are for */
    }
}

/* (logits, labels, others) -> (loss, gradient, the number that is to arrive at each loss for it to be the gradient) */
static void loss(void *kernel, TF_OpKernelContext *context) {
    computation c = begin(kernel, context);
    loss_call own;
    fl_loss *call = &own.call;
    if (!loss_of(&c, 0, &own)) {
        int type = (int)TF_ExpectedOutputDataType(context, 0);
        int64_t count = call->outer * call->inner, none = 0;
        void *losses = output(&c, 0, type, own.rows, call->reduction == FL_NONE ? own.rank - 1 : 0);
        double guess = c.own->with_grad ? guess_of(call, type) : NAN;
        void *grad = isnan(guess) ? output(&c, 1, own.type, &none, 1) : output(&c, 1, own.type, own.dims, own.rank);
        double *expected = (double *)output(&c, 2, TF_DOUBLE, NULL, 0);
        double *each = (double *)scratch(&c, call->reduction == FL_NONE ? count : 1, sizeof(double));
        if (TF_GetCode(c.status) == TF_OK) {
            *expected = guess;
            if (!isnan(guess)) {
                call->grad = grad;
                call->upstream = guess;
            }
            call->losses = call->reduction == FL_NONE ? each : NULL;
            compute_loss(&c, call, own.labels);
            if (call->reduction != FL_NONE)
                store(type, losses, 0, call->loss);
            else
                for (int64_t i = 0; i < count; i++) store(type, losses, i, call->classes ? each[i] : 0);
        }
    }
    finish(&c);
}

/* What arrives at the losses, in doubles; whether it is one number. */
static int is_one_number(const TF_Tensor *upstream, int64_t count, double *each) {
    int same = 1;
    for (int64_t i = 0; i < count; i++) {
        each[i] = stored(TF_TensorType(upstream), TF_TensorData(upstream), i);
        same &= each[i] == each[0];
    }
    return same;
}

/* (what arrives, gradient, the number that was to arrive, logits, labels, others) -> gradient */
static void loss_grad(void *kernel, TF_OpKernelContext *context) {
    computation c = begin(kernel, context);
    TF_Tensor *upstream = input(&c, 0), *guess = input(&c, 1), *number = input(&c, 2);
    loss_call own;
    fl_loss *call = &own.call;
    if (!loss_of(&c, 3, &own)) {
        int64_t count = call->reduction == FL_NONE ? call->outer * call->inner : 1;
        double *each = (double *)scratch(&c, count, sizeof(double));
        if (!has_shape(upstream, own.rows, call->reduction == FL_NONE ? own.rank - 1 : 0, own.rank)) {
            refuse(&c, "fastlogits: a gradient has another shape than its losses");
        } else if (each) {
            int same = count == 0 || is_one_number(upstream, count, each);
            double given = count ? each[0] : 1;
            double next = same && isfinite(given) ? given : NAN;
            __atomic_store(usual_of(call), &next, __ATOMIC_RELAXED);
            if (same && given == *(const double *)TF_TensorData(number)) {
                TF_SetOutput(c.context, 0, guess, c.status);
            } else {
                call->grad = output(&c, 0, own.type, own.dims, own.rank);
                if (same)
                    call->upstream = given;
                else
                    call->grad_loss = each;
                if (call->grad) compute_loss(&c, call, own.labels);
            }
        }
    }
    finish(&c);
}


/* Registration */

static void unknown_shapes(TF_ShapeInferenceContext *context, TF_Status *status) {
    TF_ShapeInferenceContextSetUnknownShape(context, status); /* Python knows them, and says them */
}

#define T_ATTR "T: {float, double, half, bfloat16}"
#define PLAN_ATTRS "plan: list(int)", "label_name: string = ''"
#define LOSS_INPUTS "logits: T", "labels: Labels", "others: Others"
#define LOSS_ATTRS \
    T_ATTR, "Labels: {int32, int64, float, double, half, bfloat16}", "Others: list({float, double}) >= 0", \
        "Loss: {float, double, half, bfloat16}", PLAN_ATTRS

static void add_operator(const char *name, compute_kernel compute, const char **inputs, const char **outputs,
                         const char **attributes, TF_Status *status) {
    TF_OpDefinitionBuilder *op = TF_NewOpDefinitionBuilder(name);
    while (*inputs) TF_OpDefinitionBuilderAddInput(op, *inputs++);
    while (*outputs) TF_OpDefinitionBuilderAddOutput(op, *outputs++);
    while (*attributes) TF_OpDefinitionBuilderAddAttr(op, *attributes++);
    TF_OpDefinitionBuilderSetShapeInferenceFunction(op, unknown_shapes);
    TF_RegisterOpDefinition(op, status);
    if (TF_GetCode(status) == TF_OK)
        TF_RegisterKernelBuilder(name, TF_NewKernelBuilder(name, "CPU", make, compute, end), status);
}

#define LIST(...) (const char *[]){__VA_ARGS__, NULL}

__attribute__((constructor)) static void register_operators(void) {
    void *library = dlopen("libtensorflow_framework.so.2", RTLD_NOW | RTLD_NOLOAD);
    if (!library) return; /* no TensorFlow, or one of another kind: Python goes on without */
#define FIND(type, name, parameters) if (!(name = (type (*) parameters)dlsym(library, #name))) return;
    TF_FUNCTIONS(FIND)
    TF_Status *status = TF_NewStatus();
    add_operator("FastlogitsRows", rows, LIST("x: T"), LIST("y: T"), LIST(T_ATTR, PLAN_ATTRS), status);
    if (TF_GetCode(status) == TF_OK)
        add_operator("FastlogitsRowsGrad", rows_grad, LIST("g: T", "y: T"), LIST("x: T"), LIST(T_ATTR, PLAN_ATTRS), status);
    if (TF_GetCode(status) == TF_OK)
        add_operator("FastlogitsLoss", loss, LIST(LOSS_INPUTS), LIST("loss: Loss", "grad: T", "expected: double"),
                     LIST(LOSS_ATTRS), status);
    if (TF_GetCode(status) == TF_OK)
        add_operator("FastlogitsLossGrad", loss_grad,
                     LIST("upstream: Loss", "grad: T", "expected: double", LOSS_INPUTS), LIST("x: T"),
                     LIST(LOSS_ATTRS), status);
    registered = TF_GetCode(status) == TF_OK;
    TF_DeleteStatus(status);
}


/* The module */

static PyObject *forget(PyObject *self, PyObject *nothing) {
    (void)self, (void)nothing;
    empty_cache();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"empty_cache", forget, METH_NOARGS, "Return the memory kept for large results to the system."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_ops", "TensorFlow's operators on the C core.", -1, methods,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__ops(void) {
    if (!registered) {
        PyErr_SetString(PyExc_ImportError, "TensorFlow has not the functions that operators are registered with");
        return NULL;
    }
    fl = (const fl_api *)PyCapsule_Import(FL_CAPSULE, 0);
    return fl ? PyModule_Create(&module) : NULL;
}
