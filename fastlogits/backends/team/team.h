/* A team of threads that share out the parts of a job, and wait for nobody.
 *
 * The caller takes parts itself, helpers that are awake in time take some, and at the end the caller waits for parts
 * that were begun, never for a thread that has not been scheduled. (An OpenMP region ends when every thread of it has
 * been: with one busy process beside, on two processors, a call of 100 us then takes 12 ms.) Any number of threads may
 * call at once, and come and go. A child made by fork starts helpers of its own.
 */

#ifndef FASTLOGITS_TEAM_H
#define FASTLOGITS_TEAM_H

#include <stddef.h>

/* Does one part; on whatever thread, which holds the scratch memory that was asked for (see scratch.h). */
typedef void (*team_part)(void *job, ptrdiff_t part);

/* Once, before the rest; 0 or an error number. */
int team_begin(void);

/* function(job, part) for each part in [0, parts), on at most `threads` threads that hold `scratch` bytes each.
 * 0, or ENOMEM where the caller cannot hold them: then nothing was done. */
int team_share(team_part function, void *job, ptrdiff_t parts, int threads, size_t scratch);

/* Threads of others that help in the place of the team's own. */
typedef struct team_pool {
    /* Lets team_help run on so many other threads: soon, late or never. */
    void (*invite)(struct team_pool *pool, int helpers);
} team_pool;

/* The pool that the calling thread belongs to from now on; NULL: none. */
void team_join(team_pool *pool);

/* Takes parts of jobs that are under way, if there are any. */
void team_help(void);

/* For a process in which a library, torch, computes on threads of OpenMP: they spin for milliseconds after each region
 * and hold the processors, so that helpers cannot come. One thread's jobs then go to regions of that OpenMP, and for a
 * while after a region that has lost time, to helpers. Whether the library is there; it need not have an OpenMP. */
int team_use_openmp(const char *library);

/* What that OpenMP would use in the calling thread; 0 where there is none. */
int team_openmp_threads(void);

/* How many jobs went to regions. */
long team_openmp_regions(void);

/* For a user's controller of threads, which finds them by their names: what it allows; else as many as there are
 * processors. */
int fastlogits_get_num_threads(void);
void fastlogits_set_num_threads(int threads);

/* What a controller has set; 0: nothing. */
int team_limit(void);

#endif
