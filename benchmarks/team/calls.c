/* calls VARIANT WORK PARTS THREADS GAP CALLERS BESIDE SECONDS: times calls of WORK ns each, shared out in PARTS, GAP ns
 * apart; BESIDE 1: after a region of OpenMP, as in a process that runs torch.
 *
 * VARIANT: serial, team, openmp (a region for each call), hybrid (the team beside OpenMP).
 * Prints us: median, mean, 90th and 99th percentile; then processors used, and how many calls there were.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "team.h"
#include "waiting.h"

enum { MOST_CALLERS = 64, MOST_CALLS = 1 << 20 };

static double ns_per_step;
static int64_t work_of_a_call, gap, until;
static ptrdiff_t parts;
static int threads, beside;
static void (*share)(team_part, void *, ptrdiff_t, int);

/* A chain of multiplications: takes the same time wherever it runs, and no memory. */
static __attribute__((noinline)) void compute(long steps)
{
    double x = 0.5;
    for (long k = 0; k < steps; k++) {
        x = x * 0.999 + 0.001;
        __asm__ volatile("" : "+x"(x));
    }
}

static void part(void *steps, ptrdiff_t number)
{
    (void)number;
    compute(*(long *)steps);
}

static void share_serially(team_part function, void *job, ptrdiff_t n, int most)
{
    (void)most;
    for (ptrdiff_t k = 0; k < n; k++)
        function(job, k);
}

static void share_in_team(team_part function, void *job, ptrdiff_t n, int most)
{
    team_share(function, job, n, most, 1);
}

static void share_in_openmp(team_part function, void *job, ptrdiff_t n, int most)
{
#pragma omp parallel for num_threads(most) schedule(dynamic, 1)
    for (ptrdiff_t k = 0; k < n; k++)
        function(job, k);
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

typedef struct {
    float *us;
    long count;
} calls;

static void *caller(void *calls_)
{
    calls *c = calls_;
    long steps = (long)(work_of_a_call / ns_per_step / parts), other = (long)(50000 / ns_per_step / 16);
    while (c->count < MOST_CALLS && now() < until) {
        if (beside)
            share_in_openmp(part, &other, 16, threads);
        int64_t start = now();
        share(part, &steps, parts, threads);
        c->us[c->count++] = (now() - start) * 1e-3f;
        if (gap) {
            struct timespec rest = {0, gap};
            nanosleep(&rest, NULL);
        }
    }
    return NULL;
}

static double calibrate(void)
{
    double best = INFINITY;
    for (int k = 0; k < 3000; k++) {
        int64_t start = now();
        compute(10000);
        best = fmin(best, (now() - start) / 1e4);
    }
    return best;
}

static double processor_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + 1e-6 * (used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

int main(int count, char **words)
{
    if (count != 9 || team_begin())
        return 2;
    const char *variant = words[1];
    work_of_a_call = atol(words[2]);
    parts = atol(words[3]);
    threads = atoi(words[4]);
    gap = atol(words[5]);
    int callers = atoi(words[6]);
    beside = atoi(words[7]);
    share = !strcmp(variant, "serial") ? share_serially : !strcmp(variant, "openmp") ? share_in_openmp : share_in_team;
    if (!strcmp(variant, "hybrid") && !team_use_openmp("libgomp.so.1"))
        return 3;
    ns_per_step = calibrate();
    calls all[MOST_CALLERS] = {0};
    pthread_t ids[MOST_CALLERS];
    for (int k = 0; k < callers; k++)
        all[k].us = malloc(MOST_CALLS * sizeof(float));
    int64_t begun = now();
    double used = processor_seconds();
    until = begun + (int64_t)(atof(words[8]) * 1e9);
    for (int k = 1; k < callers; k++)
        pthread_create(ids + k, NULL, caller, all + k);
    caller(all);
    for (int k = 1; k < callers; k++)
        pthread_join(ids[k], NULL);
    used = (processor_seconds() - used) / ((now() - begun) * 1e-9);
    long n = 0;
    double sum = 0;
    for (int k = 0; k < callers; k++)
        n += all[k].count;
    float *us = malloc(n * sizeof(float)), *next = us;
    for (int k = 0; k < callers; k++)
        for (long i = 0; i < all[k].count; i++)
            sum += *next++ = all[k].us[i];
    qsort(us, n, sizeof(float), ascending);
    printf("%.2f %.2f %.2f %.2f %.2f %ld\n", us[n / 2], sum / n, us[n * 9 / 10], us[n * 99 / 100], used, n);
    return 0;
}
