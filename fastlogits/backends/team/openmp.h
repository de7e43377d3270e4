/* Regions of another library's OpenMP, for callers beside it. */

#ifndef FASTLOGITS_OPENMP_H
#define FASTLOGITS_OPENMP_H

#include "slots.h"

int openmp_begin(void);
void openmp_forget(void);

/* Whether the calling thread's jobs go to regions. */
int openmp_serves(int64_t then);
void openmp_share(slot *s);

#endif
