#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "waiting.h"

#if defined(__linux__) && !defined(TEAM_WITHOUT_FUTEX)
#include <sys/syscall.h>

enum { WAIT_PRIVATE = 128, WAKE_PRIVATE = 129 };  /* of <linux/futex.h>, which not every build machine has */

void sleep_on(uint32_t *word, uint32_t seen)
{
    syscall(SYS_futex, word, WAIT_PRIVATE, seen, NULL, NULL, 0);
}

void wake(uint32_t *word, int threads)
{
    syscall(SYS_futex, word, WAKE_PRIVATE, threads, NULL, NULL, 0);
}

void forget_sleepers(void) {}

#else

/* One condition for all words: who sleeps on another one, or is one too many, finds nothing to do and sleeps on. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;

void sleep_on(uint32_t *word, uint32_t seen)
{
    pthread_mutex_lock(&mutex);
    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) == seen)
        pthread_cond_wait(&woken, &mutex);
    pthread_mutex_unlock(&mutex);
}

void wake(uint32_t *word, int threads)
{
    (void)word, (void)threads;
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    pthread_cond_broadcast(&woken);
}

void forget_sleepers(void)
{
    pthread_mutex_init(&mutex, NULL);
    pthread_cond_init(&woken, NULL);
}
#endif
