"""torch.compile, export and the registered operators."""

import pytest
from conftest import need

from fastlogits._options import LossOptions

torch = need("torch")
ft = need("fastlogits.torch")
F = torch.nn.functional
ops = torch.ops.fastlogits

# torch's own, while it compiles.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

X, LABELS = torch.linspace(-3, 3, 60).reshape(4, 5, 3), torch.arange(12).reshape(4, 3) % 5
SHARES, WEIGHT, ROWS = torch.linspace(0, 1, 60).reshape(4, 5, 3), torch.linspace(0.5, 1, 5), torch.rand(4, 3)
OPTIONS = LossOptions(1, -100, 0.1, 0.01, 2.0, 0.5)
HOW = "('float32', 1, -100, 0.1, 0.01, 2.0, 0.5, 'mean', None, 'labels')"


def tracked(tensor):
    return tensor.clone().requires_grad_()


def loss_arguments(soft, reduction, dtype):
    logits = tracked(X.to(dtype))
    target = tracked(SHARES.to(dtype)) if soft else LABELS
    return logits, target, WEIGHT, ROWS, dtype, *OPTIONS._replace(reduction=reduction)


OPERATORS = {
    f"cross_entropy {soft=} {reduction} {dtype}": (ops.cross_entropy, loss_arguments(soft, reduction, dtype))
    for soft in (False, True)
    for reduction, dtype in (("mean", torch.float32), ("none", torch.float64), ("sum", torch.bfloat16))
} | {
    "backward": (
        ops.cross_entropy_backward, (torch.ones(()), X, *loss_arguments(False, "mean", torch.float32)[1:]),
    ),
    "backward of rows": (
        ops.cross_entropy_backward,
        (ROWS.t(), X.transpose(0, 2), LABELS.t(), None, None, torch.float32, *OPTIONS._replace(reduction="none")),
    ),
    "loss in a graph": (ops.loss, (X, LABELS, WEIGHT, None, HOW)),
    "with gradient": (ops.loss_and_gradient, (X.transpose(0, 2), LABELS.t(), None, ROWS.t(), HOW)),
    "its backward": (ops.loss_backward, (torch.ones(()), X, LABELS, WEIGHT, None, HOW)),
    "softmax": (ops.softmax, (tracked(X), 1)),
    "softmax_backward": (ops.softmax_backward, (X[:, ::2], X[:, ::2].sigmoid(), 1)),
    "log_softmax_backward": (ops.log_softmax_backward, (X.transpose(0, 1), -X.transpose(0, 1), 0)),
    "softmax of a view": (ops.softmax, (tracked(X)[:, ::2], -1)),
    "log_softmax": (ops.log_softmax, (tracked(X.transpose(0, 1)), 0)),
    "logsumexp": (ops.logsumexp, (tracked(X), [1], False)),
    "logsumexp of two": (ops.logsumexp, (tracked(X), [0, -1], True)),
}  # fmt: skip


@pytest.mark.parametrize(("operator", "arguments"), OPERATORS.values(), ids=OPERATORS)
def test_operators(operator, arguments):
    torch.library.opcheck(operator, arguments)


def everything(functions):
    cross_entropy, softmax, log_softmax, logsumexp = functions

    def function(x, labels, shares, weight):
        return (
            cross_entropy(x, labels, weight, label_smoothing=0.1)
            + cross_entropy(2 * x, shares)
            + (cross_entropy(x, labels, reduction="none") * weight[0]).sum()
            + softmax(x, 1).square().sum()
            + log_softmax(x, -1).square().mean()
            + logsumexp(x, 1).sum()
        )

    return function


OURS = everything((ft.cross_entropy, ft.softmax, ft.log_softmax, ft.logsumexp))
THEIRS = everything((F.cross_entropy, F.softmax, F.log_softmax, torch.logsumexp))


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()


@pytest.mark.parametrize(("backend", "dynamic"), [("aot_eager", False), ("inductor", True)])
def test_compiled_equals_eager(backend, dynamic):
    compiled = torch.compile(OURS, fullgraph=True, dynamic=dynamic, backend=backend)
    for rows in (4, 7):
        x = torch.randn(rows, 5, 3, generator=torch.Generator().manual_seed(rows))
        x.requires_grad_()
        arguments = x, torch.arange(3 * rows).reshape(rows, 3) % 5, torch.softmax(x.detach(), 1), WEIGHT
        values = compiled(*arguments), OURS(*arguments), THEIRS(*arguments)
        grads = [torch.autograd.grad(value, x)[0] for value in values]
        for group in (values, grads):
            torch.testing.assert_close(group[0], group[1])
            torch.testing.assert_close(group[0], group[2])


