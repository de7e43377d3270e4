#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "slots.h"

#include "scratch.h"

/* Times in ns */
#define PATIENCE 20000  /* that a caller waits awake for begun parts, at least */
#define LONG 200000     /* after which any job is worth waking helpers for */
#define STINT 300000    /* after which a helper lets others go first, between two parts */

slot slots[SLOTS];

static inline ptrdiff_t take(queue *q)
{
    /* The look first: to a helper who goes through all queues at the end, most are empty. */
    if (__atomic_load_n(&q->next, __ATOMIC_RELAXED) >= q->end)
        return -1;
    ptrdiff_t part = __atomic_fetch_add(&q->next, 1, __ATOMIC_RELAXED);
    return part < q->end ? part : -1;
}

static slot *free_slot(void)
{
    for (slot *s = slots; s < slots + SLOTS; s++) {
        uint32_t state = __atomic_load_n(&s->state, __ATOMIC_RELAXED);
        if (state == 0 && __atomic_compare_exchange_n(&s->state, &state, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return s;
    }
    return NULL;
}

slot *slot_open(team_part function, void *job, ptrdiff_t parts, int threads, size_t scratch)
{
    slot *s = free_slot();
    if (s == NULL)
        return NULL;
    s->asleep = s->called = 0;
    s->wanted = threads - 1;
    s->n = threads < QUEUES ? threads : QUEUES;
    s->processor = processor();
    s->function = function;
    s->job = job;
    s->parts = parts;
    s->scratch = scratch;
    for (int k = 0; k < s->n; k++) {
        queue *q = &s->queues[k];
        q->next = parts * k / s->n;
        q->end = parts * (k + 1) / s->n;
        q->size = (uint32_t)(q->end - q->next);
        q->done = 0;
    }
    s->begun = now();
    __atomic_store_n(&s->state, (uint32_t)s->wanted * PLACE + 1, __ATOMIC_RELEASE);
    return s;
}

ptrdiff_t slot_do_parts(slot *s)
{
    ptrdiff_t begun = 0;
    for (queue *q = s->queues; q < s->queues + s->n; q++) {
        uint32_t own = 0;
        for (ptrdiff_t part; (part = take(q)) >= 0; own++) {
            int64_t then;
            if (own % 4 == 3 && !s->called && (then = now()) - s->begun > LONG)
                team_call(s, then, 1);
            s->function(s->job, part);
        }
        q->begun = q->size - own;
        begun += q->begun;
    }
    __atomic_fetch_and(&s->state, PLACE - 1, __ATOMIC_RELAXED);
    return begun;
}

void slot_wait(slot *s)
{
    int64_t start = 0, patience = 0;
    for (queue *q = s->queues; q < s->queues + s->n; q++)
        for (uint32_t k = 1, done; (done = __atomic_load_n(&q->done, __ATOMIC_SEQ_CST)) != q->begun; k++) {
            if (__atomic_load_n(&s->asleep, __ATOMIC_RELAXED)) {
                sleep_on(&q->done, done);
                continue;
            }
            if (start == 0) {
                start = now();
                patience = (start - s->begun) / s->queues->size;  /* what a part may take */
                patience = patience > PATIENCE ? patience : PATIENCE;
            }
            pause_briefly();
            if (k % 16 == 0 && now() - start > patience)
                __atomic_store_n(&s->asleep, 1, __ATOMIC_SEQ_CST);
        }
}

static void help(slot *s, int number)
{
    int64_t fresh = now(), then;
    for (int k = 0, first = 1 + number % (s->n - 1); k < s->n; k++) {
        queue *q = &s->queues[(first + k) % s->n];
        for (ptrdiff_t part; (part = take(q)) >= 0;) {
            s->function(s->job, part);
            TEAM_COUNT(parts_by_helpers);
            __atomic_fetch_add(&q->done, 1, __ATOMIC_SEQ_CST);
            if (__atomic_load_n(&s->asleep, __ATOMIC_SEQ_CST))
                wake(&q->done, 1);
            if ((then = now()) - fresh > STINT) {
                sched_yield();
                fresh = now();
            }
        }
    }
}

int slot_help(slot *s, int number)
{
    uint32_t state = __atomic_load_n(&s->state, __ATOMIC_RELAXED);
    do
        if (state < PLACE)
            return 0;
    while (!__atomic_compare_exchange_n(&s->state, &state, state - PLACE + 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
    team_call_others(s);
    /* Who has no scratch memory leaves the parts to the others. */
    if (scratch_hold(s->scratch)) {
        help(s, number ? number : (int)(state / PLACE));
        scratch_release();
    }
    return 1;
}

void slot_leave(slot *s)
{
    __atomic_fetch_sub(&s->state, 1, __ATOMIC_RELEASE);
}

void slots_forget(void)
{
    for (slot *s = slots; s < slots + SLOTS; s++)
        if (s->state)
            s->state = 0;
}
