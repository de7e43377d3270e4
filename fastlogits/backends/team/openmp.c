#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "openmp.h"

#include <dlfcn.h>

/* Times in ns */
#define BEARABLE 100000  /* that a region may lose */
#define PENANCE 50       /* times what a region has lost, without regions */

static void (*parallel)(void (*)(void *), void *, unsigned, unsigned);
static int (*most_threads)(void);
static int64_t not_before;
static long regions;
static pthread_key_t key;
static char taken;  /* whether there is a thread whose jobs go to regions */

/* A symbol of a library's own OpenMP, whatever its file is called. */
static void *symbol(void *library, const char *name)
{
    void *found = dlsym(library, name);
    dlerror();
    return found;
}

int team_use_openmp(const char *library)
{
    void *handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == NULL) {
        dlerror();
        return 0;
    }
    *(void **)&most_threads = symbol(handle, "omp_get_max_threads");
    void *found = symbol(handle, "GOMP_parallel");
    __atomic_store_n((void **)&parallel, found, __ATOMIC_RELEASE);
    return 1;
}

int team_openmp_threads(void)
{
    return most_threads ? most_threads() : 0;
}

/* The first thread to ask, until it ends: OpenMP gives each thread that enters regions threads of its own. */
int openmp_serves(int64_t then)
{
    if (__atomic_load_n((void **)&parallel, __ATOMIC_ACQUIRE) == NULL
        || then < __atomic_load_n(&not_before, __ATOMIC_RELAXED))
        return 0;
    if (pthread_getspecific(key))
        return 1;
    if (__atomic_test_and_set(&taken, __ATOMIC_ACQUIRE))
        return 0;
    if (pthread_setspecific(key, &taken) == 0)
        return 1;
    __atomic_clear(&taken, __ATOMIC_RELEASE);
    return 0;
}

static void give_up(void *taken_by_it)
{
    __atomic_clear((char *)taken_by_it, __ATOMIC_RELEASE);
}

typedef struct {
    slot *slot;
    pthread_t caller;
    int64_t begun, ended;
} region;

static void in_region(void *region_)
{
    region *r = region_;
    if (pthread_equal(pthread_self(), r->caller)) {
        r->begun = now();
        slot_do_parts(r->slot);
        slot_wait(r->slot);
        r->ended = now();
    } else if (slot_help(r->slot, 0))
        slot_leave(r->slot);
}

void openmp_share(slot *s)
{
    region r = {.slot = s, .caller = pthread_self()};
    __atomic_store_n(&s->called, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&regions, 1, __ATOMIC_RELAXED);
    parallel(in_region, &r, (unsigned)s->wanted + 1, 0);
    int64_t ended = now(), lost = (ended - s->begun) - (r.ended - r.begun) - BEARABLE;
    if (lost > 0)
        __atomic_store_n(&not_before, ended + PENANCE * lost, __ATOMIC_RELAXED);
}

long team_openmp_regions(void)
{
    return __atomic_load_n(&regions, __ATOMIC_RELAXED);
}

/* In a child made by fork: a region would wait for threads that are not there. */
void openmp_forget(void)
{
    parallel = NULL;
}

int openmp_begin(void)
{
    return pthread_key_create(&key, give_up);
}
