/* As a program of C's uses the core: on threads that Python knows nothing of. Returns how many results are wrong. */

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include "fastlogits.h"

enum { ROWS = 400, CLASSES = 300, THREADS = 4 };

typedef struct {
    const fl_api *fl;
    int seed, wrong;
} work;

static void check(work *own, int right) {
    own->wrong += !right;
}

static void *compute(void *argument) {
    work *own = (work *)argument;
    float *x = (float *)malloc(ROWS * CLASSES * sizeof(float)), *p = (float *)malloc(ROWS * CLASSES * sizeof(float));
    float lse[ROWS], losses[ROWS];
    ptrdiff_t best[ROWS];
    int32_t labels[ROWS];
    unsigned state = (unsigned)own->seed;
    for (int i = 0; i < ROWS * CLASSES; i++)
        x[i] = (float)((state = state * 1664525u + 1013904223u) >> 16) / 6553.6f;
    fl_rows call = fl_rows_of(FL_FLOAT32, x, ROWS, CLASSES);
    call.z = p;
    check(own, own->fl->softmax(&call) == FL_OK);
    call.z = lse;
    check(own, own->fl->logsumexp(&call) == FL_OK);
    call.z = best;
    check(own, own->fl->argmax(&call) == FL_OK);
    for (int r = 0; r < ROWS; r++) {
        double sum = 0;
        labels[r] = (int32_t)best[r];
        for (int c = 0; c < CLASSES; c++) {
            sum += p[r * CLASSES + c];
            check(own, x[r * CLASSES + c] <= x[r * CLASSES + best[r]]);
        }
        check(own, fabs(sum - 1) < 1e-5);
    }
    fl_loss loss = fl_loss_of(FL_FLOAT32, x, ROWS, CLASSES);
    loss.grad = p;
    loss.labels = labels;
    loss.label_dtype = FL_INT32;
    loss.reduction = FL_NONE;
    loss.losses = losses;
    loss.loss_dtype = FL_FLOAT32;
    check(own, own->fl->cross_entropy(&loss) == FL_OK);
    for (int r = 0; r < ROWS; r++)
        check(own, fabs(lse[r] - x[r * CLASSES + best[r]] - losses[r]) < 1e-4);
    labels[7] = CLASSES;
    check(own, own->fl->cross_entropy(&loss) == FL_BAD_LABEL && loss.bad_row == 7);
    free(x);
    free(p);
    return NULL;
}

int wrong_results(const fl_api *fl) {
    pthread_t threads[THREADS];
    work works[THREADS];
    int wrong = fl->abi != FL_ABI || fl->size < sizeof(fl_api);
    for (int i = 0; i < THREADS; i++) {
        works[i].fl = fl;
        works[i].seed = i + 1;
        works[i].wrong = 0;
        wrong += pthread_create(&threads[i], NULL, compute, &works[i]) != 0;
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        wrong += works[i].wrong;
    }
    return wrong;
}

size_t size_of_rows(void) {
    return sizeof(fl_rows);
}

size_t size_of_loss(void) {
    return sizeof(fl_loss);
}
