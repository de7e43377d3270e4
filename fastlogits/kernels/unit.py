"""The text as Cython compiles it: each `def` gets the signature that its .pxd has, constants become C's.

`unit` is all of it, for one type of array; `task` and `plan` are what the callers of the kernels share with them.
"""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PLAN = ("sizes", "plan")
MODULES = (
    *PLAN, "numbers", "sums", "shared", "softmax", "gradients", "columns", "tiles", "gradient_tiles", "loss",
    "cross_entropy", "loss_tiles", "sharing", "pieces", "moments", "order", "lane_order", "radix", "topk", "stats",
    "stats_tiles",
    "doubles", "selection", "filters", "philox", "sampling", "filter_ranks", "filter_tiles", "sampling_tiles",
)  # fmt: skip
KERNEL = "(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop)"


def read(name):
    path = HERE / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def signatures(name):
    """{function: the declaration that the .pxd of a module has}"""
    found = re.findall(r"^cdef .*?nogil$", read(f"{name}.pxd"), re.M | re.S)
    return {re.search(r"(\w+)\(", line)[1]: line for line in found}


def is_kernel(line):
    """Whether a declaration is that of a kernel, which callers reach."""
    return KERNEL in re.sub(r"\s+", " ", line)


def constants(tree):
    """(name, value) of the module's constants."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            value = eval(compile(ast.Expression(node.value), "<constant>", "eval"), {})
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


def typed(modules):
    """(constants, functions) of modules, as Cython has them."""
    integers, reals, bodies = [], [], []
    for name in modules:
        source = read(f"{name}.py")
        tree = ast.parse(source)
        for key, value in constants(tree):
            (integers if isinstance(value, int) else reals).append((key, value))
        bodies += functions(name, tree, source.splitlines())
    parts = ["cdef enum:\n" + "\n".join(f"    {key} = {value}" for key, value in integers)]
    if reals:
        defines = "\n".join(f"    #define TEXT_{key} {value!r}" for key, value in reals)
        names = "\n".join(f'    const double {key} "TEXT_{key}"' for key, _ in reals)
        parts.append(f'cdef extern from *:\n    """\n{defines}\n    """\n{names}')
    return parts, bodies


def records(*names):
    return re.sub(r"^from .*\n", "", "".join(read(f"{name}.pxd") for name in names), flags=re.M)


def unit(modules=MODULES):
    """All of the text, or of other modules of its kind: names here, or paths without a suffix."""
    constants, bodies = typed(modules)
    names = [key for name in modules for key in signatures(name)]
    if twice := sorted({key for key in names if names.count(key) > 1}):
        raise SystemExit(f"functions of the text have names of their own; there are two of {twice}")
    kernels = [key for name in modules for key, line in signatures(name).items() if is_kernel(line)]
    parts = [
        "cimport machine\nfrom machine cimport lanes, other_place, place, real, stored\n"
        "from libc cimport math\nfrom libc.stdint cimport int64_t",
        *constants,
        records("task", "records"),
        *bodies,
        "KERNELS = {\n" + "\n".join(f'    "{key}": <size_t><void*>{key},' for key in kernels) + "\n}",
        "WORK = sizeof(Work)",
    ]
    return "\n\n\n".join(parts) + "\n"


def task():
    """What the callers' .pxd has."""
    constants, _ = typed(PLAN)
    head = "from machine cimport real, stored\nfrom libc.stdint cimport int64_t"
    return "\n\n\n".join([head, *constants, records("task")]) + "\n"


def plan():
    _, bodies = typed(PLAN)
    return "\n\n\n".join(bodies) + "\n"


def write(folder):
    """unit.pyx, task.pxi and plan.pxi in a folder, left alone where they are the same."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("unit.pyx", unit()), ("task.pxi", task()), ("plan.pxi", plan())):
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
