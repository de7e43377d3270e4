"""fastlogits.torch.cross_entropy and its kin against torch in float64: options, layouts, dtypes, errors."""

import itertools
import warnings

import pytest
from conftest import need

torch = need("torch")
ft = need("fastlogits.torch")
F = torch.nn.functional

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SHAPES = {"unbatched": (7,), "rows": (5, 7), "short": (130, 3), "long": (3, 4099), "image": (2, 5, 3, 4)}
OPTIONS = {
    "reduction": ("mean", "sum", "none"),
    "label_smoothing": (0.0, 0.3),
    "weighted": (False, True),
    "ignore_index": (-100, 1),
}


def batch_shape(shape):
    return shape[:1] + shape[2:] if len(shape) > 1 else ()


def sample(shape, dtype, soft=False):
    generator = torch.Generator().manual_seed(len(shape) + shape[-1])
    axis = 1 if len(shape) > 1 else 0
    logits = (3 * torch.randn(shape, generator=generator)).to(dtype)
    if soft:
        target = torch.softmax(torch.randn(shape, generator=generator), axis).to(dtype)
    else:
        target = torch.randint(0, shape[axis], batch_shape(shape), generator=generator)
    return logits, target, torch.rand(shape[axis], generator=generator) + 0.5


def value_and_gradient(function, logits, target, **options):
    logits = logits.detach().requires_grad_()
    loss = function(logits, target, **options)
    upstream = torch.linspace(0.5, 1.5, max(1, loss.numel()), dtype=loss.dtype).reshape(loss.shape)
    (grad,) = torch.autograd.grad(loss, logits, upstream)
    return loss.detach(), grad


def assert_as_torch(logits, target, weight=None, **options):
    before = logits.clone(), target.clone()
    loss, grad = value_and_gradient(ft.cross_entropy, logits, target, weight=weight, **options)
    wide_target = target.double() if target.is_floating_point() else target
    wide_weight = None if weight is None else weight.double()
    exact = value_and_gradient(F.cross_entropy, logits.double(), wide_target, weight=wide_weight, **options)
    for given, wide in zip((loss, grad), exact, strict=True):
        assert given.dtype == logits.dtype
        torch.testing.assert_close(given, wide.to(given.dtype), equal_nan=True)
    with torch.no_grad():
        alone = ft.cross_entropy(logits, target, weight, **options)
    torch.testing.assert_close(alone, loss, equal_nan=True, rtol=0, atol=0)
    for tensor, copy in zip((logits, target), before, strict=True):
        torch.testing.assert_close(tensor, copy, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_combination_of_options(shape, dtype):
    for values in itertools.product(*OPTIONS.values()):
        options = dict(zip(OPTIONS, values, strict=True))
        logits, target, weight = sample(shape, dtype)
        assert_as_torch(logits, target, weight.to(dtype) if options.pop("weighted") else None, **options)
        if options["ignore_index"] < 0:
            logits, target, weight = sample(shape, dtype, soft=True)
            assert_as_torch(logits, target, weight.to(dtype), **options)


LAYOUTS = {
    "transposed": lambda x: x.t().contiguous().t(),
    "gapped": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "expanded": lambda x: x[:1].expand(x.shape),
    "every other class": lambda x: torch.stack([x, x], 2)[:, :, 0],
    "offset": lambda x: torch.cat([x.new_zeros(1), x.reshape(-1)])[1:].view(x.shape),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(layout, dtype):
    logits, target, _ = sample((5, 7), dtype)
    assert_as_torch(layout(logits), target)
    logits, target, _ = sample((5, 7), dtype, soft=True)
    assert_as_torch(logits, layout(target), reduction="none")


def test_channels_last():
    logits, target, _ = sample((2, 5, 3, 4), torch.float32)
    assert_as_torch(logits.to(memory_format=torch.channels_last), target)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64], ids=str)
def test_labels_of_any_integer_dtype(dtype):
    logits, target, _ = sample((5, 7), torch.float32)
    assert torch.equal(ft.cross_entropy(logits, target.to(dtype)), ft.cross_entropy(logits, target))


@pytest.mark.parametrize(
    ("logits", "target"),
    [(torch.float32, torch.float64), (torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)],
)
def test_mixed_dtypes_promote_as_in_torch(logits, target):
    x, t, _ = sample((5, 7), torch.float32, soft=True)
    x, t = x.to(logits), t.to(target)
    given, theirs = ft.cross_entropy(x, t), F.cross_entropy(x, t)
    assert given.dtype == theirs.dtype
    torch.testing.assert_close(given, theirs, rtol=torch.finfo(torch.bfloat16).eps, atol=0)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("shape", [(0, 5), (0, 5, 3)])
