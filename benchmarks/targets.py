"""What the project has promised itself about speed, each target met or missed by the rows at hand."""

import fnmatch
from collections.abc import Callable
from typing import NamedTuple

from report import TINY, geometric_mean, rows_of_all


class Target(NamedTuple):
    """`value(rows)` must be at least `bound` (at most, with `below`); None where nothing was measured."""

    text: str
    bound: float
    value: Callable
    below: bool = False


def pick(rows, ops="*", sizes="*", dtype="float32", who="cython", threads=2, isa="auto"):
    """Rows whose operation and size fit one of the patterns."""

    def fits(name, patterns):
        return any(fnmatch.fnmatch(name, pattern) for pattern in patterns.split())

    return [
        row
        for row in rows
        if fits(row.op, ops)
        and fits(row.size, sizes)
        and (row.dtype, row.who, row.threads, row.isa) == (dtype, who, threads, isa)
        and (row.size != TINY or sizes == TINY)
    ]


def lowest(field="ratio", **which):
    def value(rows):
        return min((getattr(row, field) for row in pick(rows, **which) if getattr(row, field)), default=None)

    return value


def mean_ratio(**which):
    return lambda rows: geometric_mean([row.ratio for row in pick(rows, **which) if row.peer])


def lowest_against(peer, **which):
    def value(rows):
        times = [(row.cell["times"].get(peer), row) for row in pick(rows, **which)]
        return min((time["seconds"] / row.seconds for time, row in times if time), default=None)

    return value


def share_of(limit, **which):
    """Lowest share of one limit, whichever binds."""

    def value(rows):
        return min((row.cell["limits"][limit] / row.seconds for row in pick(rows, **which)), default=None)

    return value


def microseconds(**which):
    return lambda rows: max((row.seconds * 1e6 for row in pick(rows, **which)), default=None)


def giga_logits(**which):
    return lambda rows: min((128e3 / row.seconds / 1e9 for row in pick(rows, sizes="128x1000", **which)), default=None)


def paired(combine, numerator, denominator):
    """Combine the quotients of times over cells that both selections have."""

    def value(rows):
        below = {(row.op, row.size, row.dtype): row.seconds for row in pick(rows, **denominator)}
        above = {(row.op, row.size, row.dtype): row.seconds for row in pick(rows, **numerator)}
        quotients = [above[cell] / below[cell] for cell in above if cell in below]
        return combine(quotients) if quotients else None

    return value


NOT_ARGMAX = "softmax* log* loss*"
OUT_OF_CACHE = {"sizes": "256x128256"}
AVX2 = {"isa": "v3"}
ONE_THREAD = {"threads": 1}
IN_CACHE_LSE = {"ops": "logsumexp", "sizes": "128x1000 4096x1000"}

TARGETS = [
    Target("float32: every cell but argmax", 1.3, lowest(ops=NOT_ARGMAX)),
    Target("float32: argmax, every cell", 1.0, lowest(ops="argmax")),
    Target("float32: mean", 2.5, mean_ratio()),
    Target("bfloat16: every cell", 1.5, lowest(dtype="bfloat16")),
    Target("bfloat16: mean", 3.0, mean_ratio(dtype="bfloat16")),
    Target("float16: every cell", 1.5, lowest(dtype="float16")),
    Target("float16: mean", 3.0, mean_ratio(dtype="float16")),
    Target("float64: every cell", 1.1, lowest(dtype="float64")),
    Target("float64: mean", 1.7, mean_ratio(dtype="float64")),
    Target("loss_grad_in_place 256x128256", 8.0, lowest(ops="loss_grad_in_place", **OUT_OF_CACHE)),
    Target(
        "loss_grad_in_place 256x128256 / torch eager",
        18.0,
        lowest_against("torch", ops="loss_grad_in_place", **OUT_OF_CACHE),
    ),
    Target("softmax 65536x10 / XLA", 1.5, lowest_against("jax", ops="softmax", sizes="65536x10")),
    Target("1x128256 logsumexp, softmax, argmax", 1.5, lowest(ops="logsumexp softmax argmax", sizes="1x128256")),
    Target(
        "256x128256 logsumexp, loss, argmax: share of read bandwidth",
        0.8,
        share_of("read", ops="logsumexp loss argmax", **OUT_OF_CACHE),
    ),
    Target(
        "256x128256 loss_grad_in_place: share of in-place bandwidth",
        0.65,
        share_of("update", ops="loss_grad_in_place", **OUT_OF_CACHE),
    ),
    Target("128x1000, 4096x1000 logsumexp: share of exp throughput", 0.6, share_of("exp", **IN_CACHE_LSE)),
    Target(
        "128x1000, 4096x1000 logsumexp: two threads over one",
        1.8,
        paired(min, {**IN_CACHE_LSE, **ONE_THREAD}, IN_CACHE_LSE),
    ),
    Target("Cython's time / Numba's, float32: mean", 1 / 1.15, paired(geometric_mean, {}, {"who": "numba"})),
    Target("Cython's time / Numba's, float32: every cell", 0.7, paired(min, {}, {"who": "numba"})),
    Target("AVX2, float32: every cell", 1.0, lowest(**AVX2)),
    Target("AVX2, float32: mean", 1.8, mean_ratio(**AVX2)),
    Target("softmax 32x10, microseconds", 4.0, microseconds(ops="softmax", sizes="32x10"), below=True),
    Target("softmax 1x3, microseconds", 5.0, microseconds(ops="softmax", sizes=TINY), below=True),
    Target("loss_grad 32x10, microseconds", 7.0, microseconds(ops="loss_grad", sizes="32x10"), below=True),
    Target("one thread, 128x1000 logsumexp, Cython, G/s", 1.9, giga_logits(ops="logsumexp", **ONE_THREAD)),
    Target(
        "one thread, 128x1000 logsumexp, Numba, G/s",
        2.4,
        giga_logits(ops="logsumexp", who="numba", **ONE_THREAD),
    ),
    Target("one thread, 128x1000 loss_grad, Cython, G/s", 0.9, giga_logits(ops="loss_grad", **ONE_THREAD)),
    Target(
        "one thread, 128x1000 loss_grad, Numba, G/s",
        1.15,
        giga_logits(ops="loss_grad", who="numba", **ONE_THREAD),
    ),
    Target(
        "softmax, log_softmax, logsumexp / SciPy",
        8.0,
        lowest_against("scipy", ops="softmax log_softmax logsumexp", sizes="65536x10 4096x1000 256x32000"),
    ),
]


def table(results):
    """Every target, met or missed by the rows that can be trusted."""
    rows = [row for row in rows_of_all(results) if not row.noisy]
    verdicts = [(target, target.value(rows)) for target in TARGETS]
    verdicts.append((Target("import beyond NumPy's, ms", 40.0, None, below=True), results["machine"]["import_ms"]))
    lines = [f"{'target':<62} {'bound':>10} {'measured':>9}"]
    for target, value in verdicts:
        bound = f"{'<=' if target.below else '>='} {target.bound:.3g}"
        if value is None:
            lines.append(f"{target.text:<62} {bound:>10} {'':>9}  not measured")
        else:
            met = value <= target.bound if target.below else value >= target.bound
            lines.append(f"{target.text:<62} {bound:>10} {value:>9.3g}  {'met' if met else 'MISSED'}")
    return "\n".join(lines)
