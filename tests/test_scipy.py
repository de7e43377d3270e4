"""SciPy's own tests of logsumexp, softmax and log_softmax, run on ours: the drop-in claim.

pytest collects SciPy's test classes from this module, and a fixture puts our functions in the place of
SciPy's, with SciPy's default of axis=None.
"""

import functools

import pytest
from conftest import need

import fastlogits

theirs = need("scipy.special.tests.test_logsumexp")
np_compat = need("scipy._lib._array_api").np_compat

TestLogSumExp = theirs.TestLogSumExp
TestSoftmax = theirs.TestSoftmax
TestLogSoftmax = theirs.TestLogSoftmax

# We take no complex numbers. test_wrap_radians, a private helper for complex phases, stands outside of the classes.
for name in ("test_logsumexp_complex_sign", "test_gh21610", "test_gh21709_small_imaginary"):
    setattr(TestLogSumExp, name, None)


def is_complex(value):
    return isinstance(value, complex) or str(value).startswith("complex")


def without_complex(mark):
    names, values = mark.args
    several = "," in names
    values = [value for value in values if not any(map(is_complex, value if several else [value]))]
    return pytest.mark.parametrize(names, values, **mark.kwargs).mark


for test in vars(TestLogSumExp).values():
    if hasattr(test, "pytestmark"):
        test.pytestmark = [without_complex(m) if m.name == "parametrize" else m for m in test.pytestmark]


@pytest.fixture(autouse=True)
def ours_in_their_place(monkeypatch, backend):
    for name in ("logsumexp", "softmax", "log_softmax"):
        monkeypatch.setattr(theirs, name, functools.partial(getattr(fastlogits, name), axis=None))


@pytest.fixture
def xp():
    return np_compat


@pytest.fixture
def devices():
    return ["cpu"]
