"""What Numba has compiled is kept until something changes that it depends on."""

import types

import pytest
from conftest import need

need("numba")
from fastlogits.backends import _numba_compiler  # noqa: E402

MODULE = """
BLOCK = 1024

def helper(x):
    'Doubled.'
    return 2 * x

def other(x):
    return x
"""
TEXT = """
def kernel(x):
    def inner(y):
        return text.helper(y)
    return inner(x) + text.BLOCK
"""


def stamp(module=MODULE, text=TEXT):
    """Of `kernel`, which names some of the module."""
    library = types.ModuleType("text")
    library.text = library  # modules may name each other
    exec(module, vars(library))
    space = {"text": library}
    exec(text, space)

    def driver(x):
        return kernel(x)

    kernel = space["kernel"]
    return _numba_compiler.stamp(driver)


@pytest.mark.parametrize(
    ("old", "new"), [("2 * x", "3 * x"), ("BLOCK = 1024", "BLOCK = 2048"), ("return 2 * x", "return other(2 * x)")]
)
def test_what_a_kernel_uses_compiles_it_again(old, new):
    assert stamp(MODULE.replace(old, new)) != stamp()


def test_a_kernel_s_own_text_compiles_it_again():
    assert stamp(text=TEXT.replace("+", "-")) != stamp()


@pytest.mark.parametrize(
    ("old", "new"), [("return x\n", "return -x\n"), ("Doubled", "Twice"), ("    return 2", "    # 2\n    return 2")]
)
def test_what_it_does_not_use_does_not(old, new):
    assert old in MODULE
    assert stamp(MODULE.replace(old, new)) == stamp()


def test_the_machine_belongs_to_every_kernel(monkeypatch):
    before = stamp()
    monkeypatch.setattr(_numba_compiler, "machine_stamp", lambda: "edited")
    assert stamp() != before


def test_a_driver_reaches_its_kernel():
    from fastlogits.backends import numba

    reached, todo = set(), [numba.softmax_rows.shared]
    while todo:
        function = getattr(todo.pop(), "py_func", None)
        if function and function not in reached:
            reached.add(function)
            todo += _numba_compiler.used(function)
    assert {"softmax_rows", "row_exps", "exp_loop"} <= {function.__name__ for function in reached}