def test_no_rows(shape, soft):
    target = torch.ones(shape) if soft else torch.ones(batch_shape(shape), dtype=torch.long)
    for reduction in OPTIONS["reduction"]:
        given = ft.cross_entropy(torch.ones(shape), target, reduction=reduction)
        theirs = F.cross_entropy(torch.ones(shape), target, reduction=reduction)
        torch.testing.assert_close(given, theirs, equal_nan=True)


def test_all_ignored():
    logits = torch.zeros(2, 3, requires_grad=True)
    target = torch.full((2,), -100)
    assert ft.cross_entropy(logits, target).isnan()
    loss = ft.cross_entropy(logits, target, normalizer=4)
    assert loss == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_ignored_rows_are_not_read():
    logits = torch.tensor([[1.0, 2.0], [torch.nan, torch.inf]], requires_grad=True)
    loss = ft.cross_entropy(logits, torch.tensor([0, -100]))
    assert torch.equal(loss, ft.cross_entropy(logits[:1], torch.tensor([0])))
    (grad,) = torch.autograd.grad(loss, logits)
    assert not grad[1].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("reduction", OPTIONS["reduction"])
def test_autocast_gives_float32_as_torch(dtype, reduction):
    logits, target, _ = sample((5, 7), dtype)
    with torch.autocast("cpu", dtype=dtype):
        given, grad = value_and_gradient(ft.cross_entropy, logits, target, reduction=reduction)
        theirs, _ = value_and_gradient(F.cross_entropy, logits, target, reduction=reduction)
    assert given.dtype == theirs.dtype == torch.float32
    assert grad.dtype == dtype
    exact = F.cross_entropy(logits.double(), target, reduction=reduction).float()
    torch.testing.assert_close(given, exact)


def test_float16_gradients_survive_loss_scaling():
    """Unscaled, the gradient of a mean over 4096 rows is below float16's smallest number."""
    logits = torch.zeros(4096, 3000, dtype=torch.float16, requires_grad=True)
    loss = ft.cross_entropy(logits, torch.zeros(4096, dtype=torch.long))
    (grad,) = torch.autograd.grad(loss * 4096, logits)
    torch.testing.assert_close(grad[:, 1:], torch.full_like(grad[:, 1:], 1 / 3000))


EXTRAS = {
    "sample_weight": {"sample_weight": torch.linspace(0.5, 2, 5)},
    "z_loss": {"z_loss": 0.01},
    "softcap": {"softcap": 2.0},
    "logit_scale": {"logit_scale": -0.5},
    "normalizer": {"normalizer": 3.5},
    "normalizer as a tensor": {"normalizer": torch.tensor(3)},
    "all": {"sample_weight": torch.linspace(0.5, 2, 5), "z_loss": 0.01, "softcap": 2.0, "logit_scale": 1.5},
}


@pytest.mark.parametrize("reduction", OPTIONS["reduction"])
@pytest.mark.parametrize("extras", EXTRAS.values(), ids=EXTRAS)
def test_extras(extras, reduction):
    """Against the definition, in torch's float64."""
    if "normalizer" in extras and reduction != "mean":
        with pytest.raises(ValueError, match="normalizer"):
            ft.cross_entropy(torch.zeros(5, 7), torch.zeros(5).long(), reduction=reduction, **extras)
        return
    logits, target, weight = sample((5, 7), torch.float32)

    def definition(
        x, target, weight, reduction,
        sample_weight=None, z_loss=0.0, softcap=None, logit_scale=1.0, normalizer=None,
    ):  # fmt: skip
        z = x if softcap is None else softcap * torch.tanh(x / softcap)
        z = logit_scale * z
        s = torch.ones(5).double() if sample_weight is None else sample_weight.double()
        losses = F.cross_entropy(z, target, weight, reduction="none") + z_loss * torch.logsumexp(z, 1) ** 2
        divisor = {"mean": (s * weight[target]).sum(), "sum": 1.0, "none": 1.0}[reduction]
        losses = losses * s / (divisor if normalizer is None else normalizer)
        return losses if reduction == "none" else losses.sum()

    given = value_and_gradient(ft.cross_entropy, logits, target, weight=weight, reduction=reduction, **extras)
    wide = logits.double(), target
    exact = value_and_gradient(definition, *wide, weight=weight.double(), reduction=reduction, **extras)
    for ours, theirs in zip(given, exact, strict=True):
        torch.testing.assert_close(ours, theirs.float())


MODULE_ARGUMENTS = {}, {"label_smoothing": 0.1}, {"size_average": False}, {"reduce": False}


