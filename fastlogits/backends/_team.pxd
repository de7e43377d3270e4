# Who shares out work in the calling thread: OpenMP, or the pool that the thread belongs to. Threads of a foreign pool
# must not enter OpenMP regions: each would be given a team of its own, whose threads then stay.

ctypedef void (*part_of_job)(void* job, Py_ssize_t part) noexcept nogil

cdef struct Team:
    # Calls function(job, part) for each part in [0, parts), on at most `threads` threads, and returns when all is done.
    void (*share)(Team* team, part_of_job function, void* job, Py_ssize_t parts, int threads) noexcept nogil

cdef Team* team() noexcept nogil  # NULL: OpenMP's
cdef void join(Team* team) noexcept nogil
cdef void let_go() noexcept nogil  # after a region: of OpenMP's threads, unless this thread is the one that keeps them
