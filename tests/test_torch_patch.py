"""Plugging in without touching the model: patch() and the Hugging Face loss."""

import pytest
from conftest import need

torch = need("torch")
ft = need("fastlogits.torch")
F = torch.nn.functional
NAMES = ("cross_entropy", "softmax", "log_softmax")
X, Y = torch.linspace(-3, 3, 15).reshape(3, 5), torch.tensor([0, 4, 2])


def test_replaces_and_restores():
    before = [getattr(F, name) for name in NAMES]
    exact = torch.nn.CrossEntropyLoss()(X, Y), torch.nn.Softmax(1)(X), torch.nn.LogSoftmax(1)(X)
    with ft.patch() as patched:
        assert all(getattr(F, name) is not old for name, old in zip(NAMES, before, strict=True))
        given = torch.nn.CrossEntropyLoss()(X, Y), torch.nn.Softmax(1)(X), torch.nn.LogSoftmax(1)(X)
    assert [getattr(F, name) for name in NAMES] == before
    torch.testing.assert_close(given, exact)
    assert patched.served == dict.fromkeys(NAMES, 1)
    assert not patched.passed_on
    assert repr(patched) == "patch(off; served: cross_entropy 1, softmax 1, log_softmax 1; passed on: none)"


def test_restores_after_an_error():
    before = F.cross_entropy
    with pytest.raises(IndexError, match="got 5"), ft.patch():
        F.cross_entropy(X, Y + 5)
    assert F.cross_entropy is before


def test_on_and_off_and_nested():
    before = F.softmax
    outer, inner = ft.patch(), ft.patch()
    assert outer.on() is outer
    with pytest.raises(RuntimeError, match="on already"):
        outer.on()
    inner.on()
    with pytest.raises(RuntimeError, match="changed since"):
        outer.off()
    inner.off()
    outer.off()
    with pytest.raises(RuntimeError, match="off already"):
        outer.off()
    assert F.softmax is before


NOT_SERVED = {
    "integers": lambda: F.softmax(torch.arange(3), 0),
    "dtype": lambda: F.softmax(X, 1, dtype=torch.int64),
    "complex": lambda: F.cross_entropy(X + 0j, Y),
    "shape": lambda: F.cross_entropy(X, Y[:2]),
    "float labels": lambda: F.cross_entropy(X, Y.float()),
    "meta": lambda: F.softmax(X.to("meta"), 1).shape,
    "meta loss": lambda: F.cross_entropy(X.to("meta"), Y.to("meta")).shape,
    "weight": lambda: F.cross_entropy(X, Y, torch.ones(4)),
    "weight with gradient": lambda: F.cross_entropy(X, Y, torch.ones(5, requires_grad=True)),
    "no tensor": lambda: F.softmax([1.0], 0),
    "negative bit": lambda: F.softmax((X + 1j * X).conj().imag, 1),
    "nothing": lambda: F.cross_entropy(),
}


def outcome(call):
    try:
        return call()
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("call", NOT_SERVED.values(), ids=NOT_SERVED)
def test_the_rest_goes_to_the_original(call):
    expected = outcome(call)
    with ft.patch() as patched:
        given = outcome(call)
    assert sum(patched.passed_on.values()) == 1
    assert not patched.served
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(given, expected)
    else:
        assert given == expected


def test_options_reach_the_loss():
    options = {"ignore_index": 4, "reduction": "sum", "label_smoothing": 0.2}
    exact = F.cross_entropy(X, Y, torch.arange(5.0), **options)
    with ft.patch() as patched:
        given = F.cross_entropy(X, Y, torch.arange(5.0), **options)
        module = torch.nn.CrossEntropyLoss(torch.arange(5.0), **options)(X, Y)
    assert patched.served["cross_entropy"] == 2
    torch.testing.assert_close(given, exact)
    torch.testing.assert_close(module, exact)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_while_patched():
    with ft.patch():
        compiled = torch.compile(lambda x, y: F.cross_entropy(x, y), fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(X, Y), ft.cross_entropy(X, Y))


# Hugging Face


TOKENS = torch.tensor([[1, 2, 3, 0], [4, 4, -100, -100]])
LOGITS = torch.linspace(-2, 2, 40).sin().reshape(2, 4, 5)


@pytest.mark.parametrize("count", [None, 7, torch.tensor(7)], ids=str)
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_causal_lm_loss_is_that_of_transformers(dtype, shifted, count):
    utils = need("transformers.loss.loss_utils")
    logits = LOGITS.to(dtype).requires_grad_()
    labels = {"labels": None, "shift_labels": TOKENS} if shifted else {"labels": TOKENS}
    losses = [
        function(logits=logits, vocab_size=5, num_items_in_batch=count, **labels)
        for function in (ft.hf.causal_lm_loss, utils.ForCausalLMLoss)
    ]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in losses))


def test_causal_lm_loss_takes_outputs():
    expected = ft.hf.causal_lm_loss(LOGITS, TOKENS)
    assert ft.hf.causal_lm_loss({"logits": LOGITS}, TOKENS, num_items_in_batch=None) == expected
    assert ft.hf.causal_lm_loss((LOGITS,), TOKENS) == expected


@pytest.fixture
def model():
    transformers = need("transformers")
    config = transformers.GPT2Config(vocab_size=64, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    config.bos_token_id = config.eos_token_id = 0
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config).eval()


@pytest.mark.filterwarnings("ignore")
def test_model_and_mapping(model, monkeypatch):
    utils = need("transformers.loss.loss_utils")
    tokens = torch.arange(20).reshape(2, 10)
    expected = model(input_ids=tokens, labels=tokens).loss
    monkeypatch.setitem(utils.LOSS_MAPPING, "ForCausalLM", ft.hf.causal_lm_loss)
    torch.testing.assert_close(model(input_ids=tokens, labels=tokens).loss, expected)
    monkeypatch.undo()
    calls = []
    model.loss_function = lambda *args, **kwargs: calls.append(1) or ft.hf.causal_lm_loss(*args, **kwargs)
    torch.testing.assert_close(model(input_ids=tokens, labels=tokens).loss, expected)
    assert calls


@pytest.mark.filterwarnings("ignore")
def test_trainer(model, tmp_path):
    transformers = need("transformers")
    need("accelerate")
    tokens = torch.arange(160).reshape(16, 10) % 64
    labels = torch.where(torch.arange(10) < 9, tokens, -100)
    rows = [{"input_ids": row, "labels": label} for row, label in zip(tokens, labels, strict=True)]
    start, ends = model.state_dict(), []
    start = {name: value.clone() for name, value in start.items()}
    for loss in (None, ft.hf.causal_lm_loss):
        model.load_state_dict(start)
        arguments = transformers.TrainingArguments(
            tmp_path, max_steps=4, per_device_train_batch_size=2, gradient_accumulation_steps=2, use_cpu=True,
            report_to=[], save_strategy="no", disable_tqdm=True, seed=0, logging_strategy="no",
        )  # fmt: skip
        trainer = transformers.Trainer(model, arguments, train_dataset=rows, compute_loss_func=loss)
        ends.append(trainer.train().training_loss)
    assert ends[0] == pytest.approx(ends[1], rel=1e-5)
