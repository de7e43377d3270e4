"""The primitives of the kernel text for Numba and the interpreter; primitives.h holds the same names for C."""
