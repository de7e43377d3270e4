"""Autograd for real: second derivatives, graphs used twice, in place, checkpoints, threads, processes."""

import concurrent.futures
import gc

import kept
import numpy as np
import pytest
from conftest import need
from subprocesses import run

torch = need("torch")
ft = need("fastlogits.torch")
F = torch.nn.functional

# torch's own, when its forward mode is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

ALL_EXTRAS = {"z_loss": 0.1, "softcap": 3.0, "logit_scale": 0.7, "label_smoothing": 0.1}


def double(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def positive(*shape, seed=1):
    return (double(*shape, seed=seed).detach().abs() + 0.1).requires_grad_()


LABELS = torch.tensor([[0, 4, -100], [2, 2, 1]])


def indices(reduction, **options):
    def loss(x, s):
        return ft.cross_entropy(x, LABELS, sample_weight=s, reduction=reduction, **options)

    return loss, (double(2, 5, 3), positive(2, 3))


def distribution(reduction, **options):
    def loss(x, t, w, s):
        return ft.cross_entropy(x, t, w, sample_weight=s, reduction=reduction, **options)

    return loss, (double(2, 5, 3), positive(2, 5, 3), positive(5), positive(2, 3))


CHECKED = {
    f"{kind.__name__} {reduction}{' with all options' if options else ''}": kind(reduction, **options)
    for kind in (indices, distribution)
    for reduction in ("mean", "sum", "none")
    for options in ({}, ALL_EXTRAS)
} | {
    "normalizer": (lambda x: ft.cross_entropy(x, LABELS, normalizer=2.5), (double(2, 5, 3),)),
    "class weights": (lambda x: ft.cross_entropy(x, LABELS, torch.ones(5) / 3), (double(2, 5, 3),)),
    "softmax": (lambda x: ft.softmax(x, 1), (double(2, 5, 3),)),
    "log_softmax": (lambda x: ft.log_softmax(x, 0), (double(2, 5, 3),)),
    "logsumexp": (lambda x: ft.logsumexp(x, -1), (double(2, 5, 3),)),
    "logsumexp of two": (lambda x: ft.logsumexp(x, (0, 2), keepdim=True), (double(2, 5, 3),)),
}


@pytest.mark.parametrize(("function", "inputs"), CHECKED.values(), ids=CHECKED)
def test_first_and_second_derivatives(function, inputs):
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_hessian_is_that_of_torch():
    x = double(4, 6)
    y = torch.tensor([0, 5, 2, 2])
    ours = torch.autograd.functional.hessian(lambda x: ft.cross_entropy(x, y), x)
    theirs = torch.autograd.functional.hessian(lambda x: F.cross_entropy(x, y), x)
    torch.testing.assert_close(ours, theirs)


DTYPES = (torch.float32, torch.bfloat16, torch.float16)
REDUCTIONS = ("mean", "sum", "none")


def leaf(dtype=torch.float32, rows=6, classes=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    return torch.randn(rows, classes, generator=generator).to(dtype).requires_grad_(), labels


def reference_gradient(x, y, reduction="mean", factor=1.0):
    wide = x.detach().double().requires_grad_()
    loss = F.cross_entropy(wide, y, reduction=reduction)
    return torch.autograd.grad((factor * loss).sum(), wide)[0].to(x.dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_backward_twice(reduction, dtype):
    """The first pass hands its gradient over, to be added to in place; the second must not see that."""
    x, y = leaf(dtype)
    loss = ft.cross_entropy(x, y, reduction=reduction).sum()
    loss.backward(retain_graph=True)
    first = x.grad.clone()
    loss.backward(retain_graph=True)
    torch.testing.assert_close(first, reference_gradient(x, y, reduction))
    torch.testing.assert_close(x.grad, 2 * first)
    x.grad.zero_()
    (again,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_incoming_gradient_scales(reduction, dtype):
    x, y = leaf(dtype)
    (grad,) = torch.autograd.grad(0.25 * ft.cross_entropy(x, y, reduction=reduction).sum(), x)
    torch.testing.assert_close(grad, reference_gradient(x, y, reduction, 0.25))


def test_two_losses_on_the_same_logits():
    x, y = leaf()
    z = x * 1
    both = ft.cross_entropy(z, y) + 3 * ft.cross_entropy(z, y, reduction="sum") + ft.softmax(z, 1)[0, 0]
    (grad,) = torch.autograd.grad(both, x)
    plain = F.cross_entropy(x, y) + 3 * F.cross_entropy(x, y, reduction="sum") + F.softmax(x, 1)[0, 0]
    torch.testing.assert_close(grad, torch.autograd.grad(plain, x)[0])


def test_large_gradients_do_not_share_memory():
    """The memory of the last large gradient is used again, but only once nobody holds it."""
    x, y = leaf(rows=kept.LARGE[0], classes=kept.LARGE[1])

    def gradient(reduction="mean"):
        return torch.autograd.grad(ft.cross_entropy(x, y, reduction=reduction), x)[0]

    grads = gradient(), gradient("sum")
    torch.testing.assert_close(grads[0], reference_gradient(x, y))
    torch.testing.assert_close(grads[1], reference_gradient(x, y, "sum"))
    del grads
    gc.collect()
    assert kept.lies_there(gradient().numpy())
    assert kept.is_used_again(gradient)
    held = gradient().numpy()[1:]
    before = held.copy()
    for _ in range(3):
        assert not np.may_share_memory(held, gradient("sum").numpy())
    assert (held == before).all()
    ft.empty_cache()
    assert not kept.lies_there(held)


def test_accumulation_with_normalizer():
    x, y = leaf(rows=8)
    (grad,) = torch.autograd.grad(ft.cross_entropy(x, y), x)
    for part in (slice(0, 3), slice(3, 8)):
        ft.cross_entropy(x[part], y[part], normalizer=8).backward()
    torch.testing.assert_close(x.grad, grad)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_checkpoint(reduction, use_reentrant):
    def part(x):
        return ft.cross_entropy(torch.tanh(x), y, reduction=reduction).sum()

    x, y = leaf()
    (plain,) = torch.autograd.grad(part(x), x)
    torch.utils.checkpoint.checkpoint(part, x, use_reentrant=use_reentrant).backward()
    torch.testing.assert_close(x.grad, plain)


def test_saved_tensor_hooks():
    x, y = leaf()
    with torch.autograd.graph.save_on_cpu():
        loss = ft.cross_entropy(x, y, reduction="none").sum()
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], reference_gradient(x, y, "sum"))


def test_hooks_may_change_the_gradient():
    x, y = leaf()
    z = x * 1
    z.register_hook(lambda grad: 2 * grad)
    ft.cross_entropy(z, y).backward()
    torch.testing.assert_close(x.grad, reference_gradient(x, y, factor=2))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode):
    x, y = leaf()
    with mode():
        for given in (ft.cross_entropy(x, y), ft.softmax(x, 1), ft.logsumexp(x, 1)):
            assert not given.requires_grad
    torch.testing.assert_close(given, torch.logsumexp(x.detach(), 1))


def test_logits_changed_before_backward():
    """What was kept for later is missed; what is computed already is not."""
    x, y = leaf()
    z = x * 1
    mean, rows = ft.cross_entropy(z, y), ft.cross_entropy(z, y, reduction="none").sum()
    with torch.no_grad():
        z.zero_()
    torch.testing.assert_close(torch.autograd.grad(mean, x, retain_graph=True)[0], reference_gradient(x, y))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rows.backward()


# In place


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_inplace(reduction, dtype):
    x, y = leaf(dtype)
    z = x * 1
    loss = ft.cross_entropy(z, y, reduction=reduction, inplace=True)
    torch.testing.assert_close(loss, ft.cross_entropy(x, y, reduction=reduction), rtol=0, atol=0)
    (grad,) = torch.autograd.grad(0.5 * loss.sum(), z, retain_graph=True)
    assert grad.data_ptr() == z.data_ptr()
    torch.testing.assert_close(grad, reference_gradient(x, y, reduction, 0.5))
    for create_graph in (False, True):
        with pytest.raises(RuntimeError, match="overwritten by their gradient"):
            torch.autograd.grad(loss.sum(), z, retain_graph=True, create_graph=create_graph)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_inplace_is_noticed_by_who_needs_the_logits(reduction):
    x, y = leaf()
    loss = ft.cross_entropy(torch.tanh(x), y, reduction=reduction, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.sum().backward()


def test_inplace_through_a_layer():
    x, y = leaf()
    weight = torch.randn(7, 9, requires_grad=True)
    hidden = torch.randn(6, 7)
    ft.cross_entropy(hidden @ weight, y, inplace=True).backward()
    ours, weight.grad = weight.grad, None
    F.cross_entropy(hidden @ weight, y).backward()
    torch.testing.assert_close(ours, weight.grad)


def test_inplace_refuses_leaves_and_keeps_what_needs_no_gradient():
    x, y = leaf()
    for tensor in (x, x[:], x.view(-1).view(6, 9)):
        with pytest.raises(RuntimeError, match="leaf"):
            ft.cross_entropy(tensor, y, inplace=True)
    plain = x.detach()
    before = plain.clone()
    ft.cross_entropy(plain, y, inplace=True)
    assert torch.equal(plain, before)


def test_inplace_refuses_overlapping_memory():
    x, y = leaf()
    with pytest.raises(ValueError, match="overlapping"):
        ft.cross_entropy((x[:1] * 1).expand(6, 9), y, inplace=True)


# torch.func


X, Y = leaf(rows=4)
TRANSFORMS = {
    "grad": lambda f: torch.func.grad(lambda x: f(x, Y))(X),
    "vmap": lambda f: torch.func.vmap(f)(X, Y),
    "vmap of grad": lambda f: torch.func.vmap(torch.func.grad(f))(X, Y),
    "jvp": lambda f: torch.func.jvp(lambda x: f(x, Y), (X,), (X,))[1],
    "hessian": lambda f: torch.func.hessian(lambda x: f(x, Y))(X),
}
FUNCTIONS = {
    "cross_entropy": (ft.cross_entropy, F.cross_entropy),
    "softmax": (lambda x, y: ft.softmax(x, -1).square().sum(), lambda x, y: F.softmax(x, -1).square().sum()),
    "logsumexp": (lambda x, y: ft.logsumexp(x, -1).sum(), lambda x, y: torch.logsumexp(x, -1).sum()),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize(("ours", "theirs"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_torch_func(ours, theirs, transform):
    torch.testing.assert_close(transform(ours), transform(theirs))


def test_forward_mode():
    import torch.autograd.forward_ad as forward

    with forward.dual_level():
        dual = forward.make_dual(X.detach(), torch.ones_like(X))
        ours, theirs = (forward.unpack_dual(f(dual, Y)).tangent for f in (ft.cross_entropy, F.cross_entropy))
    torch.testing.assert_close(ours, theirs)


# Threads and processes


def test_threads_share_nothing():
    def work(seed):
        x, y = leaf(rows=kept.LARGE[0], classes=kept.LARGE[1], seed=seed)
        for _ in range(3):
            x.grad = None
            ft.cross_entropy(x, y).backward()
        return x.grad, reference_gradient(x, y)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for grad, exact in pool.map(work, range(8)):
            torch.testing.assert_close(grad, exact)


def test_data_loader_workers():
    """Forked from a process in which threads have started; one of its own, without other frameworks."""
    code = """
        import torch
        import fastlogits.torch as ft

        class Losses(torch.utils.data.Dataset):
            def __len__(self):
                return 4

            def __getitem__(self, index):
                generator = torch.Generator().manual_seed(index)
                x = torch.randn(64, 4096, generator=generator).requires_grad_()
                ft.cross_entropy(x, torch.arange(64)).backward()
                return x.grad[0]

        expected = torch.stack([Losses()[index] for index in range(4)])
        (grads,) = torch.utils.data.DataLoader(Losses(), batch_size=4, num_workers=2, timeout=60)
        torch.testing.assert_close(grads, expected)
        print("done")
        """
    assert run(code).endswith("done")


def test_threads_follow_torch():
    import fastlogits

    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert fastlogits.config.threads(1 << 30) <= threads
    finally:
        torch.set_num_threads(before)


def test_training_ends_with_the_same_loss():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(256, 20, generator=generator)
    labels = torch.randint(0, 50, (256,), generator=generator)
    ends = []
    for patched in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.Tanh(), torch.nn.Linear(64, 50))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        patch = ft.patch()
        if patched:
            patch.on()
        for step in range(200):
            batch = slice(step % 4 * 64, step % 4 * 64 + 64)
            loss = torch.nn.CrossEntropyLoss()(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if patched:
            patch.off()
            assert patch.served == {"cross_entropy": 200}
        ends.append(loss.item())
    assert abs(ends[0] - ends[1]) <= 1e-5


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_graph_is_freed(reduction, dtype):
    """No reference cycle keeps the logits or the gradient alive."""
    import weakref

    x, y = leaf(dtype)
    z = x * 1
    gone = weakref.ref(z)
    gc.disable()
    try:
        ft.cross_entropy(z, y, reduction=reduction).sum().backward()
        del z
        assert gone() is None
    finally:
        gc.enable()