def test_extras_compiled():
    def loss(x, normalizer):
        return ft.cross_entropy(
            x, LABELS, sample_weight=ROWS, z_loss=0.1, softcap=2.0, logit_scale=0.5, normalizer=normalizer
        )

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for normalizer in (3.0, torch.tensor(3.0)):
        x = tracked(X)
        grads = [torch.autograd.grad(function(x, normalizer), x)[0] for function in (compiled, loss)]
        torch.testing.assert_close(*grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("rows", [3, 1100], ids=["small", "large"])
def test_gradients_compiled(rows, reduction, dtype):
    """That come with the loss, and that come later: of "none", of float16, and where they are large."""
    x = torch.linspace(-3, 3, rows * 1000).reshape(rows, 1000).to(dtype).requires_grad_()
    labels, weight = torch.arange(rows) % 1000, torch.linspace(0.5, 1, 1000)

    def loss(x):
        return ft.cross_entropy(x, labels, weight, reduction=reduction, label_smoothing=0.1)

    (compiled, eager) = (function(x) for function in (torch.compile(loss, fullgraph=True, backend="aot_eager"), loss))
    torch.testing.assert_close(compiled, eager)
    arriving = torch.full_like(eager, 2.0)
    grads = [torch.autograd.grad(value, x, arriving)[0] for value in (compiled, eager)]
    torch.testing.assert_close(*grads)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(loss, fullgraph=True, backend="aot_eager")(x), eager)


def test_what_is_left_in_a_graph():
    """Operators with few arguments; the options themselves where they are symbols."""
    found = []

    def remember(graph, inputs):
        found.extend(str(node.target) for node in graph.graph.nodes if "fastlogits" in str(node.target))
        return graph

    def targets(function, *arguments):
        found.clear()
        backend = torch._dynamo.backends.common.aot_autograd(fw_compiler=remember)
        function = torch.compile(function, fullgraph=True, backend=backend)
        for argument in arguments:
            x = tracked(X)
            torch.autograd.grad(function(x, argument), x)
        return [*found]

    def rows(x, labels):
        return ft.cross_entropy(x, labels, reduction="none").sum()

    early = targets(ft.cross_entropy, LABELS)
    assert early == ["fastlogits.loss_and_gradient.default"]
    assert targets(rows, LABELS) == ["fastlogits.loss.default", "fastlogits.loss_backward.default"]


def test_options_that_change_compiled():
    def loss(x, smoothing, ignored):
        return ft.cross_entropy(x, LABELS, label_smoothing=smoothing, ignore_index=ignored)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for smoothing, ignored in ((0.1, -100), (0.2, 3), (0.3, 4), (0.4, 2)):
        x = tracked(X)
        values = [function(x, smoothing, ignored) for function in (compiled, loss)]
        torch.testing.assert_close(*values)
        torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in values))
    with pytest.raises(ValueError, match="label_smoothing"):
        compiled(X, 1.5, 2)


def test_gradients_of_all_that_has_one_compiled():
    def loss(x, shares, weight, rows):
        return ft.cross_entropy(x, shares, weight, sample_weight=rows, z_loss=0.1)

    inputs = [tracked(tensor.double()) for tensor in (X, SHARES, WEIGHT, ROWS)]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    grads = [torch.autograd.grad(function(*inputs), inputs) for function in (compiled, loss)]
    torch.testing.assert_close(*grads)


def test_autocast_compiled():
    x = tracked(X.bfloat16())
    with torch.autocast("cpu"):
        loss = torch.compile(ft.cross_entropy, fullgraph=True, backend="aot_eager")(x, LABELS)
    assert loss.dtype is torch.float32
    torch.testing.assert_close(loss, ft.cross_entropy(x.float(), LABELS))
    assert torch.autograd.grad(loss, x)[0].dtype is torch.bfloat16


def test_bad_labels_compiled():
    compiled = torch.compile(ft.cross_entropy, fullgraph=True, backend="aot_eager")
    with pytest.raises(IndexError, match="got 7 at"):
        compiled(torch.zeros(2, 3), torch.tensor([0, 7]))


def test_second_derivative_of_the_operator():
    def loss(x):
        return ops.cross_entropy(x, LABELS, None, None, x.dtype, *OPTIONS._replace(z_loss=0.1))

    x = tracked(X.double())
    assert torch.autograd.gradcheck(loss, x)
    assert torch.autograd.gradgradcheck(loss, x)


def test_module_exports():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loss = ft.CrossEntropyLoss(label_smoothing=0.1)

        def forward(self, x, labels):
            return self.loss(x, labels)

    exported = torch.export.export(Model(), (X, LABELS)).module()
    torch.testing.assert_close(exported(X, LABELS), F.cross_entropy(X, LABELS, label_smoothing=0.1))


def test_fake_tensors():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode() as mode:
        x = mode.from_tensor(X)
        assert ft.cross_entropy(x, mode.from_tensor(LABELS), reduction="none").shape == LABELS.shape
        assert ft.softmax(x, 1).shape == X.shape
        assert ft.logsumexp(x, (0, 2)).shape == (5,)
