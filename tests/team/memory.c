/* Every allocation of a thread's first call fails once: then it does nothing, and the next one works. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "scratch.h"
#include "team.h"

long fail_after(long n, size_t bytes);

enum { PARTS = 16 };

static void part(void *done, ptrdiff_t number)
{
    ((int *)done)[number]++;
}

static void *first_call(void *n)
{
    int done[PARTS] = {0};
    fail_after(*(long *)n, 1);
    int failed = team_share(part, done, PARTS, 1, 5000);
    long left = fail_after(-1, 1);
    int again = team_share(part, done, PARTS, 1, 5000);
    for (int k = 0; k < PARTS; k++)
        if (done[k] != 2 - (failed != 0))
            return "a part was done though the call failed, or not done";
    if (again || (failed && failed != ENOMEM))
        return "a wrong error";
    *(long *)n = left >= 0 ? -1 : *(long *)n + 1;
    return NULL;
}

int main(void)
{
    if (team_begin())
        return 2;
    long n = 0, failures = 0;
    for (; n >= 0; failures++) {
        pthread_t thread;
        void *fault;
        if (pthread_create(&thread, NULL, first_call, &n) || pthread_join(thread, &fault))
            return 3;
        if (fault) {
            puts(fault);
            return 1;
        }
    }
    printf("%ld failures, %zu bytes kept\n", failures - 1, scratch_kept());
    return 0;
}
