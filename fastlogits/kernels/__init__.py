"""The mathematics: kernels in plain Python loops (.py) with their C types (.pxd), over a few primitives.

Cython compiles the text ahead of time, once per instruction set into the folders v2, v3, v4 (or generic) beside it,
one of which `fastlogits.backends.cython` puts on this package's path. Numba compiles the very same text at run time.
"""
