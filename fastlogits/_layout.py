"""Any array and class axis -> (outer, classes, inner), and back.

Element (o, c, i) lies `o * stride + c * inner + i` elements after the first, and row `r = o * inner + i` is
one softmax. Which axes make up outer and inner follows the memory: the axes are taken from the largest stride
to the smallest, so that C and Fortran order, channels-first arrays and row-gapped views all need no copy.
"""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

from fastlogits import _checks, _memory

# Supported dtypes -> the dtype that the kernels compute in. bfloat16 joins when its first array comes.
COMPUTE = {
    np.dtype(np.float32): np.dtype(np.float32),
    np.dtype(np.float64): np.dtype(np.float64),
    np.dtype(np.float16): np.dtype(np.float32),
}
FLOAT32_MAX = float(np.finfo(np.float32).max)
# Logits copied at a time where the classes do not lie side by side, and columns at least: those of a cache line.
BLOCK, COLUMNS = 1 << 18, 16
PAGE = 4096
FEW_COLUMNS = 16  # side by side, a vector or more


def floats(array, name):
    """`array` as an aligned ndarray of a native supported dtype; itself where it is one."""
    if type(array) is not np.ndarray:
        array = _checks.as_array(name, array)
    dtype = array.dtype
    if dtype in COMPUTE and array.flags.aligned:
        return array
    native = dtype.newbyteorder("=")
    if native.name == "bfloat16":
        COMPUTE.setdefault(native, np.dtype(np.float32))
    if native not in COMPUTE:
        native = _checks.promoted(name, dtype)
    return np.require(array, native, "A")


def rounded(values, dtype):
    """`values` in `dtype`; what is too large becomes inf, and NaN of any kind stays."""
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype)


def selected(array, where):
    """A copy of `array` with -inf wherever `where` is false; what stands there is not read."""
    where = _checks.where(where, array.shape)
    masked = np.full_like(array, -np.inf)
    np.copyto(masked, array, where=where)
    return masked, where


def scalar(value, dtype):
    """`value`, a float, as a NumPy scalar; what is too large becomes inf."""
    return dtype.type(value) if abs(value) < FLOAT32_MAX else rounded(np.float64(value), dtype)


def deliver(result, out):
    """`result` in `out`, where there is one."""
    if out is None:
        return result if result.ndim else result[()]
    if result is not out:
        np.copyto(out, result)
    return out


