"""Function transforms of torch, and torch.compile over them."""

import pytest
from conftest import need

torch = need("torch")
ft = need("fastlogits.torch")
fastlogits = need("fastlogits")
forward_ad = torch.autograd.forward_ad
F = torch.nn.functional

# torch's own, while it compiles.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

X, TANGENT = torch.linspace(-3, 3, 20).sin().reshape(4, 5), torch.linspace(-1, 1, 20).cos().reshape(4, 5)
LABELS = torch.tensor([0, 4, 2, 1])
COUNT = torch.tensor(3)

FUNCTIONS = {
    "cross_entropy": (lambda x: ft.cross_entropy(x, LABELS), lambda x: F.cross_entropy(x, LABELS)),
    "normalizer": (
        lambda x: ft.cross_entropy(x, LABELS, normalizer=COUNT),
        lambda x: F.cross_entropy(x, LABELS, reduction="sum") / COUNT,
    ),
    "softmax": (lambda x: ft.softmax(x, 1), lambda x: F.softmax(x, 1)),
    "log_softmax": (lambda x: ft.log_softmax(x, 1), lambda x: F.log_softmax(x, 1)),
    "logsumexp": (lambda x: ft.logsumexp(x, 1), lambda x: torch.logsumexp(x, 1)),
    "selective_log_softmax": (
        lambda x: ft.selective_log_softmax(x, LABELS),
        lambda x: F.log_softmax(x, 1).gather(1, LABELS.unsqueeze(1)).squeeze(1),
    ),
    "uniform": (lambda x: fastlogits.softmax(x, temperature=2.0), lambda x: F.softmax(x / 2, 1)),
}


def of_duals(function):
    def tangent(x, t):
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(function(forward_ad.make_dual(x, t))).tangent

    return tangent


def squared(function):
    return lambda x: function(x).square().sum()


TRANSFORMS = {
    "jvp": lambda f: lambda x, t: torch.func.jvp(f, (x,), (t,))[1],
    "duals": of_duals,
    "vjp": lambda f: lambda x, t: torch.func.vjp(squared(f), x)[1](torch.tensor(2.0))[0],
    "grad": lambda f: lambda x, t: torch.func.grad(squared(f))(x),
    "vmap of grad": lambda f: lambda x, t: torch.vmap(torch.func.grad(squared(f)))(torch.stack([x, t])),
    "jacrev": lambda f: lambda x, t: torch.func.jacrev(f)(x),
    "jacfwd": lambda f: lambda x, t: torch.func.jacfwd(f)(x),
    "hessian": lambda f: lambda x, t: torch.func.hessian(squared(f))(x),
}


@pytest.mark.parametrize("compiler", [None, "aot_eager"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize(("ours", "theirs"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_transforms_are_those_of_torch(ours, theirs, transform, compiler):
    transformed = transform(ours)
    if compiler:
        torch.compiler.reset()
        transformed = torch.compile(transformed, backend=compiler)
    torch.testing.assert_close(transformed(X, TANGENT), transform(theirs)(X, TANGENT))


def test_transforms_compiled_while_patched():
    torch.compiler.reset()
    gradient = torch.func.grad(lambda x: F.cross_entropy(x, LABELS))
    expected = gradient(X)
    with ft.patch():
        torch.testing.assert_close(torch.compile(gradient, backend="aot_eager")(X), expected)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_uniform_functions_compile_to_one_graph(name):
    torch.compiler.reset()
    function = getattr(fastlogits, name)
    torch.testing.assert_close(torch.compile(function, fullgraph=True, backend="aot_eager")(X), function(X))


# Functions without a gradient


BATCH = torch.stack([X, TANGENT])
UNTRACKED = {
    "argmax": fastlogits.argmax,
    "entropy": fastlogits.entropy,
    "topk": lambda x: tuple(fastlogits.topk(x, 2)),
    "row_stats": lambda x: fastlogits.row_stats(x, want=("max_prob",)).max_prob,
    "filter_logits": lambda x: fastlogits.filter_logits(x, top_k=2),
    "sample": lambda x: fastlogits.sample(x, seed=3).ids,
    "perplexity": lambda x: fastlogits.perplexity(x, LABELS),
    "loglikelihood": lambda x: tuple(fastlogits.loglikelihood(x, LABELS)),
}


@pytest.mark.parametrize("function", UNTRACKED.values(), ids=UNTRACKED)
def test_functions_without_gradient_under_vmap(function):
    one, other = (function(x) for x in BATCH)
    given = torch.vmap(function)(BATCH)
    if not isinstance(one, tuple):
        one, other, given = (one,), (other,), (given,)
    for expected, value in zip(zip(one, other, strict=True), given, strict=True):
        torch.testing.assert_close(value, torch.stack([torch.as_tensor(each) for each in expected]))


def test_vmap_of_vmap_and_inner_axes():
    torch.testing.assert_close(torch.vmap(torch.vmap(fastlogits.entropy))(BATCH), fastlogits.entropy(BATCH))
    given = torch.vmap(lambda x: fastlogits.argmax(x, 0), in_dims=1)(X)
    assert torch.equal(given, fastlogits.argmax(X, 0))


def test_draws_under_vmap_are_as_random_as_it_was_told():
    even = torch.zeros(64, 8)
    with pytest.raises(RuntimeError, match="seed: expected a number"):
        torch.vmap(fastlogits.sample)(even)
    same = torch.vmap(fastlogits.sample, randomness="same")(even).ids
    different = torch.vmap(fastlogits.sample, randomness="different")(even).ids
    assert len(same.unique()) == 1
    assert len(different.unique()) > 1


WITH_RESPECT_TO_X = {
    "grad": lambda f: torch.func.grad(f)(X),
    "jvp": lambda f: torch.func.jvp(f, (X,), (TANGENT,)),
    "vmap of grad": lambda f: torch.vmap(torch.func.grad(f))(BATCH),
    "grad of vmap": lambda f: torch.func.grad(lambda x: torch.vmap(f)(x).sum())(BATCH),
    "duals": lambda f: of_duals(f)(X, TANGENT),
}


@pytest.mark.parametrize("transform", WITH_RESPECT_TO_X.values(), ids=WITH_RESPECT_TO_X)
def test_no_silent_derivative_of_functions_without_gradient(transform):
    with pytest.raises(RuntimeError, match=r"logits: fastlogits.entropy has no gradient; pass logits.detach\(\)"):
        transform(lambda x: fastlogits.entropy(x).sum())
    transform(lambda x: x.sum() * fastlogits.entropy(x.detach()).sum())


def test_argmax_is_a_constant_to_derivatives():
    expected = fastlogits.argmax(X).to(X.dtype).unsqueeze(1).expand_as(X)
    torch.testing.assert_close(torch.func.grad(lambda x: (fastlogits.argmax(x).unsqueeze(1) * x).sum())(X), expected)
    tangent = torch.func.jvp(lambda x: fastlogits.argmax(x).unsqueeze(1) * x, (X,), (TANGENT,))[1]
    torch.testing.assert_close(tangent, expected * TANGENT)


def test_measures_of_data_sets_are_refused():
    calibration = need("fastlogits.calibration")
    with pytest.raises(RuntimeError, match=r"expected_calibration_error .*outside of torch.vmap"):
        torch.vmap(lambda x: calibration.expected_calibration_error(x, LABELS))(BATCH)
