"""The team of threads: one in a process, and so the only module that contains it."""

import os

cdef extern from "team/team.h" nogil:
    int team_begin()
    int team_share(part_of_job function, void* job, ptrdiff_t parts, int threads, size_t scratch)
    void team_join(team_pool* pool)
    void team_help()
    bint team_use_openmp(const char* library)
    int team_openmp_threads()
    long team_openmp_regions()
    int team_limit()

cdef extern from "team/scratch.h" nogil:
    void* scratch_hold(size_t size)
    void scratch_release()
    void* scratch_held()
    size_t scratch_kept()
    void scratch_empty()

cdef int failed = team_begin()
if failed:
    raise OSError(failed, os.strerror(failed))


cdef int share(part_of_job function, void* job, ptrdiff_t parts, int threads, size_t scratch) noexcept nogil:
    return team_share(function, job, parts, threads, scratch)


cdef void join(team_pool* pool) noexcept nogil:
    team_join(pool)


cdef void help() noexcept nogil:
    team_help()


cdef void* hold(size_t size) noexcept nogil:
    return scratch_hold(size)


cdef void release() noexcept nogil:
    scratch_release()


cdef void* held() noexcept nogil:
    return scratch_held()


cdef int openmp_threads_here() noexcept nogil:
    return team_openmp_threads()


cdef int limit_of_threads() noexcept nogil:
    return team_limit()


def use_openmp(bytes library):
    """Share the threads of that library's OpenMP, if it has one; whether the library is loaded."""
    return team_use_openmp(library)


def openmp_threads():
    """What that OpenMP would use in this thread; 0 without one."""
    return team_openmp_threads()


def regions():
    """How many calls that OpenMP's threads have shared."""
    return team_openmp_regions()


def limit():
    """What a user's controller of threads has set; 0: nothing."""
    return team_limit()


def scratch_bytes():
    """The scratch memory that all threads keep."""
    return scratch_kept()


def empty_scratch():
    scratch_empty()


# For Numba's drivers

def addresses():
    """Of `share` and of `held`."""
    return <size_t>&team_share, <size_t>&scratch_held
