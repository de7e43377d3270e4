"""A kernel for each operation of the machine, written in the dialect of the text: the interpreter, Numba and the C
compiler run the same, so that their results can be held side by side.

The operations are read from machine.pxd. One that takes vectors or doubles needs no line here.
"""

import re
from pathlib import Path

import fastlogits

DECLARED = (Path(fastlogits.__file__).parent / "kernels" / "machine.pxd").read_text(encoding="utf-8")
CONSTANTS = re.findall(r"^    const \w+ (\w+)", DECLARED, re.M)
OPERATIONS = {
    name: (result, [argument.split()[0] for argument in arguments.split(",") if argument.strip()])
    for result, name, arguments in re.findall(
        r'^    (lanes\*?|double\*?|real\*?|void|bint|Py_ssize_t) (\w+)(?: "\w+")?\(([^)]*)\)', DECLARED, re.M
    )
}

# What is done for item i of an operation that takes or leaves memory: `a` is a vector, `d` a double, {x} and {y} are
# arrays or scratch memory that is read and written, {ends} where {x} ends.
MEMORY = {
    "add_eight": "f = machine.load(task.weight, i * w + 1); "
    "machine.add_eight(a, b, c, e, f, a * b, b, a, task.losses, 8 * i + 1)",
    "add_to": "machine.add_to(task.losses, i * w + 1, a)",
    "add_exactly_to": "machine.add_exactly_to(task.losses, task.sums, i * w + 1, a)",
    "digit": "for place in range(machine.DIGITS):\n"
    "            task.indices[machine.DIGITS * i + place] = machine.digit(d, place)",
    "load": "machine.save(task.kept, i * w, machine.load(task.{x}, i * w + i % 3))",
    "load_tail": "n = i % w; "
    "machine.save(task.kept, i * w, machine.load_tail(task.{x}, task.{ends} - n - i // w % 9, n, d))",
    "keep_first": "machine.save(task.kept, i * w, machine.keep_first(a, i % (w + 1)))",
    "save": "machine.save(task.{y}, i * (w + 3) + 1, a)",
    "save_tail": "machine.save_tail(task.{y}, i * (w + 1) + 1, i % w, a)",
    "save_past": "machine.save_past(task.{y}, i * w, a); machine.end_streams()",
    "end_streams": "machine.end_streams()",
    "prefetch": "machine.prefetch(task.{x}, i << 20)",
    "prefetch_four": "machine.prefetch_four(task.{x}, i << 20)",
    "until_line": "task.indices[i] = machine.until_line(task.{x}, i)",
    "number": "task.losses[i] = machine.number(task.{x}, i)",
    "put": "machine.put(task.{y}, 2 * i + 1, d)",
    "is_scratch": "task.indices[i] = machine.is_scratch(task.{x})",
    "in_place": "task.losses[i] = machine.in_place(task.{x})[i]",
    "stretch": "task.losses[i] = machine.stretch(task.sample_weight, i)[3]",
    "stretch_real": "task.losses[i] = machine.stretch_real(task.weight, i)[3]",
    "some_lanes": "own[i % 4] = a; own[(i + 3) % 4] = b; machine.save(task.kept, i * w, own[i % 4] + own[(i + 3) % 4])",
    "square_to_lanes": "machine.square_to_lanes(task.{x}, 3 * i + 1, machine.SIDE + i % 3, "
    "task.kept, i * machine.SIDE * (w + 1) + 1, w + i % 2)",
    "square_to_rows": "machine.square_to_rows(task.weight, 3 * i + 1, w + i % 2, "
    "task.{y}, i * w * (machine.SIDE + 2) + 1, machine.SIDE + i % 3)",
}
LEAVES = {
    "lanes": "machine.save(task.kept, i * w, {})",
    "double": "task.losses[i] = {}",
    "real": "task.losses[i] = {}",
    "bint": "task.indices[i] = {}",
    "Py_ssize_t": "task.indices[i] = {}",
}
NAMES = {
    "w": "machine.WIDTH",
    "own": "machine.some_lanes(4)",
}
ARGUMENTS = {
    "a": "machine.load(task.weight, i * w)",
    "b": "machine.load(task.weight, task.x_stride + i * w)",
    "c": "machine.load(task.weight, 2 * task.x_stride + i * w)",
    "e": "machine.load(task.weight, 3 * task.x_stride + i * w)",
    "d": "task.sample_weight[i]",
    "d2": "task.sample_weight[task.y_stride + i]",
    "d3": "task.sample_weight[2 * task.y_stride + i]",
}
SIGNATURE = "cdef void probe_{}(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil\n"


def statements():
    """{probe: what it does for item i}; an operation on both kinds of memory has two, `load` and `load_of_scratch`."""
    found = {}
    for name, (result, kinds) in OPERATIONS.items():
        if name in MEMORY:
            found[name] = MEMORY[name].format(x="x", y="y", ends="classes")
            if found[name] != (of_scratch := MEMORY[name].format(x="weight", y="kept", ends="rows")):
                found[f"{name}_of_scratch"] = of_scratch
        elif result in LEAVES and set(kinds) <= {"lanes", "double"} and kinds == sorted(kinds, reverse=True):
            vectors, doubles = kinds.count("lanes"), kinds.count("double")
            arguments = ["a", "b", "c", "e"][:vectors] + ["d", "d2", "d3"][:doubles]
            found[name] = LEAVES[result].format(f"machine.{name}({', '.join(arguments)})")
    return found


STATEMENTS = statements()


def operation_of(probe):
    return probe.removesuffix("_of_scratch")


def uses(code, name):
    return re.search(rf"\b{name}\b", code)


def lines(probe, start="start", stop="stop"):
    """The body of a kernel."""
    statement = STATEMENTS[probe].replace("; ", "\n        ")
    body = [f"        {name} = {value}" for name, value in ARGUMENTS.items() if uses(statement, name)]
    body.append(f"        {statement}")
    head = [f"    {name} = {value}" for name, value in NAMES.items() if uses("".join(body), name)]
    return "\n".join([*head, f"    for i in range({start}, {stop}):", *body])


def kernel(probe):
    return f"def probe_{probe}(task, work, start, stop):\n{lines(probe)}"


CONSTANT_LINES = "\n".join(f"    task.losses[{at}] = machine.{name}" for at, name in enumerate(CONSTANTS))


def all_in_one():
    """Every probe, each on the task at an address of its own: Numba is quicker with one function than with many."""
    parts = [
        f"    task = task_at(addresses[{at}])\n{lines(probe, '0', f'stops[{at}]')}"
        for at, probe in enumerate(STATEMENTS)
    ]
    return "\n".join(["def all_probes(addresses, stops):", *parts, ""])


def source():
    constants = f"def probe_constants(task, work, start, stop):\n{CONSTANT_LINES}"
    return "\n\n\n".join([*map(kernel, STATEMENTS), constants, ""])


def takes_vectors(probe):
    """Whether item i is a vector and not one number."""
    return bool(uses(kernel(probe), "w"))


def write(folder):
    """The probes as a module of the text: its path without a suffix."""
    (folder / "probes.py").write_text(source(), encoding="utf-8")
    names = [*STATEMENTS, "constants"]
    (folder / "probes.pxd").write_text("".join(map(SIGNATURE.format, names)), encoding="utf-8")
    return folder / "probes"
