/* Work shared with the threads of XLA's own pool. */

#ifndef FASTLOGITS_XLA_TEAM_H
#define FASTLOGITS_XLA_TEAM_H

#include <sched.h>
#include <stdlib.h>

#include "xla_ffi.h"

typedef void (*xla_part)(void *job, Py_ssize_t part);

typedef struct {
    xla_part function;
    void *job;
    Py_ssize_t parts, next, done;
    int holders;  /* the last one to let go frees this: a helper may start long after the work is done */
} xla_work;

static void xla_do_parts(xla_work *work)
{
    Py_ssize_t part;
    while ((part = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED)) < work->parts) {
        work->function(work->job, part);
        __atomic_fetch_add(&work->done, 1, __ATOMIC_RELEASE);
    }
}

static void xla_let_go(xla_work *work)
{
    if (__atomic_sub_fetch(&work->holders, 1, __ATOMIC_ACQ_REL) == 0)
        free(work);
}

static void xla_help(void *work)
{
    xla_do_parts(work);
    xla_let_go(work);
}

/* function(job, part) for all parts, by this thread and by as many helpers as the pool sends in time. */
static void xla_share(const xla_ffi_call *call, xla_part function, void *job, Py_ssize_t parts, int threads)
{
    xla_work *work = malloc(sizeof *work);
    if (work == NULL) {
        for (Py_ssize_t part = 0; part < parts; part++)
            function(job, part);
        return;
    }
    *work = (xla_work){.function = function, .job = job, .parts = parts, .holders = threads};
    for (int helper = 1; helper < threads; helper++) {
        xla_ffi_schedule_args args = {sizeof args, NULL, call->context, xla_help, work};
        xla_ffi_error *error = call->api->schedule(&args);
        if (error != NULL) {
            xla_ffi_error_destroy_args destroyed = {sizeof destroyed, NULL, error};
            call->api->error_destroy(&destroyed);
            xla_let_go(work);
        }
    }
    xla_do_parts(work);
    while (__atomic_load_n(&work->done, __ATOMIC_ACQUIRE) < parts)
        sched_yield();
    xla_let_go(work);
}

#endif
