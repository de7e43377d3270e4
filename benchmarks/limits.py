"""What this machine can do at best: bandwidths, exponentials, the cost of a parallel region.

Plain loops compiled by Numba. Each bandwidth is measured on as many bytes as the array in question has, so
that caches count, by one thread and by all; the better holds.
"""

import functools
import timeit
from typing import NamedTuple

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from fastlogits.backends.numba.machine import machine_of

machine = machine_of("float32")

LOOP = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
L1_NUMBERS = 1024
REPEATS = 100


@intrinsic
def pointer(typingctx, array):
    """Where an array's numbers begin, as the kernels' machine takes it."""

    def emit(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), emit


# Numba vectorises a loop from 0 over a slice, not one whose start it does not know: so `_shared` slices.


@numba.njit(**LOOP)
def _read(x, y):
    total = np.float32(0)
    for i in range(x.size):
        total += x[i]
    y[0] = total


@numba.njit(**LOOP)
def _update(x, y):
    factor = y[0]
    for i in range(x.size):
        x[i] *= factor


@numba.njit(**LOOP)
def _copy(x, y):
    for i in range(x.size):
        y[i] = x[i]


@numba.njit(**LOOP)
def _stream(x, y):
    """A copy past the caches, by our own means: NumPy has none, and glibc's begins where it believes them to end."""
    source, target = pointer(x), pointer(y)
    i = machine.until_line(target, 0)
    _copy(x[:i], y[:i])
    while i + machine.WIDTH <= x.size:
        machine.save_past(target, i, machine.load(source, i))
        i += machine.WIDTH
    _copy(x[i:], y[i:])
    machine.end_streams()


@numba.njit(**LOOP)
def _exp32(x, y):
    """Sum exp(x - shift) for REPEATS shifts: a polynomial for 2**f, f in [-1/2, 1/2], then the exponent."""
    total, shift = np.float32(0), np.float32(0)
    for _ in range(REPEATS):
        for i in range(x.size):
            t = (x[i] - shift) * np.float32(1.442695)
            t = t if t > np.float32(-126) else np.float32(-126)
            n = np.floor(t + np.float32(0.5))
            f = t - n
            p = np.float32(0.0013333558)
            p = p * f + np.float32(0.009618129)
            p = p * f + np.float32(0.05550411)
            p = p * f + np.float32(0.2402265)
            p = p * f + np.float32(0.6931472)
            p = p * f + np.float32(1)
            total += p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
        shift += np.float32(1e-3)
    y[0] = total


@numba.njit(**LOOP)
def _exp64(x, y):
    total, shift = 0.0, 0.0
    for _ in range(REPEATS):
        for i in range(x.size):
            t = (x[i] - shift) * 1.4426950408889634
            t = t if t > -1022.0 else -1022.0
            n = np.floor(t + 0.5)
            f = t - n
            p = 4.45e-10
            p = p * f + 7.054911620801123e-9
            p = p * f + 1.0178086009239699e-7
            p = p * f + 1.3215486790144307e-6
            p = p * f + 1.5252733804059841e-5
            p = p * f + 1.5403530393381608e-4
            p = p * f + 1.3333558146428443e-3
            p = p * f + 9.618129107628477e-3
            p = p * f + 5.550410866482158e-2
            p = p * f + 2.4022650695910072e-1
            p = p * f + 6.931471805599453e-1
            p = p * f + 1.0
            exponent = np.int64((np.int64(n) + np.int64(1023)) << np.int64(52))
            total += p * exponent.view(np.float64)
        shift += 1e-3
    y[0] = total


@numba.njit(**LOOP)
def _nothing(x, y):
    pass


@functools.cache
def _shared(part):
    @numba.njit(parallel=True, **LOOP)
    def shared(x, y, parts):
        for k in numba.prange(parts):
            start, stop = x.size * k // parts, x.size * (k + 1) // parts
            part(x[start:stop], y[start:stop])

    return shared


def _seconds(call, patience=0.05):
    """Of one call, at best. Many short looks: on a busy machine one of them is undisturbed."""
    call()
    once = timeit.timeit(call, number=1)
    number = max(1, int(2e-4 / once))
    repeat = max(10, int(patience / (number * once)))
    return min(timeit.repeat(call, number=number, repeat=repeat)) / number


class Bandwidth(NamedTuple):
    """Seconds for a sweep over an array."""

    read: float
    update: float
    copy: float


class Limits:
    """The limits for a number of threads, each measured when first asked for."""

    def __init__(self, threads):
        numba.set_num_threads(threads)
        self.threads = threads
        self.sweep = functools.cache(self._sweep)
        self.exps = functools.cache(self._exps)

    def _sweep(self, nbytes):
        x = np.ones(max(64, nbytes // 4), np.float32)
        y = np.ones_like(x)

        def seconds(part):
            alone, shared = (lambda: part(x, y)), (lambda: _shared(part)(x, y, self.threads))
            return min(map(_seconds, (alone, shared) if self.threads > 1 else (alone,)))

        return Bandwidth(seconds(_read), seconds(_update), min(seconds(_copy), seconds(_stream)))

    def _exps(self, itemsize):
        """Exponentials per second, in float32 or float64, by all threads."""
        dtype, part = (np.float64, _exp64) if itemsize == 8 else (np.float32, _exp32)
        x = np.tile(np.linspace(-9, 0, L1_NUMBERS, dtype=dtype), self.threads)
        y = np.empty_like(x)
        together = REPEATS * x.size / _seconds(lambda: _shared(part)(x, y, self.threads), 0.3)
        # Where others keep a processor busy, threads that wait for each other are slower than one alone.
        return max(together, REPEATS * x.size / _seconds(lambda: part(x, y)))

    @functools.cached_property
    def region(self):
        """Seconds an empty parallel region takes."""
        x = np.ones(64, np.float32)
        alone = _seconds(lambda: _nothing(x, x))
        return max(0.0, _seconds(lambda: _shared(_nothing)(x, x, self.threads)) - alone)

    def of(self, operation, size, itemsize):
        """Least seconds for an operation on `size` logits, by what limits it; results go to warm memory."""
        sweep = self.sweep(size * itemsize)
        kind = "update" if operation.in_place else "copy" if operation.writes else "read"
        limits = {kind: getattr(sweep, kind) + (operation.reads - 1) * sweep.read}
        if operation.exps:
            exps = size * operation.exps / self.exps(itemsize)
            limits["exp"] = min(exps + self.region, exps * self.threads)
        return limits

    def summary(self, nbytes=1 << 27):
        """For the report: GB/s out of cache, giga-exponentials per second, microseconds."""
        sweep = self.sweep(nbytes)
        return {
            "read_GB_s": nbytes / sweep.read / 1e9,
            "update_GB_s": nbytes / sweep.update / 1e9,
            "copy_GB_s": nbytes / sweep.copy / 1e9,
            "exp32_G_s": self.exps(4) / 1e9,
            "exp64_G_s": self.exps(8) / 1e9,
            "region_us": self.region * 1e6,
        }
