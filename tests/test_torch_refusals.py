"""What fastlogits.torch does not serve, what it says then, and what it serves although torch's memory is unusual."""

import pytest
from conftest import need
from refusals import refused

torch = need("torch")
ft = need("fastlogits.torch")
fastlogits = need("fastlogits")
F = torch.nn.functional

X, Y = torch.linspace(-3, 3, 15).sin().reshape(3, 5), torch.tensor([0, 4, 2])
NEGATED = (X + 1j * X).conj().imag
UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)


# Names


NAMED = {
    "target": (lambda: ft.cross_entropy(X, Y + 5), IndexError, "^target: .*ignore_index=-100, got 5 at"),
    "labels": (lambda: fastlogits.cross_entropy(X, Y + 5), IndexError, "^labels: .*got 5 at"),
    "hf": (lambda: ft.hf.causal_lm_loss(X, Y + 5), IndexError, "^labels: .*got 9 at"),
    "shape": (lambda: ft.cross_entropy(X, Y[:2]), ValueError, "^target: expected class indices"),
    "input": (lambda: ft.cross_entropy(X + 0j, Y), TypeError, "^input: expected .*complex64"),
    "index": (lambda: ft.selective_log_softmax(X, Y + 5), IndexError, r"^index: expected values in \[0, 5\), got 5"),
    "ids": (lambda: fastlogits.selective_log_softmax(X, Y + 5), IndexError, "^ids: expected"),
    "tracked ids": (
        lambda: fastlogits.selective_log_softmax(X.clone().requires_grad_(), Y + 5), IndexError, "^ids: expected",
    ),
    "float index": (lambda: ft.selective_log_softmax(X, Y.float()), TypeError, "^index: expected int16, .*float32"),
    "the user's own word": (
        lambda: ft.cross_entropy(X, Y, reduction="labels of logits"), ValueError, "got 'labels of logits'",
    ),
    "b": (lambda: fastlogits.logsumexp(X, b=torch.ones(4)), ValueError, r"^b: expected .* a, \(3, 5\), got \(4,\)"),
    "tracked b": (
        lambda: fastlogits.logsumexp(X, b=torch.ones(4).requires_grad_()), ValueError, r"^b: expected .*got \(4,\)",
    ),
    "negated": (lambda: fastlogits.softmax(NEGATED), TypeError, r"^logits: .*negated.* logits.resolve_neg\(\)"),
    "negated without a gradient": (lambda: fastlogits.entropy(NEGATED), TypeError, "^logits: .*negated"),
    "complex": (lambda: ft.logsumexp(X + 0j, 1), TypeError, "^input: expected .*complex64"),
    "complex in the uniform function": (lambda: fastlogits.logsumexp(X + 0j), TypeError, "^a: expected .*complex64"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), NAMED.values(), ids=NAMED)
def test_arguments_have_the_names_that_the_caller_gave_them(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_names_in_a_compiled_graph():
    torch.compiler.reset()
    for function, name in ((ft.cross_entropy, "target"), (ft.selective_log_softmax, "index")):
        with pytest.raises(IndexError, match=rf"^{name}: expected values in \[0, 5\).*got 5") as raised:
            torch.compile(function, fullgraph=True, backend="aot_eager")(X, Y + 5)
        assert "-9223372036854775807" not in str(raised.value)


# Subclasses, and values that are elsewhere


@pytest.fixture
def wrappers():
    """Tensors whose values are not what their memory holds."""
    import torch.distributed as distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        yield {
            "DTensor": distribute_tensor(X, mesh, [Shard(0)]),
            "nested": torch.nested.nested_tensor([X[0], X[1]], layout=torch.strided),
            "MaskedTensor": torch.masked.masked_tensor(X, X > -1),
        }
    finally:
        distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_wrappers_go_to_torch_or_are_refused(wrappers):
    for kind, tensor in wrappers.items():
        expected = F.softmax(tensor, -1)
        with ft.patch() as patched:
            given = F.softmax(tensor, -1)
        assert patched.passed_on == {"softmax": 1}
        assert type(given) is type(expected)
        for function in (fastlogits.softmax, fastlogits.row_stats, fastlogits.argmax):
            with refused(TypeError, "logits: expected a dense CPU tensor", kind):
                function(tensor)
        for function in (ft.softmax, ft.log_softmax, ft.logsumexp):
            with refused(TypeError, "input: expected a dense CPU tensor", kind):
                function(tensor, -1)


def test_patch_leaves_subclasses_to_torch():
    asked = []

    class Own(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            asked.append(function)
            return super().__torch_function__(function, types, args, kwargs)

    x, original = X.as_subclass(Own), F.softmax
    with ft.patch() as patched:
        asked.clear()
        result = F.softmax(x, 1)
    assert type(result) is Own
    assert asked == [original]
    assert patched.passed_on == {"softmax": 1}
    torch.testing.assert_close(ft.softmax(x, 1), result)


# Labels of every width


@pytest.mark.parametrize("dtype", UNSIGNED, ids=str)
def test_unsigned_labels(dtype):
    labels = Y.to(dtype)
    torch.testing.assert_close(ft.cross_entropy(X, labels), F.cross_entropy(X, Y))
    torch.testing.assert_close(fastlogits.cross_entropy(X, labels), F.cross_entropy(X, Y))
    gradient = torch.func.grad(ft.cross_entropy)
    torch.testing.assert_close(gradient(X, labels), gradient(X, Y))
    torch.testing.assert_close(ft.selective_log_softmax(X, labels), F.log_softmax(X, 1).gather(1, Y[:, None])[:, 0])


def test_no_unsigned_label_is_taken_for_ignore_index():
    x, labels = torch.linspace(-1, 1, 600).sin().reshape(2, 300), torch.tensor([156, 0])
    gradient = torch.func.grad(ft.cross_entropy)
    torch.testing.assert_close(gradient(x, labels.to(torch.uint8)), gradient(x, labels))


# Gradients that arrive in half precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_half_gradients_arrive(dtype):
    logits, arriving = X.to(dtype), torch.tensor([1.0, 0.5, 0.25])
    options = {"reduction": "none"}
    expected = fastlogits.cross_entropy_with_grad(logits, Y, grad_loss=arriving, **options).grad_logits
    assert expected.dtype is dtype
    given = fastlogits.cross_entropy_with_grad(logits, Y, grad_loss=arriving.to(dtype), **options).grad_logits
    assert torch.equal(given, expected)
    scalar = fastlogits.cross_entropy_with_grad(logits, Y, grad_loss=torch.tensor(0.5, dtype=dtype)).grad_logits
    assert torch.equal(scalar, fastlogits.cross_entropy_with_grad(logits, Y, grad_loss=0.5).grad_logits)
