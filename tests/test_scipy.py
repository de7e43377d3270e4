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

# pytest wants a list of parameters where SciPy gives an iterator.
infinite_elements = TestLogSumExp.test_gh22601_infinite_elements
infinite_elements.pytestmark = [
    pytest.mark.parametrize(mark.args[0], list(mark.args[1])).mark if mark.name == "parametrize" else mark
    for mark in infinite_elements.pytestmark
]

COMPLEX = "complex input is not supported"
LEFT_OUT = {
    "test_logsumexp_complex_sign": COMPLEX,
    "test_gh21610": COMPLEX,
    "test_gh21709_small_imaginary": COMPLEX,
}
# test_wrap_radians stands outside of the classes: it tests a private helper for complex phases.


def is_complex(parameter):
    return isinstance(parameter, complex) or str(parameter).startswith("complex")


@pytest.fixture(autouse=True)
def ours_in_their_place(request, monkeypatch, backend):
    if (reason := LEFT_OUT.get(request.node.originalname)) is not None:
        pytest.skip(reason)
    if any(map(is_complex, request.node.callspec.params.values())):
        pytest.skip(COMPLEX)
    for name in ("logsumexp", "softmax", "log_softmax"):
        monkeypatch.setattr(theirs, name, functools.partial(getattr(fastlogits, name), axis=None))


@pytest.fixture
def xp():
    return np_compat


@pytest.fixture
def devices():
    return ["cpu"]
