# The threads that share out the parts of a job, and their scratch memory: see team/team.h and team/scratch.h.

from libc.stddef cimport ptrdiff_t

ctypedef void (*part_of_job)(void* job, ptrdiff_t part) noexcept nogil

cdef extern from "team/team.h" nogil:
    ctypedef struct team_pool:
        void (*invite)(team_pool* pool, int helpers) noexcept nogil

cdef int share(part_of_job function, void* job, ptrdiff_t parts, int threads, size_t scratch) noexcept nogil
cdef void join(team_pool* pool) noexcept nogil
cdef void help() noexcept nogil
cdef void* hold(size_t size) noexcept nogil
cdef void release() noexcept nogil
cdef void* held() noexcept nogil
cdef int openmp_threads_here() noexcept nogil
cdef int limit_of_threads() noexcept nogil