class Layout(NamedTuple):
    """How the rows of an array lie. "Batch" are the axes that are not class axes."""

    shape: tuple
    axis: object  # as asked for: int, tuple or None
    axes: tuple  # the class axes
    order: tuple | None  # all axes by descending stride; None where that is the order they have
    batch_shape: tuple
    batch_order: tuple | None  # the same for the batch axes among themselves
    outer: int
    classes: int
    inner: int
    stride: int | None  # None: the memory of this array cannot be walked so
    rows: int

    @property
    def kept_shape(self):
        return tuple(1 if i in self.axes else n for i, n in enumerate(self.shape))

    def empty(self, dtype):
        """A new array of this shape, packed, in this memory order."""
        large = self.rows * self.classes * dtype.itemsize >= _memory.KEPT_FROM
        new = _memory.empty if large else np.empty
        if self.order is None:
            return new(self.shape, dtype)
        return _untransposed(new([self.shape[i] for i in self.order], dtype), self.order)

    def stride_of(self, array):
        """The stride of another array of this shape; None where it lies otherwise."""
        other = of(array, self.axis)
        return other.stride if other[3:9] == self[3:9] and array.flags.aligned else None

    def bring(self, array):
        """(array, stride): the array itself where it lies like this one, else a packed copy that does."""
        stride = self.stride_of(array)
        if stride is not None:
            return array, stride
        if self.order is not None:
            array = array.transpose(self.order)
        return np.array(array, order="C"), self.classes * self.inner

    def destination(self, out, dtype):
        """(array, stride) to write a result to: `out`, or a new array that lies like this one."""
        if out is not None:
            return out, self.stride_of(out)
        return self.empty(dtype), self.classes * self.inner

    def few_columns(self, classes):
        """Whether the class axis lies in the middle, with at most so many classes and columns for whole vectors."""
        return self.inner >= FEW_COLUMNS and self.classes <= classes

    def parts(self, arrays, strides, reads=1, *, side_by_side=False):
        """What a kernel takes at a time: an iterable of (rows, outer, inner, arrays, strides).

        The first `reads` of the arrays, which are of this shape or None, are read and the others written. All is taken
        at once where no stride is None and, if the classes are to lie `side_by_side`, they do. Else block after block
        of the rows is copied, and what is written to a copy goes to its array with the next step.
        """
        if None in strides or (side_by_side and self.inner > 1):
            return self._copied_parts(arrays, reads, self.inner > 1 and not side_by_side)
        return ((slice(0, self.rows), self.outer, self.inner, arrays, strides),)

    def _copied_parts(self, arrays, reads, columns):
        """Blocks of rows, or of columns where the classes lie so, which gives the bits of what is not copied."""
        views = {i: self.by_rows(array) for i, array in enumerate(arrays) if array is not None}
        batch = views[0].shape[: len(self.batch_shape)]
        most = max(COLUMNS if self.inner > 1 else 1, BLOCK // max(1, len(views) * self.classes))
        copies = {i: np.empty(min(most, self.rows) * self.classes, view.dtype) for i, view in views.items()}
        start = 0
        for place in row_blocks(batch, most):
            parts = {i: view[place] for i, view in views.items()}
            rows = math.prod(parts[0].shape[: len(batch)])
            shape = (self.classes, rows) if columns else (rows, self.classes)
            blocks = [copies[i][: math.prod(shape)].reshape(shape) if i in views else None for i in range(len(arrays))]
            by_rows = {i: (blocks[i].T if columns else blocks[i]).reshape(part.shape) for i, part in parts.items()}
            for i, part in parts.items():
                if i < reads:
                    _copy(part, by_rows[i])
            outer, inner = (1, rows) if columns else (rows, 1)
            strides = [self.classes * inner if i in views else 0 for i in range(len(arrays))]
            yield slice(start, start + rows), outer, inner, blocks, strides
            for i, part in parts.items():
                if i >= reads:
                    part[...] = by_rows[i]
            start += rows

    def side_by_side(self, x, y=None, y_stride=0):
        """(rows, x, stride, y, stride) of `parts` with the classes of a row side by side."""
        for rows, _, _, arrays, strides in self.parts((x, y), (self.stride_of(x), y_stride), side_by_side=True):
            yield rows, arrays[0], strides[0], arrays[1], strides[1]

    def by_rows(self, array):
        """A view with the batch axes first, in row order, and then the class axes."""
        order = range(len(self.shape)) if self.order is None else self.order
        classes = [i for i in order if i in self.axes]
        return array.transpose(*(i for i in order if i not in self.axes), *classes)

    def flatten(self, values):
        """Batch-shaped values as one contiguous array in row order."""
        if self.batch_order is not None:
            values = values.transpose(self.batch_order)
        return values.ravel()

    def unflatten(self, values):
        """Values in row order, one or a vector of them for each, as a batch-shaped array."""
        more = values.shape[1:]
        if self.batch_order is None:
            return values.reshape(self.batch_shape + more)
        values = values.reshape([self.batch_shape[i] for i in self.batch_order] + [*more])
        return _untransposed(values, self.batch_order + tuple(range(len(self.batch_order), values.ndim)))


def row_blocks(shape, rows):
    """Index tuples that cut an array of `shape`, in order, into boxes of at most so many elements (at least one)."""
    steps = []
    for n in reversed(shape):
        steps.insert(0, max(1, min(n, rows)))
        rows //= steps[0]
    for starts in itertools.product(*(range(0, n, step) for n, step in zip(shape, steps, strict=True))):
        yield tuple(slice(start, start + step) for start, step in zip(starts, steps, strict=True))


def _copy(source, target):
    # Classes that are pages apart share a few places in the cache: 8 x 1000 x 1024 float32 takes 7 ms if they are
    # brought together first, and 32 in one step.
    if source.ndim and abs(source.strides[-1]) >= PAGE:
        source = source.copy("K")
    target[...] = source


def of(array, axis):
    """The layout of `array` with the class axis (int), axes (tuple) or all axes (None)."""
    if type(axis) is not int:
        axis = _checks.axis(axis)
    return _analyse(array.shape, array.strides, array.itemsize, axis)


@functools.lru_cache(maxsize=4096)
def _analyse(shape, strides, itemsize, axis):
    ndim = len(shape)
    axes = _checks.axes(axis, ndim)
    before, among, after = _by_stride(shape, strides, axes)
    order = (*before, *among, *after)
    batch = [i for i in range(ndim) if i not in axes]
    batch_order = tuple(batch.index(i) for i in (*before, *after))
    outer, classes, inner = (math.prod(shape[i] for i in part) for part in (before, among, after))
    step_inner = _step(shape, strides, after, itemsize)
    step_class = _step(shape, strides, among, inner * itemsize)
    stride = _step(shape, strides, before, classes * inner * itemsize)
    packed = step_inner == itemsize and step_class == inner * itemsize
    walkable = packed and stride is not None and stride >= 0 and stride % itemsize == 0
    return Layout(
        shape=shape,
        axis=axis,
        axes=axes,
        order=None if order == tuple(range(ndim)) else order,
        batch_shape=tuple(shape[i] for i in batch),
        batch_order=None if batch_order == tuple(range(len(batch))) else batch_order,
        outer=outer,
        classes=classes,
        inner=inner,
        stride=stride // itemsize if walkable else None,
        rows=outer * inner,
    )


def _by_stride(shape, strides, axes):
    """The axes outside, among and inside the class axes, slowest first.

    The stride of an axis of length 1 means nothing; one of 0 (a broadcast) must not end up innermost.
    """
    wide = [i for i in range(len(shape)) if shape[i] != 1]
    wide.sort(key=lambda i: -abs(strides[i]) if strides[i] else -math.inf)
    narrow = [i for i in range(len(shape)) if shape[i] == 1]
    narrow_batch = [i for i in narrow if i not in axes]
    places = [place for place, i in enumerate(wide) if i in axes]
    if not places:
        return [*narrow_batch, *wide], [*axes], []
    first, last = places[0], places[-1] + 1
    if last - first != len(places):
        # Batch axes lie between the class axes: such an array is copied, with its classes together.
        return [*narrow_batch, *(i for i in wide if i not in axes)], [*axes], []
    narrow_classes = [i for i in narrow if i in axes]
    return [*narrow_batch, *wide[:first]], [*narrow_classes, *wide[first:last]], wide[last:]


def _step(shape, strides, axes, packed):
    """The one stride in bytes that visits `axes` in order; `packed` for one element, None without one."""
    step = extent = None
    for i in reversed(axes):
        if shape[i] == 1:
            continue
        if step is None:
            step = strides[i]
        elif strides[i] != extent:
            return None
        extent = strides[i] * shape[i]
    return packed if step is None else step


def _untransposed(array, order):
    return array.transpose(sorted(range(len(order)), key=order.__getitem__))
