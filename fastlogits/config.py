"""Backend, threads and instruction set: what is in force, and how to change it."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import platform
from typing import TYPE_CHECKING

import numpy as np

from fastlogits import _checks, backends
from fastlogits.backends import threads as backend_threads
from fastlogits.backends.threads import SERIAL_BELOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Literal

    from fastlogits._typing import Backend

BACKENDS = ("auto", *backends.NAMES)

_backend = contextvars.ContextVar("fastlogits_backend", default=None)
_num_threads = contextvars.ContextVar("fastlogits_num_threads", default=None)

# Adapters that reach the kernels without Python where they can -> whether they do. They add themselves.
ROUTES: dict[str, Callable[[], bool]] = {}

# What `_backend` may be -> the plain calls of that backend, once it has been loaded.
_plain_calls = {None: {}}


@contextlib.contextmanager
def settings(*, backend: Backend | None = None, num_threads: int | None = None) -> Iterator[None]:
    """Choose the backend and the number of threads within a ``with`` block.

    Holds for the calling context alone (thread or asyncio task), and nests. What is None stays as it is.

    Parameters
    ----------
    backend : {"auto", "cython", "numba", "numpy"}, optional
        "auto" is the first that loads.
    num_threads : int, optional
        From 1 to 256, or to the number of processors where that is larger. Small arrays are served by one thread
        whatever it is.

    Raises
    ------
    ImportError
        If the backend is known but not installed.

    Examples
    --------
    >>> import fastlogits
    >>> with fastlogits.settings(backend="numpy", num_threads=1):
    ...     fastlogits.softmax([0.0, 0.0])
    array([0.5, 0.5])
    """
    tokens = []
    if backend is not None:
        _environment_isa()
        chosen = _loaded(_checks.one_of("backend", backend, BACKENDS))
        tokens.append((_backend, _backend.set(chosen)))
    try:
        if num_threads is not None:
            chosen = _checks.thread_count("num_threads", num_threads)
            tokens.append((_num_threads, _num_threads.set(chosen)))
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Print the backend, instruction set, threads and versions in force, and which way frameworks reach the kernels.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        "dicts" returns a dict and prints nothing.
    """
    from fastlogits import __version__

    _checks.one_of("mode", mode, ("stdout", "dicts"))
    module = backend()
    config = {
        "fastlogits": __version__,
        "backend": name_of(module),
        "instruction set": getattr(module, "isa", "native"),
        "threads": threads(SERIAL_BELOW),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        **{name: "by the C core" if is_native() else "by Python" for name, is_native in ROUTES.items()},
    }
    if mode == "dicts":
        return config
    width = max(map(len, config))
    print("\n".join(f"{key:<{width}}  {value}" for key, value in config.items()))
    return None


def get_include() -> str:
    """The folder of ``fastlogits.h``, which declares the kernels for C, C++ and whatever calls C.

    Examples
    --------
    >>> import os, fastlogits
    >>> os.listdir(fastlogits.get_include())
    ['fastlogits.h']
    """
    return os.path.join(os.path.dirname(__file__), "include")


def backend():
    """The backend module in force."""
    return _backend.get() or _default_backend()


@functools.cache
def name_of(module):
    """A backend's, as `settings` takes it."""
    return module.__name__.rpartition(".")[2]


def plain_call(name):
    """What answers small and simple calls of the public function `name`; None where the backend in force has nothing.

    It takes (args, kwargs), and returns NotImplemented for what is not as simple.
    """
    return _plain_calls[_backend.get()].get(name)


def chosen():
    """What `settings` has set in this context, by the names of its parameters."""
    module, number = _backend.get(), _num_threads.get()
    named = {"backend": module and name_of(module), "num_threads": number}
    return {name: value for name, value in named.items() if value is not None}


def threads(work):
    """How many threads `work` logits deserve."""
    if work < SERIAL_BELOW:
        return 1
    backend_threads.look_around()
    return _num_threads.get() or environment_threads() or backend_threads.default()


@functools.cache
def _default_backend():
    _environment_isa()
    environment_threads()
    module = _loaded(_environment("FASTLOGITS_BACKEND", BACKENDS))
    _plain_calls[None] = _plain_calls[module]
    return module


def _loaded(name):
    module = backends.load(name)
    _plain_calls[module] = getattr(module, "plain_calls", {})
    return module


def _environment_isa():
    # A wrong value is an error of its own, not a backend that fails.
    _environment("FASTLOGITS_ISA", _checks.INSTRUCTION_SETS)


def _environment(variable, allowed):
    return _checks.one_of(variable, os.environ.get(variable) or allowed[0], allowed)


@functools.cache
def native():
    """Whether frameworks may call the C core without Python, where they can: not with FASTLOGITS_NATIVE=0."""
    return _environment("FASTLOGITS_NATIVE", ("1", "0")) == "1"


def reaches_core(name=None):
    """Whether frameworks may call the C core: it belongs to the backend `name`, by default the one in force."""
    return native() and (name or name_of(backend())) == "cython"


@functools.cache
def environment_threads():
    text = os.environ.get("FASTLOGITS_NUM_THREADS")
    return _checks.thread_count("FASTLOGITS_NUM_THREADS", text) if text else None
