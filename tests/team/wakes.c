/* wakes THREADS STEPS CALLS: prints how many times a call woke helpers, for parts of STEPS steps. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "slots.h"

static void part(void *steps, ptrdiff_t number)
{
    (void)number;
    for (volatile long k = 0; k < *(long *)steps; k++) ;
}

int main(int count, char **words)
{
    if (count != 4 || team_begin())
        return 2;
    int threads = atoi(words[1]), calls = atoi(words[3]);
    long steps = atol(words[2]);
    team_share(part, &steps, 8 * threads, threads, 1);  /* starts the helpers */
    wakes = 0;
    for (int k = 0; k < calls; k++)
        team_share(part, &steps, 8 * threads, threads, 1);
    printf("%.3f\n", (double)wakes / calls);
    return 0;
}
