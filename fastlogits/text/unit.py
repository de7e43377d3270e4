"""The text as one Cython file: each `def` of a module gets the signature that its .pxd has, constants become C's."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
MODULES = ("sizes", "numbers", "sums", "shared", "softmax", "gradients", "columns", "tiles", "loss", "cross_entropy", "loss_tiles", "sharing")
KERNEL = "(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop)"


def signatures(name):
    """{function: the declaration that the .pxd of a module has}"""
    path = HERE / f"{name}.pxd"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.findall(r"^cdef .*?nogil$", text, re.M | re.S)
    return {re.search(r"(\w+)\(", line)[1]: line for line in found}


def constants(tree):
    """(name, value) of the module's constants."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            value = ast.literal_eval(node.value)
            names = node.targets[0]
            if isinstance(names, ast.Tuple):
                yield from zip((name.id for name in names.elts), value, strict=True)
            else:
                yield names.id, value


def functions(name, tree, lines):
    """The functions of a module, typed."""
    typed = signatures(name)
    written = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    if sorted(typed) != sorted(written):
        raise SystemExit(f"{name}.py and {name}.pxd differ: {sorted(set(typed) ^ set(written))}")
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            body = lines[node.body[0].lineno - 1 : node.end_lineno]
            yield "\n".join([f"{typed[node.name]}:", *body])


def unit():
    """The whole text."""
    integers, reals, bodies, kernels = [], [], [], []
    for name in MODULES:
        source = (HERE / f"{name}.py").read_text(encoding="utf-8")
        tree = ast.parse(source)
        for key, value in constants(tree):
            (integers if isinstance(value, int) else reals).append((key, value))
        bodies += functions(name, tree, source.splitlines())
        kernels += [key for key, line in signatures(name).items() if KERNEL in re.sub(r"\s+", " ", line)]
    records = (HERE / "records.pxd").read_text(encoding="utf-8")
    records = re.sub(r"^from .*\n", "", records, flags=re.M)
    parts = [
        "cimport machine\nfrom machine cimport lanes, other_place, place, real, stored\nfrom libc.stdint cimport int64_t",
        "cdef enum:\n" + "\n".join(f"    {key} = {value}" for key, value in integers),
        'cdef extern from *:\n    """\n'
        + "\n".join(f"    #define TEXT_{key} {value!r}" for key, value in reals)
        + '\n    """\n'
        + "\n".join(f'    const double {key} "TEXT_{key}"' for key, _ in reals),
        records,
        *bodies,
        "KERNELS = {\n" + "\n".join(f'    "{key}": <size_t><void*>{key},' for key in kernels) + "\n}",
        "WORK = sizeof(Work)",
    ]
    return "\n\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(unit())
