"""How far results are from exact ones: the largest error of each operation, beside the formula and SciPy.

    python benchmarks/errors.py [--json FILE]

An error is a share of what the design allows, by the oracle and the tolerances of the tests: 1 is the bound. Rows are
of every kind, see `make_logits` there. Each instruction set has a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import measure
from operations import OPERATIONS, call, case
from tolerance import DTYPES, shares

import fastlogits

HERE = Path(__file__).parent
ISAS = ("v4", "v3", "v2")
SIZES = ((49, 10), (14, 1000), (7, 32003))
NAMES = tuple(name for name in OPERATIONS if name != "argmax")
SCIPYS = ("softmax", "log_softmax", "logsumexp")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", default=HERE / "results" / "errors.json", metavar="FILE", help="where they go")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps({dtype: {name: of_backend(name, "cython", dtype) for name in NAMES} for dtype in DTYPES}))
        return
    by_isa = {isa: of_instruction_set(isa) for isa in ISAS}
    errors = {dtype: {name: {} for name in NAMES} for dtype in DTYPES}
    for dtype, table in errors.items():
        for name, found in table.items():
            print(f"{name} {dtype}", flush=True)
            found |= {f"cython, {isa}": measured[dtype][name] for isa, measured in by_isa.items() if measured}
            found |= {backend: of_backend(name, backend, dtype) for backend in ("numba", "numpy")}
            found |= {"formula in NumPy": largest(name, OPERATIONS[name].plain, dtype), "SciPy": of_scipy(name, dtype)}
    result = {"machine": measure.machine(), "errors": errors}
    Path(args.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def largest(name, function, dtype):
    """Of all rows of all sizes; "infinite" where `function` has none of the finite numbers it should have."""
    found = 0.0
    for rows, classes in SIZES:
        arguments, exact = case(name, rows, classes, DTYPES[dtype])
        found = max(found, float(shares(function(*arguments), exact).max()))
    return round(found, 3) if np.isfinite(found) else "infinite"


def of_backend(name, backend, dtype):
    with fastlogits.settings(backend=backend):
        return largest(name, lambda *arguments: call(fastlogits, name, *arguments), dtype)


def of_scipy(name, dtype):
    import scipy.special

    if name not in SCIPYS or dtype == "bfloat16":
        return None
    function = getattr(scipy.special, name)
    return largest(name, lambda x: function(x, axis=-1), dtype)


def of_instruction_set(isa):
    """Errors by dtype and operation; None where the machine has no such instructions."""
    environment = os.environ | {"FASTLOGITS_ISA": isa, "FASTLOGITS_BACKEND": "cython"}
    command = [sys.executable, __file__, "--worker"]
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


if __name__ == "__main__":
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        main()
