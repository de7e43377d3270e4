#include "scratch.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

enum {
    ALIGNMENT = 64,        /* a cache line, and the longest vector */
    GRAIN = 1 << 12,       /* sizes are multiples of it: a page */
    KEPT_MOST = 1 << 24,   /* a larger block is freed at once: its fresh pages cost little beside what is done in it */
    EMPTYING = -1,
};

typedef struct block {
    void *memory;
    size_t size;
    int holds;  /* by its thread; EMPTYING while another thread frees it */
    struct block *previous, *next;
} block;

/* The thread's block lies under a key and not in a thread-local variable, for which the C library would end the process
 * where there is no memory. */
static pthread_key_t key;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;  /* guards the list */
static block *blocks;

static void *taken_from(block *own)
{
    void *memory = own->memory;
    own->memory = NULL;
    __atomic_store_n(&own->size, 0, __ATOMIC_RELAXED);
    return memory;
}

static void leave(void *block_of_thread)
{
    block *own = block_of_thread;
    pthread_mutex_lock(&mutex);
    *(own->previous ? &own->previous->next : &blocks) = own->next;
    if (own->next)
        own->next->previous = own->previous;
    pthread_mutex_unlock(&mutex);
    free(taken_from(own));
    free(own);
}

static block *enter(void)
{
    block *own = calloc(1, sizeof *own);
    if (own == NULL || pthread_setspecific(key, own)) {
        free(own);
        return NULL;
    }
    pthread_mutex_lock(&mutex);
    own->next = blocks;
    if (blocks)
        blocks->previous = own;
    blocks = own;
    pthread_mutex_unlock(&mutex);
    return own;
}

void *scratch_hold(size_t size)
{
    block *own = pthread_getspecific(key);
    int holds = 0;
    if (own == NULL && (own = enter()) == NULL)
        return NULL;
    /* Another thread changes it from 0 to EMPTYING and soon back, nothing else. */
    while (!__atomic_compare_exchange_n(&own->holds, &holds, holds + 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        if (holds == EMPTYING) {
            sched_yield();
            holds = 0;
        }
    if (size > own->size || own->memory == NULL) {
        free(taken_from(own));
        size = (size / GRAIN + 1) * GRAIN;
        own->memory = aligned_alloc(ALIGNMENT, size);
        if (own->memory == NULL) {
            scratch_release();
            return NULL;
        }
        __atomic_store_n(&own->size, size, __ATOMIC_RELAXED);
    }
    return own->memory;
}

void scratch_release(void)
{
    block *own = pthread_getspecific(key);
    if (own->size > KEPT_MOST && __atomic_load_n(&own->holds, __ATOMIC_RELAXED) == 1)
        free(taken_from(own));
    __atomic_fetch_sub(&own->holds, 1, __ATOMIC_RELEASE);
}

void *scratch_held(void)
{
    return ((block *)pthread_getspecific(key))->memory;
}

size_t scratch_kept(void)
{
    size_t kept = 0;
    pthread_mutex_lock(&mutex);
    for (block *each = blocks; each; each = each->next)
        kept += __atomic_load_n(&each->size, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&mutex);
    return kept;
}

void scratch_empty(void)
{
    pthread_mutex_lock(&mutex);
    for (block *each = blocks; each; each = each->next) {
        int holds = 0;
        if (__atomic_compare_exchange_n(&each->holds, &holds, EMPTYING, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
            void *memory = taken_from(each);
            __atomic_store_n(&each->holds, 0, __ATOMIC_RELEASE);
            free(memory);
        }
    }
    pthread_mutex_unlock(&mutex);
}

static void before_fork(void)
{
    pthread_mutex_lock(&mutex);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&mutex);
}

/* The other threads are not there; what they kept can be emptied. */
static void in_child(void)
{
    for (block *each = blocks, *own = pthread_getspecific(key); each; each = each->next)
        if (each != own)
            each->holds = 0;
    pthread_mutex_unlock(&mutex);
}

int scratch_begin(void)
{
    int failed = pthread_key_create(&key, leave);
    return failed ? failed : pthread_atfork(before_fork, after_fork, in_child);
}
