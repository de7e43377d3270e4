"""How the numbers of an array are stored: between the memory of arrays and scratch memory, part of the primitives;
storage.h is their C.
"""

import numpy as np

from fastlogits.kernels import machine, scalars

NATIVE, FLOAT16, BFLOAT16 = range(3)
STREAMED = 4  # added where results go past the caches
REST = 1 << 62  # of an array, however long


def readable(storage):
    """Whether numbers can be read where they lie."""
    return storage & (FLOAT16 | BFLOAT16) == 0


def load(x, at, n, buffer, storage):
    if readable(storage):
        return machine.stretch(x, at, n)
    widen(machine.halves(x, at, n), n, buffer, storage)
    return buffer


def place(y, at, buffer, storage):
    """Where results for y are best computed: y itself, or a buffer from which `store` converts them."""
    return machine.stretch(y, at, REST) if storage == NATIVE else buffer


def store(y, at, n, values, storage):
    if storage == STREAMED:
        stream(machine.stretch(y, at, n), n, values)
    elif storage == NATIVE:
        machine.copy(machine.stretch(y, at, n), n, values)
    else:
        narrow(values, n, machine.halves(y, at, n), storage)


def stream(y, n, values):
    """A copy that does not read the cache lines it fills."""
    w = machine.width(y)
    first = min(n, machine.until_line(y))
    for i in range(first):
        y[i] = values[i]
    while first + w <= n:
        machine.write_past(y, first, machine.read(values, first))
        first += w
    for i in range(first, n):
        y[i] = values[i]


def widen(half, n, real, storage):
    """The lines 4 KB ahead are asked for."""
    for line in range(0, n, 32):
        machine.prefetch(half, line + 2048)
    if storage & BFLOAT16:
        for i in range(n):
            real[i] = scalars.to_float(np.uint32(half[i]) << 16)
    else:
        for i in range(n):
            real[i] = float16_to_float(half[i])


def narrow(real, n, half, storage):
    if storage & BFLOAT16:
        for i in range(n):
            half[i] = float_to_bfloat16(real[i])
    else:
        for i in range(n):
            half[i] = float_to_float16(real[i])


def float16_to_float(half):
    """Exponent and mantissa moved into place, then 2^112 for the difference of the biases."""
    bits = np.uint32(half)
    size = scalars.to_bits(scalars.to_float((bits & 0x7FFF) << 13) * np.float32(2.0**112))
    if bits & 0x7C00 == 0x7C00:
        size = np.int32(0x7F800000 | (bits & 0x3FF) << 13)
    return scalars.to_float(np.uint32(size) | (bits & 0x8000) << 16)


def float_to_float16(real):
    """Rounds to even: below 2^-14 by adding 1/2, which aligns the mantissa, else by integer arithmetic."""
    bits = scalars.to_bits(real)
    size = bits & 0x7FFFFFFF
    if size >= 0x47800000:
        half = 0x7E00 if size > 0x7F800000 else 0x7C00
    elif size < 0x38800000:
        half = scalars.to_bits(abs(real) + np.float32(0.5)) - 0x3F000000
    else:
        half = (size + (0xFFF - 0x38000000) + ((size >> 13) & 1)) >> 13
    return np.uint16(half | (bits >> 16) & 0x8000)


def float_to_bfloat16(real):
    bits = scalars.to_bits(real)
    size = bits & 0x7FFFFFFF
    half = size >> 16 | 0x40 if size > 0x7F800000 else (size + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.uint16(half | (bits >> 16) & 0x8000)