@pytest.mark.parametrize("arguments", MODULE_ARGUMENTS)
def test_module(arguments):
    logits, target, weight = sample((5, 7), torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its legacy arguments
        ours = ft.CrossEntropyLoss(weight, **arguments)
        theirs = torch.nn.CrossEntropyLoss(weight, **arguments)
        torch.testing.assert_close(ours(logits, target), theirs(logits, target))
    assert isinstance(ours, torch.nn.CrossEntropyLoss)
    assert list(ours.state_dict()) == list(theirs.state_dict())


SOFTMAXES = {"softmax": F.softmax, "log_softmax": F.log_softmax, "logsumexp": torch.logsumexp}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SOFTMAXES)
def test_softmaxes(name, dtype):
    for shape, dim in itertools.product([(7,), (5, 7), (3, 4099), (2, 5, 3)], (0, -1)):
        logits, _, _ = sample(shape, dtype)
        given = getattr(ft, name)(logits, dim)
        torch.testing.assert_close(given, SOFTMAXES[name](logits.double(), dim).to(dtype))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_dtype_and_scalar(name):
    ours, theirs = getattr(ft, name), SOFTMAXES[name]
    numbers = torch.tensor([1, 2, 3])
    torch.testing.assert_close(ours(numbers, 0, dtype=torch.float32), theirs(numbers, 0, dtype=torch.float32))
    torch.testing.assert_close(ours(torch.tensor(2.0), 0), theirs(torch.tensor(2.0), 0))
    with pytest.warns(UserWarning, match="Implicit dimension choice"):
        ours(torch.zeros(2, 2))


def test_logsumexp_keepdim_integers_and_several_dims():
    x = torch.arange(24).reshape(2, 3, 4)
    expected = torch.logsumexp(x, (0, 2), keepdim=True)
    torch.testing.assert_close(ft.logsumexp(x, (0, 2), keepdim=True), expected)


def loss(logits=None, target=None, weight=None, **options):
    logits = torch.zeros(2, 3) if logits is None else logits
    return ft.cross_entropy(logits, torch.tensor([0, 1]) if target is None else target, weight, **options)


BAD = {
    "label too large": (lambda: loss(target=torch.tensor([0, 3])), IndexError, r"target: .*got 3 at \(1,\)"),
    "label negative": (lambda: loss(target=torch.tensor([-1, 0])), IndexError, r"target: .*got -1 at \(0,\)"),
    "batch": (lambda: loss(target=torch.zeros(3).long()), ValueError, "target: .*shape"),
    "reduction": (lambda: loss(reduction="max"), ValueError, "max"),
    "float labels": (lambda: loss(target=torch.zeros(2)), (TypeError, ValueError), "target"),
    "integer logits": (lambda: loss(torch.zeros(2, 3).long()), TypeError, "input: .*int64"),
    "complex logits": (lambda: loss(torch.zeros(2, 3) + 0j), TypeError, "input: .*complex64"),
    "smoothing": (lambda: loss(label_smoothing=2), ValueError, "label_smoothing"),
    "ignore_index": (lambda: loss(target=torch.zeros(2, 3), ignore_index=1), ValueError, "target"),
    "weight of another length": (lambda: loss(weight=torch.ones(2)), ValueError, "weight"),
    "weight with gradient": (
        lambda: loss(weight=torch.ones(3, requires_grad=True)), RuntimeError, "weight: not differentiable",
    ),
    "meta": (lambda: loss(torch.zeros(2, 3, device="meta")), TypeError, "input: .*device meta"),
    "sparse": (lambda: ft.softmax(torch.zeros(2, 3).to_sparse(), 1), TypeError, "input: .*sparse"),
    "negative bit": (
        lambda: ft.softmax(torch.zeros(3, dtype=torch.complex64).conj().imag, 0), TypeError, "resolve_neg",
    ),
    "no tensor": (lambda: loss([1.0, 2.0]), TypeError, "input: expected a tensor, got list"),
    "no labels": (lambda: loss(target=[0, 1]), TypeError, "target: expected a tensor, got list"),
    "no dimension": (lambda: loss(torch.tensor(1.0), torch.tensor(0)), ValueError, "dimension 0"),
    "dim": (lambda: ft.softmax(torch.zeros(2, 3), 2), IndexError, r"\[-2, 1\]"),
    "dims twice": (lambda: ft.logsumexp(torch.zeros(2, 3), (0, -2)), RuntimeError, "once"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_quantized_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about quantization
        quantized = torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)
    with pytest.raises(TypeError, match="qint8"):
        ft.softmax(quantized, 0)
