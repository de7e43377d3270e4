"""fastlogits in the place of torch.nn.functional's functions, for models that one does not want to touch."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch.overrides import handle_torch_function, has_torch_function

from fastlogits.torch import _checks, functional

if TYPE_CHECKING:
    from typing import Self

NAMES = ("cross_entropy", "softmax", "log_softmax")
_lock = threading.Lock()


class patch:
    """Replace `cross_entropy`, `softmax` and `log_softmax` in `torch.nn.functional`.

    Whatever fastlogits does not serve (other devices and layouts, subclasses of Tensor, integer logits, wrong
    shapes, ...) goes to the function that was there before. What holds its own reference to a function is not affected.

    Attributes
    ----------
    served, passed_on : Counter
        Calls by function name, those that fastlogits answered and those that went to the original. Calls
        inside a compiled graph are not counted.

    Examples
    --------
    >>> import torch, fastlogits.torch
    >>> with fastlogits.torch.patch() as patched:
    ...     loss = torch.nn.CrossEntropyLoss()(torch.zeros(1, 2), torch.tensor([0]))
    >>> patched
    patch(off; served: cross_entropy 1; passed on: none)

    Without a block: ``patched = patch(); patched.on(); ...; patched.off()``.
    """

    def __init__(self) -> None:
        self.served: Counter[str] = Counter()
        self.passed_on: Counter[str] = Counter()
        self._originals = None
        self._replacements = None

    def on(self) -> Self:
        """Replace the functions; returns this object."""
        with _lock:
            if self._originals is not None:
                raise RuntimeError("patch: is on already")
            module = torch.nn.functional
            self._originals = {name: getattr(module, name) for name in NAMES}
            self._replacements = {name: self._replacement(name) for name in NAMES}
            for name, function in self._replacements.items():
                setattr(module, name, function)
        return self

    def off(self) -> None:
        """Put the functions back that were there before."""
        with _lock:
            if self._originals is None:
                raise RuntimeError("patch: is off already")
            module = torch.nn.functional
            if any(getattr(module, name) is not self._replacements[name] for name in NAMES):
                raise RuntimeError("patch: torch.nn.functional was changed since; undo that first")
            for name, function in self._originals.items():
                setattr(module, name, function)
            self._originals = self._replacements = None

    def __enter__(self) -> Self:
        return self.on()

    def __exit__(self, *exception: object) -> None:
        self.off()

    def __repr__(self) -> str:
        served, passed_on = (
            ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
            for counts in (self.served, self.passed_on)
        )
        state = "off" if self._originals is None else "on"
        return f"patch({state}; served: {served}; passed on: {passed_on})"

    def _replacement(self, name):
        original = self._originals[name]
        ours = getattr(functional, name)
        serves = _serves_loss if name == "cross_entropy" else _serves_softmax

        @functools.wraps(original)
        def replacement(*args, **kwargs):
            served = serves(*args, **kwargs)
            if not torch.compiler.is_compiling():
                (self.served if served else self.passed_on)[name] += 1
                if not served and has_torch_function(values := (*args, *kwargs.values())):
                    # The original would ask them about `replacement`, which they do not know.
                    return handle_torch_function(original, values, *args, **kwargs)
            return (ours if served else original)(*args, **kwargs)

        return replacement


def _serves_loss(input=None, target=None, weight=None, *others, **kwargs):
    if not _is_served(input) or not _is_served(target, _checks.LABELS) or not input.dim():
        return False
    batch_shape = input.shape[:1] + input.shape[2:] if input.dim() > 1 else input.shape[:0]
    soft = target.dtype.is_floating_point
    if target.shape != (input.shape if soft else batch_shape):
        return False
    if weight is None:
        return True
    classes = input.shape[1] if input.dim() > 1 else input.shape[0]
    return _is_served(weight) and weight.shape == (classes,) and (soft or not weight.requires_grad)


def _serves_softmax(input=None, dim=None, _stacklevel=3, dtype=None):
    return _is_served(input) and (dtype is None or dtype in _checks.FLOATS)


def _is_served(tensor, dtypes=_checks.FLOATS):
    # What a subclass makes of the function is up to the subclass, which torch asks.
    plain = tensor is not None and type(tensor) in _checks.PLAIN
    return plain and tensor.dtype in dtypes and _checks.is_plain(tensor)
