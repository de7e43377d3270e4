"""Functions without a gradient under torch.vmap, torch.func and forward mode."""

import numpy as np
import torch
from torch.autograd import Function

from fastlogits.dispatch import converted
from fastlogits.torch import _checks, _formula, functional
from fastlogits.torch._arrays import numbers


def are_active():
    return functional.path() is _formula


def apply(function, by_numpy, named):
    """`function` of the tensors inside of all transforms: `by_numpy(**named)`, a structure of arrays, as tensors."""
    if function.__module__.startswith("fastlogits.calibration"):
        raise _checks.not_under_transforms(function.__name__)
    call = _Call(function.__name__, by_numpy, named)
    results = _Untracked.apply(call, *call.tensors)
    return converted(call.structure, results.__getitem__)


class _Call:
    """A call as a function from tensors to a flat tuple of tensors; `structure` says how those belong together."""

    def __init__(self, name, by_numpy, named):
        self.name = name
        self.by_numpy = by_numpy
        self.named = named
        self.tensors_names = [key for key, value in named.items() if isinstance(value, torch.Tensor)]
        self.structure = None

    @property
    def tensors(self):
        return [self.named[name] for name in self.tensors_names]

    def __call__(self, *tensors):
        found = []

        def place(array):
            found.append(numbers(array))
            return np.intp(len(found) - 1)

        result = self.by_numpy(**self.named | dict(zip(self.tensors_names, tensors, strict=True)))
        self.structure = converted(result, place, (np.ndarray, np.generic, float))
        return tuple(found)

    def settle(self, randomness):
        """Draws as `torch.vmap` was told to make them."""
        if self.name != "sample" or not isinstance(self.named.get("seed"), (type(None), np.random.Generator)):
            return
        if randomness == "error":
            raise _checks.random_under_vmap(self.name)
        if randomness == "same":
            self.named["seed"] = int(np.random.default_rng(self.named.get("seed")).integers(1 << 62))


class _Untracked(Function):
    @staticmethod
    def forward(call, *tensors):
        return call(*tensors)

    @staticmethod
    def setup_context(ctx, inputs, output):
        call, *_ = inputs
        ctx.mark_non_differentiable(*output)
        if call.name != "argmax":  # whose derivative is 0, as in torch
            for name, needed in zip(call.tensors_names, ctx.needs_input_grad[1:], strict=True):
                if needed:
                    raise _checks.no_gradient(call.name, name)
        ctx.call = call

    @staticmethod
    def jvp(ctx, _, *tangents):
        if ctx.call.name != "argmax":
            for name, tangent in zip(ctx.call.tensors_names, tangents, strict=True):
                if tangent is not None:
                    raise _checks.no_gradient(ctx.call.name, name)

    @staticmethod
    def vmap(info, in_dims, call, *tensors):
        call.settle(info.randomness)
        one_by_one = [
            _Untracked.apply(call, *(
                tensor if axis is None else tensor.select(axis, i)
                for tensor, axis in zip(tensors, in_dims[1:], strict=True)
            ))
            for i in range(info.batch_size)
        ]  # fmt: skip
        results = tuple(map(torch.stack, zip(*one_by_one, strict=True)))
        return results, tuple(0 for _ in results)
