#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "team.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "openmp.h"
#include "scratch.h"
#include "slots.h"

enum {
    MOST = 1024,      /* threads of a job */
    FAN = 2,          /* helpers that one thread wakes: they wake others */
    STACK = 1 << 18,  /* bytes of a helper's stack */
};

/* Times in ns */
#define SPIN 100000         /* that a helper looks out for the next job before it sleeps */
#define STOLEN 20000        /* between two looks: somebody else had the processor */
#define REST 5000000        /* at most, in which helpers are not woken for short jobs: it was in vain */
#define REFUSED 1000000000  /* after the system has refused a thread: the next try */

static struct {
    uint32_t jobs __attribute__((aligned(LINE)));    /* so far; helpers sleep on it */
    uint32_t open __attribute__((aligned(LINE)));    /* a bit for each slot that may have places */
    uint32_t asleep __attribute__((aligned(LINE)));  /* helpers */
    uint32_t helpers, demand;
    int64_t hire_after;
    uint32_t in_vain __attribute__((aligned(LINE)));  /* since woken, helpers have done less than half their share */
    int64_t call_after, rest;
    int in_foreground;  /* helpers take the processor from those who wake them */
} team;

static int others;  /* processors, besides the caller's */
static int limit;   /* to the number of threads, set by a user's controller */
static pthread_key_t pool_key;

#ifdef TEAM_COUNTS
long parts_by_helpers, wakes;
#endif

/* Calling helpers */

static void wake_helpers(int wanted)
{
    TEAM_COUNT(wakes);
    wake(&team.jobs, wanted < FAN ? wanted : FAN);
}

void team_call_others(slot *s)
{
    int places = (int)(__atomic_load_n(&s->state, __ATOMIC_RELAXED) / PLACE);
    if (places && __atomic_load_n(&s->called, __ATOMIC_RELAXED) && __atomic_load_n(&team.asleep, __ATOMIC_RELAXED))
        wake_helpers(places);
}

void team_call(slot *s, int64_t then, int is_long)
{
    if (__atomic_load_n(&team.asleep, __ATOMIC_SEQ_CST)) {
        if (!is_long && (then < __atomic_load_n(&team.call_after, __ATOMIC_RELAXED)
                         || __atomic_load_n(&team.in_foreground, __ATOMIC_RELAXED)))
            return;
        int64_t rest = 0;
        if (__atomic_load_n(&team.in_vain, __ATOMIC_RELAXED)) {
            rest = __atomic_load_n(&team.rest, __ATOMIC_RELAXED) * 2;
            rest = rest < REST / 128 ? REST / 128 : rest > REST ? REST : rest;
        }
        __atomic_store_n(&team.rest, rest, __ATOMIC_RELAXED);
        __atomic_store_n(&team.call_after, then + rest, __ATOMIC_RELAXED);
        __atomic_store_n(&team.in_vain, 1, __ATOMIC_RELAXED);
        wake_helpers(s->wanted);
    }
    __atomic_store_n(&s->called, 1, __ATOMIC_RELAXED);
}

/* Helpers */

/* Whether another job is worth looking out for: not on the processor of a caller. */
static int help_all(int number)
{
    int apart = 0;
    uint32_t open = __atomic_load_n(&team.open, __ATOMIC_RELAXED);
    for (int k = 0; open && k < SLOTS; k++) {
        int index = (number + k) % SLOTS;  /* the helpers of many callers begin with different ones */
        if (open >> index & 1 && slot_help(slots + index, number)) {
            apart = slots[index].processor != processor() || processor() < 0;
            slot_leave(slots + index);
        }
    }
    return apart;
}

void team_help(void)
{
    help_all(0);
}

/* Whether another job came; not if it takes long, or others want this processor. */
static int look_out(uint32_t jobs)
{
    for (int64_t start = now(), last = start, then = start; then - start < SPIN; last = then) {
        for (int k = 0; k < 16; k++) {
            if (__atomic_load_n(&team.jobs, __ATOMIC_RELAXED) != jobs)
                return 1;
            pause_briefly();
        }
        then = now();
        if (then - last > STOLEN)
            return 0;
    }
    return 0;
}

static void *helper(void *number)
{
    if (!run_in_background())
        __atomic_store_n(&team.in_foreground, 1, __ATOMIC_RELAXED);
    for (;;) {
        uint32_t jobs = __atomic_load_n(&team.jobs, __ATOMIC_SEQ_CST);
        if (help_all((int)(intptr_t)number) && look_out(jobs))
            continue;
        __atomic_fetch_add(&team.asleep, 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&team.jobs, __ATOMIC_SEQ_CST) == jobs)
            sleep_on(&team.jobs, jobs);
        __atomic_fetch_sub(&team.asleep, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static int start_helper(int number)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t blocked, before;
    sigfillset(&blocked);  /* signals are for the program's threads, but for those about the thread itself */
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++)
        sigdelset(&blocked, faults[k]);
    if (pthread_attr_init(&attributes))
        return 0;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int failed = pthread_create(&thread, &attributes, helper, (void *)(intptr_t)number);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return !failed;
}

