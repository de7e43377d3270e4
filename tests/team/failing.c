/* To be preloaded: lets one allocation of the C library fail. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);

static long left = -1;
static size_t least;

/* From now on the n-th allocation (from 0) of at least `bytes` fails; none if n < 0. How many of that size were left
 * to go, if the one before has not failed. */
long fail_after(long n, size_t bytes)
{
    least = bytes;
    return __atomic_exchange_n(&left, n, __ATOMIC_SEQ_CST);
}

static int fails(size_t size)
{
    if (size < least || __atomic_load_n(&left, __ATOMIC_SEQ_CST) < 0
        || __atomic_fetch_sub(&left, 1, __ATOMIC_SEQ_CST) != 0)
        return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return fails(size) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails(count * size) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    return fails(size) ? NULL : __libc_realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails(size) ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    if (fails(size))
        return ENOMEM;
    *memory = __libc_memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}
