"""sample: the right probabilities, the same draws however the work is split, and honest log-probabilities."""

import numpy as np
import oracle
import pytest
from operations import LAYOUTS, make_logits
from refusals import refused
from scipy import stats
from tolerance import Exact, Tolerance, assert_close, compute_type

import fastlogits
from fastlogits.backends.numpy import _filters

F32 = np.dtype(np.float32)
INF = np.inf
FILTERS = {
    "none": {},
    "temperature": {"temperature": 1.7},
    "top_k": {"top_k": 9},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.05},
    "typical_p": {"typical_p": 0.6},
    "epsilon": {"epsilon_cutoff": 0.02},
    "eta": {"eta_cutoff": 0.1},
    "several": {"temperature": 0.8, "top_k": 30, "top_p": 0.95, "min_p": 0.01, "min_keep": 3},
}
every_filter = pytest.mark.parametrize("parameters", FILTERS.values(), ids=FILTERS)


def philox(counter, key):
    """Philox4x32-10 as its paper has it; the four words."""
    c, k = [(counter >> 32 * i) & 0xFFFFFFFF for i in range(4)], list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b & 0xFFFFFFFF, a >> 32 ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def uniform(seed, row):
    words = philox(row, np.random.SeedSequence(seed).generate_state(2).tolist())
    return ((words[0] >> 5) * 2**26 + (words[1] >> 6)) / 2**53


