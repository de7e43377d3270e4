"""fastlogits.torch.selective_log_softmax: torch's log_softmax and gather, eager, compiled and transformed."""

import kept
import pytest
from conftest import need
from refusals import refused

torch = need("torch")
ft = need("fastlogits.torch")

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def inputs(dtype=torch.float32, several=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(6, 40, generator=generator)
    index = torch.randint(0, 40, (6, 3) if several else (6,), generator=generator)
    return logits.to(dtype).requires_grad_(), index


def plain(logits, index):
    """In double."""
    one = index.dim() < logits.dim()
    log_probs = torch.log_softmax(logits.double(), -1).gather(-1, index.unsqueeze(-1) if one else index)
    return log_probs.squeeze(-1) if one else log_probs


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients(dtype, several):
    logits, index = inputs(dtype, several)
    log_probs = ft.selective_log_softmax(logits, index.short())
    torch.testing.assert_close(log_probs, plain(logits, index).to(dtype))
    weight = torch.arange(1.0, 1 + index.numel()).reshape(index.shape)
    (grad,) = torch.autograd.grad((weight * log_probs).sum(), logits)
    (expected,) = torch.autograd.grad((weight * plain(logits, index)).sum(), logits)
    assert grad.dtype == dtype
    torch.testing.assert_close(grad, expected)
    with torch.no_grad():
        assert torch.equal(ft.selective_log_softmax(logits, index), log_probs)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("several", [False, True])
def test_derivatives(several):
    logits, index = inputs(torch.float64, several)
    assert torch.autograd.gradcheck(ft.selective_log_softmax, (logits, index))
    assert torch.autograd.gradgradcheck(ft.selective_log_softmax, (logits, index))
    hessian = torch.func.hessian(lambda x: ft.selective_log_softmax(x, index).sum())(logits.detach())
    expected = torch.func.hessian(lambda x: plain(x, index).sum())(logits.detach())
    torch.testing.assert_close(hessian, expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("several", [False, True])
def test_compiled(several):
    logits, index = inputs(several=several)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(x, i):
        return -ft.selective_log_softmax(2 * x, i).mean()

    (grad,) = torch.autograd.grad(loss(logits, index), logits)
    (expected,) = torch.autograd.grad(-plain(2 * logits, index).mean(), logits)
    torch.testing.assert_close(grad, expected)


def test_large_gradients_use_their_memory_again():
    """And never while somebody holds it."""
    logits = torch.randn(kept.LARGE).requires_grad_()
    index = torch.arange(kept.LARGE[0])[:, None] % kept.LARGE[1]

    def gradient(scale=1):
        return torch.autograd.grad(scale * ft.selective_log_softmax(logits, index).sum(), logits)[0]

    assert kept.lies_there(gradient().numpy())
    assert kept.is_used_again(gradient)
    grads = [gradient(scale) for scale in (1, 2, 3)]
    for scale, grad in enumerate(grads, 1):
        torch.testing.assert_close(scale * grads[0], grad)


def test_bad_input():
    logits, index = inputs()
    with refused(IndexError, "index", "40", r"\(5,\)"):
        ft.selective_log_softmax(logits, index.index_fill(0, torch.tensor(5), 40))
    with refused(ValueError, "index", r"\(6,\)", r"\(5,\)"):
        ft.selective_log_softmax(logits, index[:5])
    with refused(TypeError, "index", "float32"):
        ft.selective_log_softmax(logits, index.float())
    with refused(TypeError, "input", "int64"):
        ft.selective_log_softmax(index, index)
    with pytest.raises(IndexError, match="Dimension out of range"):
        ft.selective_log_softmax(logits, index, dim=2)
