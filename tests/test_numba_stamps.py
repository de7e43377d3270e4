"""What Numba has compiled is kept until something changes that it depends on."""

import types

import pytest
from conftest import need

need("numba")
from fastlogits.backends.numba import compiler  # noqa: E402
from fastlogits.backends.numba.units import unit_of  # noqa: E402

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
    return compiler.stamp(driver)


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
    monkeypatch.setattr(compiler, "machine_stamp", lambda: "edited")
    assert stamp() != before


def test_a_driver_reaches_its_kernel():
    reached, todo = set(), [unit_of("float32").driver("softmax_rows").__wrapped__]
    while todo:
        function = todo.pop()
        function = getattr(function, "py_func", function)
        if isinstance(function, types.FunctionType) and function not in reached:
            reached.add(function)
            todo += compiler.used(function)
    assert {"softmax_rows", "group_exps", "exp_run"} <= {function.__name__ for function in reached}


def test_no_two_drivers_have_the_same_name():
    drivers = [
        unit_of(stored).driver(name) for stored in ("float32", "float64") for name in ("argmax_rows", "count_rows")
    ]
    assert len({driver.__wrapped__.__qualname__ for driver in drivers}) == len(drivers)
