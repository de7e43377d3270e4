"""The moments of rows at an inverse temperature, by Numba."""

from fastlogits.backends import _numba_text as text
from fastlogits.backends._numba_drivers import SHORT_CLASSES, flat, groups, plain, quiet, run, storage_of, tiles
from fastlogits.backends._numba_text import primitives

moments_rows = plain(text.moments.moments_rows)
moments_columns = plain(text.moments.moments_columns)
moments_short = plain(text.moments.moments_short)


@quiet
def moments(x, labels, results, outer, classes, inner, x_stride, beta, threads):
    args = flat(x, (outer - 1) * x_stride + classes * inner), x_stride, labels, flat(results), outer * inner, classes
    storage = storage_of(x)
    if inner > 1:
        lanes = primitives.LANES
        run(moments_columns, tiles(outer, inner), threads, classes, lanes, storage, *args, inner, beta)
    elif classes <= SHORT_CLASSES:
        run(moments_short, groups(outer), threads, classes, primitives.SHORT, storage, *args, beta)
    else:
        run(moments_rows, outer, threads, classes, 1, storage, *args, beta)
