"""Peak resident memory of loss and backward: one gradient at most, and O(rows) in place."""

import pytest
import subprocesses
from conftest import need

need("torch")
need("fastlogits.torch")

MEASURE = '''
import torch
import fastlogits.torch

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

def step(rows, inplace):
    logits = torch.zeros(rows, 32000, dtype=getattr(torch, {dtype!r})).requires_grad_()
    labels = torch.zeros(rows, dtype=torch.long)
    with torch.no_grad():
        logits += 1
    if inplace:
        leaf = logits
        logits = leaf * 1
    before = peak()
    loss = fastlogits.torch.cross_entropy(logits, labels, inplace=inplace, reduction={reduction!r}).sum()
    torch.autograd.grad(loss, logits)
    return (peak() - before) / logits.nbytes

step(4, False)
print(step(1024, {inplace}))
'''


@pytest.mark.skipif("sys.platform != 'linux'", reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(("inplace", "most"), [(False, 1.05), (True, 0.05)])
def test_extra_memory(dtype, reduction, inplace, most):
    code = MEASURE.format(dtype=dtype, reduction=reduction, inplace=inplace)
    assert float(subprocesses.run(code)) < most
