"""`RowStats` as a collection of dask: computed as one graph, and then NumPy's, or what holds arrays of NumPy."""

import dask
from dask.base import DaskMethodsMixin, tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.threaded import get

import fastlogits


class RowStats(fastlogits.RowStats, DaskMethodsMixin):
    """The lazy form of `fastlogits.RowStats`, whose fields are dask arrays.

    ``stats.compute()`` and ``dask.compute(stats)`` have a `fastlogits.RowStats` of NumPy arrays, from one read of the
    logits; ``stats.persist()`` one of dask arrays that have been computed.
    """

    __slots__ = ()
    __dask_scheduler__ = staticmethod(get)

    def __dask_graph__(self):
        return HighLevelGraph.merge(*(values.__dask_graph__() for values in vars(self).values()))

    def __dask_keys__(self):
        return [values.__dask_keys__() for values in vars(self).values()]

    def __dask_layers__(self):
        return sum((tuple(values.__dask_layers__()) for values in vars(self).values()), ())

    def __dask_tokenize__(self):
        return tokenize(type(self).__name__, self._axis, vars(self))

    @staticmethod
    def __dask_optimize__(graph, keys, **options):
        return dask.array.optimize(graph, keys, **options)

    def __dask_postcompute__(self):
        return _computed, (self._axis, {name: values.__dask_postcompute__() for name, values in vars(self).items()})

    def __dask_postpersist__(self):
        return _persisted, (self._axis, {name: values.__dask_postpersist__() for name, values in vars(self).items()})


def _computed(results, axis, fields):
    pairs = zip(results, fields.items(), strict=True)
    return fastlogits.RowStats(axis, **{name: finish(found, *args) for found, (name, (finish, args)) in pairs})


def _persisted(graph, axis, fields, *, rename=None):
    options = {"rename": rename} if rename else {}
    return RowStats(axis, **{name: build(graph, *args, **options) for name, (build, args) in fields.items()})
