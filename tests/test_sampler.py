"""What filters and draws have beyond transformers' first warpers: penalties, masks, other cuts, orders and draws."""

import numpy as np
import pytest
from operations import LAYOUTS, make_logits
from refusals import refused
from scipy import stats

import fastlogits
from fastlogits._edits import unpacked

F32 = np.dtype(np.float32)
INF = np.inf
HISTORY = np.array([[1, 4, 1, -1], [0, 0, 0, 5], [-1, -1, -1, -1]])
RAGGED = [[4, 1, 1], [0, 5, 0, 0], []]


def packed(mask):
    """As xgrammar's allocate_token_bitmask and llguidance have it."""
    words = np.zeros((*mask.shape[:-1], -(-mask.shape[-1] // 32)), np.int32)
    for *row, c in np.argwhere(mask).tolist():
        words[(*row, c // 32)] |= np.array(1 << c % 32, np.uint32).view(np.int32)
    return words


def kept(filtered):
    return [np.flatnonzero(row > -INF).tolist() for row in np.asarray(filtered, float)]


def by_hand(x, history, repetition=1.0, frequency=0.0, presence=0.0):
    x = x.copy()
    for row, ids in zip(x, history, strict=True):
        for i in {i for i in ids if i >= 0}:
            count = list(ids).count(i)
            row[i] = (row[i] * repetition if row[i] < 0 else row[i] / repetition) - frequency * count - presence
    return x


@pytest.mark.parametrize("history", [HISTORY, HISTORY.tolist(), RAGGED, [np.array(ids, np.int32) for ids in RAGGED]])
def test_penalties(fl, history):
    x = make_logits(3, 9, np.float64)
    found = fl.filter_logits(x, history=history, repetition_penalty=1.3, frequency_penalty=0.2, presence_penalty=-0.1)
    np.testing.assert_allclose(found, by_hand(x, HISTORY, 1.3, 0.2, -0.1), rtol=1e-15)
    each = {"repetition_penalty": [1.0, 2.0, 3.0], "presence_penalty": np.array([0, 1, 2])}
    found = fl.filter_logits(x, history=history, **each)
    for row, (repetition, presence) in enumerate(zip(*each.values(), strict=True)):
        expected = by_hand(x[row : row + 1], HISTORY[row : row + 1], repetition, 0, presence)
        np.testing.assert_allclose(found[row : row + 1], expected, rtol=1e-15)


def test_half_types_are_penalised_in_float32(fl):
    for dtype in ("float16", "bfloat16"):
        x = make_logits(3, 70, np.dtype(dtype))
        options = {"history": HISTORY, "repetition_penalty": 1.1, "top_p": 0.8}
        expected = fl.filter_logits(x.astype(F32), **options).astype(dtype)
        np.testing.assert_array_equal(fl.filter_logits(x, **options), expected)


def test_the_penalised_row_may_be_one(fl):
    x = np.array([1.0, -2.0, 3.0])
    np.testing.assert_array_equal(fl.filter_logits(x, history=[2, 1], repetition_penalty=2.0), [1.0, -4.0, 1.5])


def test_logit_bias(fl):
    x = make_logits(2, 40, np.float64)
    for bias in ({3: 1.5, 7: -INF}, [{3: 1.5, 7: -INF}] * 2):
        expected = x.copy()
        expected[:, 3] += 1.5
        expected[:, 7] = -INF
        np.testing.assert_array_equal(fl.filter_logits(x, logit_bias=bias), expected)
    found = fl.filter_logits(x, logit_bias=[{}, {0: 2.0}])
    np.testing.assert_array_equal(found - x, [[0.0] * 40, [found[1, 0] - x[1, 0]] + [0.0] * 39])
    np.testing.assert_array_equal(fl.filter_logits(x, logit_bias=x[0]), x + x[0])
    # Before the penalties, as in transformers and vLLM.
    found = fl.filter_logits(x[:1], logit_bias={4: 50.0}, history=[[4]], repetition_penalty=2.0)
    assert found[0, 4] == (x[0, 4] + 50) / 2


@pytest.mark.parametrize("density", [0, 0.002, 0.05, 0.5, 0.95, 0.998, 1])
@pytest.mark.parametrize("classes", [5, 32, 100, 4099])
def test_allowed(fl, rng, density, classes):
    """Bool or bits; what stands in the place of a forbidden class is not read."""
    x = make_logits(4, classes, F32)
    mask = rng.random((4, classes)) < density
    mask[:, classes // 2] = True
    expected = np.where(mask, x, -INF)
    np.testing.assert_array_equal(unpacked(packed(mask), classes), mask)
    x[~mask] = np.nan
    for allowed in (mask, packed(mask), packed(mask).view(np.uint32)):
        np.testing.assert_array_equal(fl.filter_logits(x, allowed=allowed), expected)
        np.testing.assert_array_equal(
            fl.filter_logits(x, allowed=allowed, top_k=3), fl.filter_logits(expected, top_k=3)
        )
        ids = fl.sample(x, seed=4, allowed=allowed).ids
        np.testing.assert_array_equal(ids, fl.sample(expected, seed=4).ids)
    x[:, classes // 2] = 1
    for allowed in (mask[0], packed(mask[0]), packed(mask[:1])):
        np.testing.assert_array_equal(fl.filter_logits(np.nan_to_num(x), allowed=allowed)[:, ~mask[0]], -INF)


def test_top_n_sigma(fl):
    """Standard deviations of what is finite, with n - 1 as torch has it."""
    x = make_logits(5, 300, np.float64)
    x[1, 7:40] = -INF
    for n in (0.5, 1.0, 2.0):
        expected = []
        for row in x:
            finite = row[row > -INF]
            expected.append(np.flatnonzero(row >= row.max() - n * finite.std(ddof=1)).tolist())
        assert kept(fl.filter_logits(x, top_n_sigma=n)) == expected
        # The temperature changes nothing.
        assert kept(fl.filter_logits(x, top_n_sigma=n, temperature=3.0)) == expected
    assert [len(ids) for ids in kept(fl.filter_logits(x[2:], top_n_sigma=1e-9, min_keep=4))] == [4] * 3
    assert kept(fl.filter_logits([[2.0, -INF]], top_n_sigma=1.0)) == [[0]]
    found = fl.filter_logits([[1.0, np.nan, 0.0], [-INF] * 3, [1.0, 0.0, -9.0]], top_n_sigma=1.0)
    assert np.isnan(found[0]).all()
    assert kept(found[1:]) == [[], [0, 1]]


def test_xtc(fl):
    """All but the least likely of those above the threshold go; with one above it, or none, nothing does."""
    logits = np.log([[0.4, 0.3, 0.2, 0.1], [0.9, 0.06, 0.02, 0.02], [0.25, 0.25, 0.25, 0.25]])
    assert kept(fl.filter_logits(logits, xtc_threshold=0.15)) == [[2, 3], [0, 1, 2, 3], [3]]
    assert kept(fl.filter_logits(logits, xtc_threshold=0.6)) == [[0, 1, 2, 3]] * 3
    assert kept(fl.filter_logits(logits, xtc_threshold=[0.35, 0.05, 0.2])) == [[0, 1, 2, 3], [1, 2, 3], [3]]
    # After the other filters: of 0.57 and 0.43 the larger goes.
    assert kept(fl.filter_logits(logits[:1], top_k=2, xtc_threshold=0.4)) == [[1]]


def test_xtc_by_chance(fl):
    logits = np.broadcast_to(np.log([0.5, 0.3, 0.2]), (4000, 3))
    ids = fl.sample(logits, seed=0, xtc_threshold=0.25, xtc_probability=0.5).ids
    counts = np.bincount(ids, minlength=3)
    # Half of the rows draw from all three, the others from the last two.
    expected = 0.5 * np.array([0.5, 0.3, 0.2]) + 0.5 * np.array([0, 0.6, 0.4])
    assert stats.chisquare(counts, 4000 * expected).pvalue > 1e-3
    same = fl.sample(logits, seed=0, xtc_threshold=0.25, xtc_probability=[0.5] * 4000).ids
    np.testing.assert_array_equal(same, ids)
    for probability, equivalent in ((0, {}), (1, {"xtc_threshold": 0.25})):
        found = fl.sample(logits, seed=3, xtc_threshold=0.25, xtc_probability=probability)
        np.testing.assert_array_equal(found.ids, fl.sample(logits, seed=3, **equivalent).ids)


def test_order(fl):
    """Last: the filters see probabilities of temperature 1, and what they keep is divided."""
    x = make_logits(6, 80, F32)
    cuts = {"top_p": 0.7, "min_p": 0.01, "typical_p": 0.9}
    plain = fl.filter_logits(x, **cuts)
    found = fl.filter_logits(x, **cuts, temperature=2.0, order="temperature_last")
    np.testing.assert_array_equal(found, plain / F32.type(2))
    assert kept(found) != kept(fl.filter_logits(x, **cuts, temperature=2.0))
    drawn = fl.sample(x, seed=9, **cuts, temperature=2.0, order="temperature_last")
    np.testing.assert_array_equal(drawn.ids, fl.sample(plain, seed=9, temperature=2.0).ids)
    cold = fl.sample(x, **cuts, temperature=0, order="temperature_last")
    np.testing.assert_array_equal(cold.ids, x.argmax(axis=1))
    assert (cold.log_probs == 0).all()


@pytest.mark.parametrize("off", [0, -1, None])
def test_top_k_off(fl, off):
    x = make_logits(3, 40, F32)
    np.testing.assert_array_equal(fl.filter_logits(x, top_k=off), x)
    if off is not None:
        own = fl.filter_logits(x, top_k=[off, 3, off])
        np.testing.assert_array_equal(own, np.stack([x[0], fl.filter_logits(x[1], top_k=3), x[2]]))


EVERYTHING = {
    "temperature": 1.5, "top_k": 30, "top_p": 0.97, "top_n_sigma": 2.5, "top_h": 0.95, "xtc_threshold": 0.2,
    "repetition_penalty": 1.2, "presence_penalty": 0.3, "logit_bias": {2: 1.0},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(fl, layout):
    """The class axis anywhere, in any memory, with history, masks and biases for each row."""
    view, axis = LAYOUTS[layout](make_logits(6, 11, F32))
    plain = np.moveaxis(view, axis, -1)
    rng = np.random.default_rng(1)
    history = rng.integers(-1, plain.shape[-1], (*plain.shape[:-1], 4))
    mask = rng.random(plain.shape) < 0.7
    mask[..., 0] = True
    seeds = rng.integers(0, 2**62, plain.shape[:-1])
    expected = fastlogits.filter_logits(plain.copy(), **EVERYTHING, history=history, allowed=mask)
    some = (plain > -INF).any(axis=-1).all()
    drawn = some and fastlogits.sample(plain.copy(), **EVERYTHING, history=history, allowed=mask, seed=seeds, draws=2)
    for allowed in (mask, packed(mask)):
        options = EVERYTHING | {"history": history, "allowed": np.moveaxis(allowed, -1, axis), "axis": axis}
        found = fl.filter_logits(view, **options)
        np.testing.assert_array_equal(np.moveaxis(found, axis, -1), expected)
        if some:
            own = fl.sample(view, **options, seed=seeds, draws=2)
            np.testing.assert_array_equal(np.moveaxis(own.ids, axis, -1), drawn.ids)


def test_in_place_and_out(fl):
    x = make_logits(5, 60, np.dtype(np.float16))
    expected = fl.filter_logits(x, **EVERYTHING, history=np.arange(10).reshape(5, 2))
    assert fl.filter_logits(x, **EVERYTHING, history=np.arange(10).reshape(5, 2), out=x) is x
    assert x.tobytes() == expected.tobytes()


def test_a_seed_for_each_row(fl):
    """A row draws the same wherever it stands and whatever the others are; the numbers tell steps apart."""
    x = make_logits(50, 20, F32)
    seeds = np.random.default_rng(0).integers(0, 2**63, 50)
    ids = fl.sample(x, seed=seeds).ids
    order = np.random.default_rng(1).permutation(50)
    np.testing.assert_array_equal(fl.sample(x[order], seed=seeds[order]).ids, ids[order])
    for row in (0, 17):
        assert fl.sample(x[row : row + 1], seed=seeds[row : row + 1]).ids == ids[row]
    flat = np.zeros((4000, 8))
    steps = fl.sample(flat, seed=np.full(4000, 7), rows=np.arange(4000)).ids
    assert stats.chisquare(np.bincount(steps, minlength=8)).pvalue > 1e-3
    others = fl.sample(flat, seed=np.arange(4000)).ids
    assert stats.chisquare(np.bincount(others, minlength=8)).pvalue > 1e-3
    assert len(set(fl.sample(flat[:50], seed=np.full(50, 7)).ids)) == 1


@pytest.mark.parametrize("parameters", [{}, {"top_k": 6}, {"top_p": 0.9, "xtc_threshold": 0.3}], ids=str)
def test_draws(fl, parameters):
    """The first is the one that is drawn by default; all have the right probabilities and are independent."""
    x = np.broadcast_to(np.random.default_rng(3).normal(size=30), (500, 30))
    several = fl.sample(x, seed=5, draws=8, **parameters)
    assert several.ids.shape == several.log_probs.shape == (500, 8)
    one = fl.sample(x, seed=5, **parameters)
    np.testing.assert_array_equal(several.ids[:, 0], one.ids)
    p = fl.softmax(fl.filter_logits(x[0], **parameters))
    np.testing.assert_allclose(np.exp(several.log_probs), p[several.ids], rtol=1e-12)
    for draws in (several.ids.ravel(), several.ids[:, 7]):
        counts, expected = np.bincount(draws, minlength=30), len(draws) * p
        often = expected > 5
        rest = expected[~often].sum()
        counts, expected = np.append(counts[often], counts[~often].sum()), np.append(expected[often], rest)
        fine = expected > 0
        assert stats.chisquare(counts[fine], expected[fine]).pvalue > 1e-3
    pairs = np.corrcoef(several.ids[:, 0], several.ids[:, 1])[0, 1]
    assert np.isnan(pairs) or abs(pairs) < 0.2


def test_draws_without_replacement(fl):
    """The distribution of Gumbel top-k: of ordered pairs i, j it is p_i p_j / (1 - p_i)."""
    p = np.array([0.5, 0.25, 0.15, 0.1])
    x = np.broadcast_to(np.log(p), (6000, 4))
    found = fl.sample(x, seed=2, draws=2, replacement=False)
    i, j = found.ids.T
    assert (i != j).all()
    np.testing.assert_allclose(np.exp(found.log_probs), p[found.ids], rtol=1e-12)
    expected = p[:, None] * p / (1 - p[:, None])
    np.fill_diagonal(expected, 0)
    counts = np.bincount(i * 4 + j, minlength=16)
    gumbel = np.argsort(-(x + np.random.default_rng(0).gumbel(size=x.shape)), axis=1)[:, :2]
    theirs = np.bincount(gumbel[:, 0] * 4 + gumbel[:, 1], minlength=16)
    there = expected.ravel() > 0
    assert stats.chisquare(counts[there], 6000 * expected.ravel()[there]).pvalue > 1e-3
    assert stats.chi2_contingency([counts[there], theirs[there]]).pvalue > 1e-3
    everything = fl.sample(x[:3], draws=4, replacement=False, temperature=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(np.sort(everything.ids, axis=1), [[0, 1, 2, 3]] * 3)


def test_greedy_draws(fl):
    x = make_logits(4, 30, F32)
    found = fl.sample(x, draws=3, temperature=[0, 1, 0, 0], top_k=4)
    np.testing.assert_array_equal(found.ids[[0, 2, 3]], np.repeat(x[[0, 2, 3]].argmax(axis=1)[:, None], 3, axis=1))


def test_same_draws_whatever_the_blocks(fl):
    """More rows than are taken at a time, of every option."""
    x = make_logits(9, 60_000, F32)
    history = np.random.default_rng(0).integers(0, 60_000, (9, 300))
    options = EVERYTHING | {"top_k": 300}
    whole = fl.sample(x, seed=1, history=history, draws=2, **options)
    for row in (0, 4, 8):
        own = fl.sample(x[row : row + 1], seed=1, rows=row, history=history[row : row + 1], draws=2, **options)
        np.testing.assert_array_equal(own.ids[0], whole.ids[row])


def test_no_rows(fl):
    assert fl.filter_logits(np.ones((0, 3)), history=np.ones((0, 2), int), repetition_penalty=2.0).shape == (0, 3)
    found = fl.sample(np.ones((0, 3)), seed=np.ones(0, int), draws=2, xtc_threshold=0.1)
    assert found.ids.shape == found.log_probs.shape == (0, 2)


X = np.ones((2, 3))
IDS = [[0], [1]]
BAD = {
    "history alone": ({"history": IDS}, ValueError, ["history", "repetition_penalty"]),
    "no history": ({"presence_penalty": 1.0}, ValueError, ["history", "presence_penalty"]),
    "rows of the history": ({"history": [[0]], "presence_penalty": 1.0}, ValueError, ["history", "2 rows", "got 1"]),
    "shape": ({"history": np.ones((3, 1), int), "presence_penalty": 1}, ValueError, [r"\(2, \.\.\.\)", r"\(3, 1\)"]),
    "id": ({"history": [[0], [1, 3]], "presence_penalty": 1}, IndexError, ["history", r"\[0, 3\)", "3 of row 1"]),
    "ids": ({"history": [[0.5], [1]], "presence_penalty": 1}, TypeError, ["history", "float64"]),
    "repetition": ({"history": IDS, "repetition_penalty": 0}, ValueError, ["repetition_penalty", "above 0"]),
    "frequency": ({"history": IDS, "frequency_penalty": INF}, ValueError, ["frequency_penalty", "finite"]),
    "bias": ({"logit_bias": {0: np.nan}}, ValueError, ["logit_bias", "nan"]),
    "bias of an id": ({"logit_bias": {3: 1.0}}, IndexError, ["logit_bias", r"\[0, 3\)", "3"]),
    "bias of a name": ({"logit_bias": {"a": 1.0}}, TypeError, ["logit_bias", "'a'"]),
    "biases": ({"logit_bias": [{0: 1.0}]}, ValueError, ["logit_bias", r"\(2,\)", "1"]),
    "bias's shape": ({"logit_bias": [1.0, 2.0]}, ValueError, ["logit_bias", r"\(2, 3\)", r"\(2,\)"]),
    "allowed": ({"allowed": [1.0, 1.0, 0.0]}, TypeError, ["allowed", "bool", "int32", "float64"]),
    "allowed's shape": ({"allowed": [True] * 4}, ValueError, ["allowed", r"\(2, 3\)", r"\(4,\)"]),
    "words": ({"allowed": np.ones((2, 2), np.int32)}, ValueError, ["allowed", "1 words", r"\(2, 2\)"]),
    "order": ({"order": "last"}, ValueError, ["order", "temperature_last", "last"]),
    "sigma": ({"top_n_sigma": 0}, ValueError, ["top_n_sigma", "above 0"]),
    "top_h": ({"top_h": 1.5}, ValueError, ["top_h", "at most 1"]),
    "xtc": ({"xtc_threshold": 0}, ValueError, ["xtc_threshold", "above 0"]),
}
BAD_DRAWS = {
    "draws": ({"draws": 0}, ValueError, ["draws", "at least 1"]),
    "replacement": ({"replacement": False}, ValueError, ["replacement", "draws"]),
    "too many": ({"draws": 4, "replacement": False}, ValueError, ["4 classes", r"row \(0,\)"]),
    "chance": ({"xtc_probability": 0.5}, ValueError, ["xtc_probability", "xtc_threshold"]),
    "seeds": ({"seed": [1, 2, 3]}, ValueError, ["seed", r"\(2,\)", r"\(3,\)"]),
    "a seed": ({"seed": [1, -2]}, ValueError, ["seed", "at least 0", "-2"]),
    "seeds' dtype": ({"seed": [1.0, 2.0]}, TypeError, ["seed", "float64"]),
    "nothing allowed": ({"allowed": [False] * 3}, ValueError, [r"row \(0,\)", "-inf"]),
}


@pytest.mark.parametrize(("options", "error", "tokens"), BAD.values(), ids=BAD)
def test_bad_input(options, error, tokens):
    for function in (fastlogits.filter_logits, fastlogits.sample):
        with refused(error, *tokens):
            function(X, **options)


@pytest.mark.parametrize(("options", "error", "tokens"), BAD_DRAWS.values(), ids=BAD_DRAWS)
def test_bad_draws(options, error, tokens):
    with refused(error, *tokens):
        fastlogits.sample(X, **options)
