/* What a team needs of the system: time, and words of memory to sleep on. */

#ifndef FASTLOGITS_WAITING_H
#define FASTLOGITS_WAITING_H

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

static inline int64_t now(void)  /* in ns */
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static inline void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");  /* `yield` does nothing on most of them */
#endif
}

/* Until somebody wakes, if the word is still as it was seen; sometimes sooner. */
void sleep_on(uint32_t *word, uint32_t seen);
void wake(uint32_t *word, int threads);
void forget_sleepers(void);  /* in a child made by fork */

/* A number of the processor that the thread is on, and how many processors it may be on. */
#ifdef __linux__
static inline int processor(void)
{
    return sched_getcpu();
}

static inline int processors(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
}

/* Waking a thread then never takes the processor from the one that wakes it. (Else a call of 20 us every 10 ms, on a
 * busy machine, takes 2 ms in one case of ten.) 0 where the system refuses. */
static inline int run_in_background(void)
{
    struct sched_param none = {0};
    return pthread_setschedparam(pthread_self(), SCHED_BATCH, &none) == 0;
}
#else
static inline int processor(void)
{
    return -1;
}

static inline int processors(void)
{
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

static inline int run_in_background(void)
{
    return 1;
}
#endif

#endif
