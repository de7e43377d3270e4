"""The pool of threads that the calling thread belongs to, where it is not OpenMP's."""

cdef extern from *:
    """
    static _Thread_local void *fastlogits_team;
    """
    void* fastlogits_team


cdef Team* team() noexcept nogil:
    return <Team*>fastlogits_team


cdef void join(Team* team) noexcept nogil:
    global fastlogits_team
    fastlogits_team = team