def test_the_generator_is_philox():
    """Its known answer (Random123's kat_vectors); and the reference backend's uniforms are made of its words."""
    assert philox(0, (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox(0x0370734413198A2E85A308D3243F6A88, (0xA4093822, 0x299F31D0)) == [
        0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1,
    ]  # fmt: skip
    key, rows = (0xA4093822, 0x299F31D0), np.array([0, 1, 2**32 - 1, 2**32, 2**63 - 1])
    for row, value in zip(rows.tolist(), _filters.uniform(*key, rows), strict=True):
        words = philox(row, key)
        assert value == ((words[0] >> 5) * 2**26 + (words[1] >> 6)) / 2**53


def test_draws_are_the_inverse_of_the_sums(fl):
    """Of two classes the likelier is drawn below its probability, so that each draw bounds its uniform number."""
    rows = np.array([0, 1, 5, 2**32 - 1, 2**32, 2**63 - 1])
    expected = np.array([uniform(11, int(row)) for row in rows])
    for offset in (-1e-12, 1e-12):
        p = np.where(expected + offset > 0.5, expected + offset, 1 - (expected + offset))
        x = np.stack([np.log(p), np.log1p(-p)], axis=1)
        ids = fl.sample(x, seed=11, rows=rows).ids
        np.testing.assert_array_equal(ids, expected >= p)


@every_filter
def test_chi_square(fl, backend, parameters):
    """The draws fit the exact probabilities, of few classes and of enough for several blocks."""
    for classes, rows in ((50, 20_000), (5000, 4000)):
        if backend == "numpy":
            rows //= 4
        rng = np.random.default_rng(classes)
        x = (2 * rng.standard_normal(classes)).astype(F32)
        drawn = fl.sample(np.broadcast_to(x, (rows, classes)), seed=classes, **parameters)
        p = oracle.softmax(fl.filter_logits(x, **parameters)).value
        assert (p[drawn.ids] > 0).all()
        # Bins of neighbouring classes, with 20 draws expected in each.
        bins = np.minimum(np.cumsum(p) * rows / 20, rows / 20 - 1).astype(int)
        counts, expected = np.bincount(bins[drawn.ids], minlength=bins.max() + 1), np.bincount(bins, p)
        used = expected > 0
        assert stats.chisquare(counts[used], expected[used] * rows).pvalue > 1e-4


@pytest.mark.parametrize("classes", [1, 2, 7, 40, 1000, 4099])
@every_filter
def test_log_probabilities(fl, parameters, classes, dtype):
    x = make_logits(21, classes, dtype)
    drawn = fl.sample(x, seed=3, **parameters)
    assert drawn.ids.dtype == np.intp
    assert drawn.log_probs.dtype == compute_type(dtype)
    z = fl.filter_logits(x.astype(compute_type(dtype)), **parameters)
    assert (np.take_along_axis(z, drawn.ids[:, None], 1) > -INF).all()
    value, error = oracle.log_softmax(z)
    exact = (np.take_along_axis(part, drawn.ids[:, None], 1)[:, 0] for part in (value, error))
    assert_close(drawn.log_probs, Exact(*exact))


def test_a_dominated_row_keeps_its_digits(fl):
    for parameters in ({}, {"min_p": 1e-30}):
        drawn = fl.sample([[0, 40, 0, 0]], seed=0, **parameters)
        assert drawn.ids == 1
        np.testing.assert_allclose(drawn.log_probs, -3 * np.exp(-40.0), Tolerance(np.float64).eps.astype(float) * 48)


@every_filter
def test_draws_do_not_depend_on_how_the_work_is_split(fl, parameters):
    for shape in ((203, 301), (50, 4099), (1, 100_003)):
        x = make_logits(*shape, F32)
        whole = fl.sample(x, seed=5, **parameters)
        for threads in (1, 3):
            with fastlogits.settings(num_threads=threads):
                again = fl.sample(x, seed=5, **parameters)
            assert again.ids.tobytes() == whole.ids.tobytes()
            assert again.log_probs.tobytes() == whole.log_probs.tobytes()
        for start in range(0, len(x), 20):
            part = fl.sample(x[start : start + 20], seed=5, rows=start, **parameters)
            np.testing.assert_array_equal(part.ids, whole.ids[start : start + 20])
        order = np.random.default_rng(0).permutation(len(x))
        shuffled = fl.sample(x[order], seed=5, rows=order, **parameters)
        np.testing.assert_array_equal(shuffled.ids, whole.ids[order])
        np.testing.assert_array_equal(shuffled.log_probs, whole.log_probs[order])


@every_filter
def test_every_backend_draws_the_same(fl, parameters, dtype):
    x = make_logits(150, 700, dtype)
    with fastlogits.settings(backend="numpy"):
        expected = fastlogits.sample(x, seed=9, **parameters)
    drawn = fl.sample(x, seed=9, **parameters)
    np.testing.assert_array_equal(drawn.ids, expected.ids)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(fl, layout, dtype):
    view, axis = LAYOUTS[layout](np.random.default_rng(6).standard_normal((6, 11)).astype(dtype))
    plain = np.moveaxis(view, axis, -1).astype(dtype).copy()
    expected = fastlogits.sample(plain, seed=1, top_p=0.9)
    result = fl.sample(view, seed=1, top_p=0.9, axis=axis)
    np.testing.assert_array_equal(result.ids, expected.ids)
    np.testing.assert_array_equal(result.log_probs, expected.log_probs)


def test_rows_count_through_the_batch(fl, rng):
    x = rng.standard_normal((3, 4, 9))
    whole = fl.sample(x, seed=2)
    assert whole.ids.shape == (3, 4)
    np.testing.assert_array_equal(fl.sample(x.reshape(12, 9), seed=2).ids, whole.ids.ravel())
    np.testing.assert_array_equal(fl.sample(x[1], seed=2, rows=4).ids, whole.ids[1])
    numbers = np.arange(12).reshape(3, 4).T.astype(np.uint16)
    np.testing.assert_array_equal(fl.sample(x.swapaxes(0, 1), seed=2, rows=numbers).ids, whole.ids.T)
    one = fl.sample(x[2, 1], seed=2, rows=9)
    assert one.ids == whole.ids[2, 1]
    assert one.ids.shape == one.log_probs.shape == ()


def test_seeds(fl):
    x = np.zeros((500, 1000), F32)
    first = fl.sample(x, seed=1).ids
    np.testing.assert_array_equal(fl.sample(x, seed=np.int64(1)).ids, first)
    for other in (0, 2, 2**40, 2**200, None):
        assert np.count_nonzero(fl.sample(x, seed=other).ids == first) < 10
    assert not np.array_equal(fl.sample(x).ids, fl.sample(x).ids)
    generators = [np.random.default_rng(4) for _ in range(2)]
    draws = [[fl.sample(x, seed=generator).ids for _ in range(2)] for generator in generators]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(*draws[0])


def test_neighbouring_rows_and_seeds_are_independent(fl):
    rows, classes = 40_000, 16
    ids = np.stack([fl.sample(np.zeros((rows, classes), F32), seed=seed).ids for seed in range(2)])
    for pair in (ids[:, 1:], ids[0, :-1] * classes + ids[0, 1:], (ids[0] * classes + ids[1])):
        counts = np.bincount(np.ravel(pair))
        assert stats.chisquare(counts).pvalue > 1e-4


def test_temperature_0_takes_the_largest(fl, dtype):
    x = make_logits(21, 300, dtype)
    x[3, [5, 200]] = 60
    best = np.argmax(x.astype(float), axis=1)
    for parameters in ({}, {"typical_p": 0.2, "top_k": 3}):
        drawn = fl.sample(x, temperature=0, **parameters)
        np.testing.assert_array_equal(drawn.ids, best)
        assert not drawn.log_probs.any()
    per_row = np.where(np.arange(21) % 2, 0.0, 1.0)
    mixed, warm = fl.sample(x, seed=1, temperature=per_row), fl.sample(x, seed=1)
    np.testing.assert_array_equal(mixed.ids, np.where(per_row == 0, best, warm.ids))


def test_parameters_per_row(fl, rng):
    x = rng.standard_normal((3, 40))
    result = fl.sample(x, seed=1, top_k=[1, 40, 3], top_p=[0.5, 1.0, 0.9])
    for row, (k, p) in enumerate([(1, 0.5), (40, 1.0), (3, 0.9)]):
        own = fl.sample(x[row], seed=1, rows=row, top_k=k, top_p=p)
        assert (own.ids, own.log_probs) == (result.ids[row], result.log_probs[row])


@every_filter
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_rows_that_cannot_be_sampled(fl, parameters, temperature, dtype):
    parameters = parameters | {"temperature": temperature}
    for value, words in ((np.nan, r"NaN or \+inf"), (INF, r"NaN or \+inf"), (None, "nothing but -inf")):
        x = make_logits(12, 500, dtype).reshape(3, 4, 500)
        x[1, 2] = -INF if value is None else x[1, 2]
        x[1, 2, 400] = -INF if value is None else value
        with refused(ValueError, "logits", r"row \(1, 2\)", words):
            fl.sample(x, seed=0, **parameters)


def test_nothing(fl):
    drawn = fl.sample(np.ones((0, 3), F32), seed=0, top_p=0.5)
    assert drawn.ids.shape == drawn.log_probs.shape == (0,)
    for shape in ((2, 0), (0, 0)):
        with refused(ValueError, "at least one class"):
            fl.sample(np.ones(shape), seed=0)


BAD = [
    ("seed", -1, ValueError, ["at least 0", "-1"]),
    ("seed", 1.5, TypeError, ["integer", "Generator", "1.5"]),
    ("seed", "x", TypeError, ["'x'"]),
    ("rows", -1, ValueError, ["from 0", "-1"]),
    ("rows", [0, -2], ValueError, ["from 0", "-2"]),
    ("rows", 2**63 - 1, ValueError, ["from 0"]),
    ("rows", 2.0, TypeError, ["integers", "float64"]),
    ("rows", [0, 1, 2], ValueError, [r"\(2,\)", r"\(3,\)"]),
    ("temperature", -1.0, ValueError, ["above 0", "-1.0"]),
    ("temperature", [1.0, -0.5], ValueError, ["-0.5"]),
    ("top_p", 0.0, ValueError, ["above 0 and at most 1"]),
    ("top_k", -2, ValueError, ["at least 1", "None"]),
]


@pytest.mark.parametrize(("name", "value", "error", "tokens"), BAD)
def test_bad_input(fl, name, value, error, tokens):
    with refused(error, name, *tokens):
        fl.sample(np.ones((2, 3), F32), **{name: value})
