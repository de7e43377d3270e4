/* Jobs under way, and what their callers and their helpers do in them. */

#ifndef FASTLOGITS_SLOTS_H
#define FASTLOGITS_SLOTS_H

#include "team.h"
#include "waiting.h"

enum {
    LINE = 128,       /* bytes: two cache lines, which processors fetch together */
    SLOTS = 32,       /* jobs at once; a caller who finds none works alone */
    QUEUES = 64,      /* threads of a job with parts of their own */
    PLACE = 1 << 16,  /* in a slot's state, a place for a helper; below it, who holds the slot */
};

typedef struct {
    ptrdiff_t next, end;
    uint32_t size, done, begun;  /* parts: all, finished by helpers, begun by helpers */
} __attribute__((aligned(LINE))) queue;

/* A job under way. Each thread in it holds the slot, which is used again only when nobody does: a helper that is late
 * finds counters that have run out, never memory that is gone. */
typedef struct {
    uint32_t state;   /* 0: free */
    uint32_t asleep;  /* the caller, on a queue's `done` */
    uint32_t called;  /* whether sleeping helpers were to be woken */
    int wanted, n, processor;  /* helpers, queues in use; where the caller is */
    ptrdiff_t parts;
    int64_t begun;
    team_part function;
    void *job;
    size_t scratch;
    queue queues[QUEUES];
} __attribute__((aligned(LINE))) slot;

extern slot slots[SLOTS];

/* For a test that counts what happens */
#ifdef TEAM_COUNTS
extern long parts_by_helpers, wakes;
#define TEAM_COUNT(what) __atomic_fetch_add(&(what), 1, __ATOMIC_RELAXED)
#else
#define TEAM_COUNT(what) ((void)0)
#endif

/* A slot with places for helpers, held by the caller; NULL where none is free. */
slot *slot_open(team_part function, void *job, ptrdiff_t parts, int threads, size_t scratch);

/* The caller: does all parts that nobody else takes, and lets no other helper in. How many parts helpers have begun. */
ptrdiff_t slot_do_parts(slot *s);

/* The caller: waits for the parts that helpers have begun. */
void slot_wait(slot *s);

/* Does parts, if there is a place: then 1, and the slot is held. Helpers with other numbers begin elsewhere. */
int slot_help(slot *s, int number);
void slot_leave(slot *s);

/* In a child made by fork: of threads that are not there. */
void slots_forget(void);

/* team.c: the caller wakes helpers, if any sleep; but not where that has been in vain of late, unless the job is known
 * to be long. A helper wakes more of them, where the caller has woken some. */
void team_call(slot *s, int64_t then, int is_long);
void team_call_others(slot *s);

#endif
