# cython: language_level=3
"""The instruction set of this processor, in the names of the x86-64 psABI."""

cdef extern from *:
    """
    static const char *instruction_set(void)
    {
    #if defined(__x86_64__)
        __builtin_cpu_init();
        if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("popcnt"))
            return "generic";
        if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2"))
            return "v2";
        if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")
            || !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
            return "v3";
        return "v4";
    #else
        return "generic";
    #endif
    }
    """
    const char* instruction_set()


def best():
    """"v4", "v3", "v2", or "generic": what any processor of its kind runs."""
    return instruction_set().decode()
