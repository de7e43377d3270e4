"""Peak resident memory of loss and backward: one gradient at most, and O(rows) in place."""

import functools
import itertools

import pytest
import subprocesses
from conftest import need

need("torch")
need("fastlogits.torch")

DTYPES, REDUCTIONS = ("float32", "bfloat16", "float16"), ("mean", "none")

# Each in a process of its own, forked before anything has been computed: a peak never falls.
MEASURE = f"""
import itertools
import os
import torch
import fastlogits.torch

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

def step(rows, dtype, reduction, inplace):
    logits = torch.zeros(rows, 32000, dtype=getattr(torch, dtype)).requires_grad_()
    labels = torch.zeros(rows, dtype=torch.long)
    with torch.no_grad():
        logits += 1
    if inplace:
        leaf = logits
        logits = leaf * 1
    before = peak()
    loss = fastlogits.torch.cross_entropy(logits, labels, inplace=inplace, reduction=reduction).sum()
    torch.autograd.grad(loss, logits)
    return (peak() - before) / logits.nbytes

for case in itertools.product({DTYPES}, {REDUCTIONS}, (False, True)):
    if (child := os.fork()) == 0:
        for inplace in False, True:  # one by the C core, one as large logits go
            step(4, *case[:2], inplace)
        print(step(1024, *case), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@functools.cache
def measured():
    shares = map(float, subprocesses.run(MEASURE).split())
    return dict(zip(itertools.product(DTYPES, REDUCTIONS, (False, True)), shares, strict=True))


@pytest.mark.skipif("sys.platform != 'linux'", reason="reads /proc")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("inplace", "most"), [(False, 1.05), (True, 0.05)])
def test_extra_memory(dtype, reduction, inplace, most):
    assert measured()[dtype, reduction, inplace] < most
