"""What holds an array in xarray."""

import xarray as xr

from fastlogits.numpy._checks import no_array, no_dimension, other_coordinates, unknown_dimensions
from fastlogits.numpy._held import OF_LOGITS, OF_ROWS, OF_SEVERAL, Held


class Labelled(Held):
    """A DataArray or Variable: the argument `name` of a function."""

    def __init__(self, name, held):
        if not isinstance(held, (xr.DataArray, xr.Variable)):
            raise no_array(name, held)
        super().__init__(name, held)
        self.several = None

    @property
    def array(self):
        return self.held.data

    @property
    def shape(self):
        return self.held.shape

    def axis(self, axis):
        """`axis` with names of dimensions as numbers."""
        if isinstance(axis, tuple):
            return tuple(map(self.axis, axis))
        if not isinstance(axis, str):
            return axis
        if axis not in self.held.dims:
            raise no_dimension(axis, self.name, self.held.dims)
        return self.held.dims.index(axis)

    def index(self, axis):
        return self.held.indexes.get(self.held.dims[axis]) if isinstance(self.held, xr.DataArray) else None

    def index_of_rows(self, several):
        return None if several or isinstance(self.held, xr.Variable) else self.held.to_series().index

    def aligned(self, other, axes):
        if not isinstance(other, Labelled):
            return super().aligned(other, axes)
        name, held, dims = other.name, other.held, list(self.held.dims)
        self._same_coordinates(name, held)
        extra = [dim for dim in held.dims if dim not in dims]
        classes = [dims[i] for i in axes]
        if len(extra) == 1 and len(axes) == 1 and classes[0] not in held.dims and name in OF_SEVERAL:
            self.several = dims[axes[0]] = extra[0]  # classes of each row
        elif extra:
            raise unknown_dimensions(name, extra, self.name, self.held.dims)
        if name in OF_LOGITS | OF_ROWS:
            wanted = [dim for dim in dims if name in OF_LOGITS or dim not in classes]
            missing = [dim for dim in wanted if dim not in held.dims]
            held = held.variable if isinstance(held, xr.DataArray) else held
            held = held.set_dims({dim: 1 for dim in missing} | dict(held.sizes)) if missing else held
        return Labelled(name, held.transpose(*(dim for dim in dims if dim in held.dims)))

    def _same_coordinates(self, name, held):
        if isinstance(held, xr.DataArray) and isinstance(self.held, xr.DataArray):
            for dim in held.dims:
                own, other = (each.indexes.get(dim) for each in (self.held, held))
                if own is not None and other is not None and not own.equals(other):
                    raise other_coordinates(name, dim, self.name)

    def like(self, values, axes, unnamed):
        """`values` with the dimensions `axes` of the logits; along those that are `unnamed` without coordinates."""
        dims = [self.several if self.several and i in unnamed else self.held.dims[i] for i in axes]
        if isinstance(self.held, xr.Variable):
            return xr.Variable(dims, values)
        without = {self.held.dims[i] for i in unnamed}
        coords = {name: each for name, each in self.held.coords.items() if {*each.dims} <= {*dims} - without}
        return xr.DataArray(values, coords, dims).rename(self.held.name)  # a dask array has a name too

    def rows(self, key):
        return self.held[key]
