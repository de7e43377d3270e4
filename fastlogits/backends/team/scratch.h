/* Scratch memory: one block for each thread, aligned, kept for its next call, freed with the thread. */

#ifndef FASTLOGITS_SCRATCH_H
#define FASTLOGITS_SCRATCH_H

#include <stddef.h>

/* Once, before the rest; 0 or an error number. */
int scratch_begin(void);

/* At least `size` bytes that are the calling thread's until scratch_release, of unknown content, or NULL where there is
 * no memory. May be held several times at once: then it is one block, and a call for a larger one moves it. */
void *scratch_hold(size_t size);
void scratch_release(void);

/* What the calling thread holds. */
void *scratch_held(void);

/* The bytes that all threads keep. */
size_t scratch_kept(void);

/* Frees the blocks that nobody holds. */
void scratch_empty(void);

#endif