/* Helpers for all jobs at once, but no more than there are other processors, or than one job wants. */
static void hire(int demand, int wanted, int64_t then)
{
    int most = others > wanted ? others : wanted, have = (int)__atomic_load_n(&team.helpers, __ATOMIC_RELAXED);
    if (then < __atomic_load_n(&team.hire_after, __ATOMIC_RELAXED))
        return;
    while (have < demand && have < most) {
        uint32_t seen = (uint32_t)have;
        if (!__atomic_compare_exchange_n(&team.helpers, &seen, seen + 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            have = (int)seen;
            continue;
        }
        if (!start_helper(++have)) {
            __atomic_fetch_sub(&team.helpers, 1, __ATOMIC_RELAXED);
            __atomic_store_n(&team.hire_after, then + REFUSED, __ATOMIC_RELAXED);
            return;
        }
    }
}

/* Callers */

static void share(slot *s, team_pool *pool)
{
    uint32_t bit = UINT32_C(1) << (s - slots), wanted = (uint32_t)s->wanted;
    __atomic_fetch_or(&team.open, bit, __ATOMIC_RELAXED);
    __atomic_fetch_add(&team.jobs, 1, __ATOMIC_SEQ_CST);
    if (pool) {
        __atomic_store_n(&s->called, 1, __ATOMIC_RELAXED);
        pool->invite(pool, s->wanted);
    } else {
        uint32_t demand = __atomic_add_fetch(&team.demand, wanted, __ATOMIC_RELAXED);
        team_call(s, s->begun, 0);
        if (__atomic_load_n(&team.helpers, __ATOMIC_RELAXED) < demand)
            hire((int)demand, s->wanted, s->begun);
    }
    ptrdiff_t theirs = slot_do_parts(s);
    __atomic_fetch_and(&team.open, ~bit, __ATOMIC_RELAXED);
    if (!pool)
        __atomic_fetch_sub(&team.demand, wanted, __ATOMIC_RELAXED);
    if (2 * theirs * (s->wanted + 1) >= s->parts * s->wanted && __atomic_load_n(&team.in_vain, __ATOMIC_RELAXED))
        __atomic_store_n(&team.in_vain, 0, __ATOMIC_RELAXED);
    slot_wait(s);
}

int team_share(team_part function, void *job, ptrdiff_t parts, int threads, size_t scratch)
{
    slot *s = NULL;
    if (!scratch_hold(scratch))
        return ENOMEM;
    threads = threads > parts ? (int)parts : threads > MOST ? MOST : threads;
    if (threads > 1 && parts <= INT32_MAX)
        s = slot_open(function, job, parts, threads, scratch);
    if (s == NULL)
        for (ptrdiff_t part = 0; part < parts; part++)
            function(job, part);
    else {
        team_pool *pool = pthread_getspecific(pool_key);
        /* Not before helpers were there, too: where there can be no more threads, OpenMP ends the process. */
        if (pool == NULL && __atomic_load_n(&team.helpers, __ATOMIC_RELAXED) >= (uint32_t)s->wanted
            && openmp_serves(s->begun))
            openmp_share(s);
        else
            share(s, pool);
        slot_leave(s);
    }
    scratch_release();
    return 0;
}

void team_join(team_pool *pool)
{
    /* Where there is no memory for it, the team's own helpers come. */
    pthread_setspecific(pool_key, pool);
}

int team_limit(void)
{
    return __atomic_load_n(&limit, __ATOMIC_RELAXED);
}

int fastlogits_get_num_threads(void)
{
    return team_limit() ? team_limit() : others + 1;
}

void fastlogits_set_num_threads(int threads)
{
    __atomic_store_n(&limit, threads, __ATOMIC_RELAXED);
}

/* None of the other threads is there: no helper, and nobody's job. */
static void in_child(void)
{
    slots_forget();
    memset(&team, 0, sizeof team);
    forget_sleepers();
    openmp_forget();
}

int team_begin(void)
{
    others = processors() - 1;
    int failed = scratch_begin();
    failed = failed ? failed : openmp_begin();
    failed = failed ? failed : pthread_key_create(&pool_key, NULL);
    return failed ? failed : pthread_atfork(NULL, NULL, in_child);
}
