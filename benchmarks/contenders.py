"""Who takes part: our backends, our adapters, and the peers; a new peer is one class and one entry here."""

import contextlib
import functools
import importlib

import frameworks
import numpy as np
import peers
import timing

from benchmarks import common

PEERS = {
    "scipy": peers.SciPy,
    "torch": frameworks.Torch,
    "torch.compile": frameworks.TorchCompile,
    "jax": frameworks.Jax,
    "tensorflow": frameworks.TensorFlow,
}

ADAPTERS = ("torch", "tensorflow", "jax")  # a peer's class over our module


def installed(names, threads):
    """The peers of these names that can be imported."""
    found = {}
    for name in names:
        with contextlib.suppress(ImportError):
            found[name] = PEERS[name](threads)
    return found


def adapters(threads, names=ADAPTERS):
    """Those of our adapters whose framework is there."""
    found = {}
    for name in names:
        with contextlib.suppress(ImportError):
            adapter = PEERS[name](threads, importlib.import_module(f"fastlogits.{name}"))
            adapter.ours = True
            found[f"fastlogits.{name}"] = adapter
    return found


def enter(library, name, inputs, cache):
    """The fastest of the library's ways to do the operation, of those that give the right result."""
    operation = common.OPERATIONS[name]
    buffer = inputs.logits.copy() if operation.in_place else None
    arrays = []
    for field in operation.takes:
        if buffer is not None and field == "logits":
            arrays.append(library.array(buffer))
            continue
        if field not in cache:
            cache[field] = library.array(getattr(inputs, field))
        arrays.append(cache[field])
    restore = functools.partial(np.copyto, buffer, inputs.logits) if operation.in_place else nothing
    good, problem = [], NotImplementedError("not offered")
    for call in library.ways(name, arrays):
        try:
            getattr(call, "reset", restore)()
            result = library.context.run(call)
            common.check(name, library.numpy(result), inputs, peer=not library.ours)
            good.append(call)
        except Exception as error:
            problem = error
    if not good:
        raise problem
    call = timing.fastest(good)
    return timing.Contender(call, getattr(call, "reset", restore), library.context)


def nothing():
    pass
