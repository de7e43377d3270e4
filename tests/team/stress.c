/* stress CALLERS FORKS SECONDS THREADS: every part exactly once, whatever happens beside: callers that come and go,
 * nested jobs, scratch memory that is emptied, forks in the middle. Prints what there was at the end. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scratch.h"
#include "slots.h"

enum { MOST_PARTS = 600, MOST_CALLERS = 64 };

typedef struct {
    unsigned char done[MOST_PARTS];
    int nested, length;
    size_t scratch;
} work;

static int64_t until;
static long calls, threads_started;
static int most_threads;

static void fail(const char *what, long number)
{
    printf("%s: %ld\n", what, number);
    fflush(stdout);
    abort();
}

static void share_one(unsigned *seed, int depth);

static void part(void *work_, ptrdiff_t number)
{
    work *w = work_;
    unsigned char *memory = scratch_held();
    /* Nobody else writes to this thread's memory. A job within a part may move it. */
    memset(memory, (int)number, w->scratch);
    for (volatile int i = 0; i < w->length; i++) ;
    for (size_t i = 0; i < w->scratch; i += 97)
        if (memory[i] != (unsigned char)number)
            fail("another thread's scratch memory", number);
    __atomic_fetch_add(&w->done[number], 1, __ATOMIC_RELAXED);
    if (w->nested && number == 3) {
        unsigned seed = (unsigned)w->length;
        share_one(&seed, 1);
    }
}

static void share_one(unsigned *seed, int depth)
{
    work w = {.length = rand_r(seed) % 3 ? rand_r(seed) % 30 : rand_r(seed) % 3000};
    ptrdiff_t parts = rand_r(seed) % (rand_r(seed) % 4 ? 20 : MOST_PARTS);
    w.scratch = rand_r(seed) % 512 ? rand_r(seed) % 3000 : (1 << 24) + rand_r(seed) % 3000;
    w.nested = !depth && rand_r(seed) % 16 == 0;
    if (w.scratch > 3000)
        parts = parts % 4;
    if (team_share(part, &w, parts, 1 + rand_r(seed) % most_threads, w.scratch))
        fail("no memory", (long)w.scratch);
    for (int p = 0; p < MOST_PARTS; p++)
        if (__atomic_load_n(&w.done[p], __ATOMIC_RELAXED) != (p < parts))
            fail("a part not done once", p);
    memset(&w, 0xff, sizeof w);  /* whoever still looks at it fails */
    __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
}

static void *caller(void *number)
{
    unsigned seed = (unsigned)(uintptr_t)number;
    for (int k = rand_r(&seed) % 200; k && now() < until; k--) {
        share_one(&seed, 0);
        if (rand_r(&seed) % 50 == 0)
            usleep(rand_r(&seed) % 400);
        if (rand_r(&seed) % 50 == 0)
            scratch_empty();
    }
    return NULL;
}

static void start(pthread_t *thread)
{
    if (pthread_create(thread, NULL, caller, (void *)(uintptr_t)++threads_started))
        fail("no thread", threads_started);
}

/* At the end: nothing is held, and all scratch memory can be freed. A helper may be about to let go. */
static void check_nothing_is_left(void)
{
    for (slot *s = slots; s < slots + SLOTS; s++) {
        for (int k = 0; k < 5000 && __atomic_load_n(&s->state, __ATOMIC_ACQUIRE); k++)
            usleep(1000);
        if (__atomic_load_n(&s->state, __ATOMIC_ACQUIRE))
            fail("a slot is held", s - slots);
    }
    scratch_empty();
    for (int k = 0; k < 5000 && scratch_kept(); k++) {
        usleep(1000);
        scratch_empty();
    }
    if (scratch_kept())
        fail("bytes kept", (long)scratch_kept());
}

/* Computes, with helpers of its own, and so does a child of it. */
static void fork_children(unsigned seed, int generations)
{
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        until = now() + 20000000;
        do
            share_one(&seed, 0);
        while (now() < until);
        if (generations > 1)
            fork_children(seed, generations - 1);
        check_nothing_is_left();
        if (generations % 2)
            exit(0);
        _exit(0);
    }
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
        fail("a child's status", status);
}

int main(int count, char **words)
{
    if (count != 5 || team_begin())
        return 2;
    int callers = atoi(words[1]), forks = atoi(words[2]);
    most_threads = atoi(words[4]);
    until = now() + (int64_t)(atof(words[3]) * 1e9);
    pthread_t threads[MOST_CALLERS];
    unsigned seed = 1;
    long children = 0;
    for (int k = 0; k < callers; k++)
        start(threads + k);
    while (now() < until) {
        int k = rand_r(&seed) % callers;
        pthread_join(threads[k], NULL);
        start(threads + k);
        if (forks && threads_started % 8 == 0) {
            fork_children((unsigned)threads_started, 1 + threads_started % 3);
            children++;
        }
    }
    for (int k = 0; k < callers; k++)
        pthread_join(threads[k], NULL);
    check_nothing_is_left();
    printf("%ld calls, %ld parts by helpers, %ld wakes, %ld threads, %ld children\n", calls, parts_by_helpers, wakes,
           threads_started, children);
    return 0;
}
