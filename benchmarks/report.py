"""Results to rows, a table, pictures and README's figures. Everything is derived from the JSON."""

import json
import re
import shutil
import statistics
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import DTYPES, OPERATIONS, SIZES
from timing import NOISY

BACKENDS = ("cython", "numba", "numpy")
# Whom the users of an adapter would use instead; the NumPy API is held against everybody.
RIVALS = {
    "fastlogits.torch": ("torch", "torch.compile"),
    "fastlogits.tensorflow": ("tensorflow",),
    "fastlogits.jax": ("jax",),
}
EVERYBODY = ("scipy", "torch", "torch.compile", "jax", "tensorflow")
TINY = "1x3"  # there for the overhead; not one of the cells that are compared
GREY, BLUE, RED, INK = "#b4b2a9", "#185fa5", "#a32d2d", "#2c2c2a"


class Row(NamedTuple):
    """One of ours in one cell. `ratio` is the best peer's time over ours; `share` of the binding `limit`.

    Noisy where samples spread, or where a limit is exceeded and so was measured on a busy machine.
    """

    op: str
    size: str
    dtype: str
    threads: int
    isa: str
    who: str
    seconds: float
    peer: str | None
    ratio: float | None
    limit: str | None
    share: float | None
    noisy: bool
    cell: dict


def load(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def save(results, path):
    Path(path).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def key(cell):
    return tuple(cell[name] for name in ("op", "size", "dtype", "threads", "isa"))


def rows_of(cell):
    rows, times = [], cell["times"]
    for who in (*BACKENDS, *RIVALS):
        if who not in times:
            continue
        ours = times[who]
        peers = {name: times[name] for name in RIVALS.get(who, EVERYBODY) if name in times}
        peer = min(peers, key=lambda name: peers[name]["seconds"], default=None)
        limit = max(cell["limits"], key=cell["limits"].get)
        spreads = [ours["spread"], peers[peer]["spread"] if peer else 0]
        rows.append(
            Row(
                *key(cell),
                who,
                ours["seconds"],
                peer,
                peers[peer]["seconds"] / ours["seconds"] if peer else None,
                limit,
                cell["limits"][limit] / ours["seconds"],
                max(spreads) > NOISY or cell["limits"][limit] > 1.2 * ours["seconds"],
                cell,
            )
        )
    return rows


def rows_of_all(results):
    cells = sorted(results["cells"], key=lambda cell: (cell["isa"], cell["threads"], order(cell)))
    return [row for cell in cells for row in rows_of(cell)]


def order(cell):
    tables = (OPERATIONS, "op"), (SIZES, "size"), (DTYPES, "dtype")
    return tuple(list(table).index(cell[name]) for table, name in tables)


HEADER = (
    f"{'operation':<22} {'size':<13} {'dtype':<8} {'isa':>4} {'thr':>3}  {'ours':<21} {'time':>8}   "
    f"{'best peer':<13} {'time':>8} {'ratio':>7}  share of limit"
)


def line(row):
    peer = f"{row.peer or '-':<13} {duration(row.seconds * row.ratio) if row.peer else '':>8}"
    ratio = f"{row.ratio:>6.2f}x" if row.peer else f"{'':>7}"
    noise = "  (too noisy to trust)" if row.noisy else ""
    return (
        f"{row.op:<22} {row.size:<13} {row.dtype:<8} {row.isa:>4} {row.threads:>3}  {row.who:<21} "
        f"{duration(row.seconds):>8}   {peer} {ratio}  {row.share:>4.0%} {row.limit}{noise}"
    )


def duration(seconds):
    for unit, scale in (("s", 1), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def table(results):
    return "\n".join([HEADER, *map(line, rows_of_all(results))])


BUSY_HEADER = (
    f"beside  {'operation':<10} {'size':<10}  {'ours: one thread':>20}  {'two threads':>19} {'/ one':>12}  others\n"
    f"{'':<30}  {'median, 99 % below':>20}"
)


def busy_line(cell):
    """Of a busy machine: median and 99th percentile of everybody, and ours on two threads over ours on one."""
    times = dict(cell["times"])
    over = over_one_thread(times)
    one, two = times.pop("one thread", None), times.pop("fastlogits", None)
    others = "   ".join(f"{who} {both(time)}" for who, time in times.items())
    head = f"{cell['burners']:>6}  {cell['op']:<10} {cell['size']:<10}"
    return f"{head}  {both(one):>20}  {both(two):>19} {over:>12}  {others}"


def over_one_thread(times):
    if not {"one thread", "fastlogits"} <= times.keys():
        return ""
    return ", ".join(f"{times['fastlogits'][name] / times['one thread'][name]:.2f}" for name in ("seconds", "rare"))


def both(time):
    return f"{duration(time['seconds'])}, {duration(time['rare'])}" if time else ""


def busy_table(results):
    return "\n".join([BUSY_HEADER, *map(busy_line, results["busy"])]) if results.get("busy") else ""


def summary(results):
    """Means, limits, and what failed or cannot be trusted."""
    rows, lines = rows_of_all(results), []
    groups = {}
    for row in rows:
        if row.peer and row.size != TINY and not row.noisy:
            groups.setdefault((row.isa, row.threads, row.who, row.dtype), []).append(row.ratio)
    for (isa, threads, who, dtype), ratios in groups.items():
        lines.append(
            f"{who} {dtype}, {isa}, threads {threads}: best peer's time / ours in {len(ratios)} cells: "
            f"mean {geometric_mean(ratios):.2f}, lowest {min(ratios):.2f}"
        )
    for name, limits in results.get("limits", {}).items():
        figures = ", ".join(f"{figure.replace('_', ' ')} {value:.3g}" for figure, value in limits.items())
        lines.append(f"limits, {name}: {figures}")
    for cell in results["cells"]:
        lines += [f"FAILED: {' '.join(map(str, key(cell)))} {who}: {why}" for who, why in failures(cell)]
        lines += wrong_peers(cell)
    noisy = sum(row.noisy for row in rows)
    if noisy:
        lines.append(
            f"{noisy} of {len(rows)} rows are too noisy to trust and left out of all means and targets; "
            "measure them again, with --add"
        )
    return "\n".join(lines)


def failures(cell):
    return [(who, why) for who, why in cell["absent"].items() if who in BACKENDS]


def wrong_peers(cell):
    """Lines about peers that were not timed since their result is wrong: "-" in the table says they do not offer it."""
    return [
        f"WRONG RESULT, not timed: {' '.join(map(str, key(cell)))} {who}: {why}"
        for who, why in cell["absent"].items()
        if who not in BACKENDS and why.startswith("AssertionError")
    ]


def geometric_mean(values):
    return statistics.geometric_mean(values) if values else None


def plotted(results, who="cython"):
    """The rows of the pictures: one backend, and the most usual of what was measured."""
    rows = [row for row in rows_of_all(results) if row.who == who and row.size != TINY and row.peer]
    most = [(row.isa, row.threads) for row in rows]
    return [row for row in rows if (row.isa, row.threads) == max(set(most), key=most.count)]


def pictures(results, folder):
    """Draw ratios.png and roofline.png; their paths."""
    rows = plotted(results)
    if not rows:
        return []
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    return [draw_ratios(rows, folder / "ratios.png"), draw_roofline(rows, results, folder / "roofline.png")]


def draw_ratios(rows, path, across=2):
    """A panel for each dtype, at most `across` of them side by side."""
    import matplotlib.pyplot as plt
    import numpy as np

    ops = [op for op in OPERATIONS if any(row.op == op for row in rows)]
    sizes = [size for size in SIZES if any(row.size == size for row in rows)]
    dtypes = [dtype for dtype in DTYPES if any(row.dtype == dtype for row in rows)]
    across = min(across, len(dtypes))
    down = -(-len(dtypes) // across)
    size = (2.6 + 0.72 * len(sizes) * across, (1.3 + 0.34 * len(ops)) * down)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained", sharey=True)
    for axis in axes.flat[len(dtypes) :]:
        axis.axis("off")
    for axis, dtype in zip(axes.flat, dtypes, strict=False):
        ratios = np.full((len(ops), len(sizes)), np.nan)
        for row in rows:
            if row.dtype == dtype:
                at = ops.index(row.op), sizes.index(row.size)
                ratios[at] = row.ratio
                text = f"{row.ratio:.2g}" + ("?" if row.noisy else "")
                axis.text(*at[::-1], text, ha="center", va="center", size=8, color=INK)
        axis.imshow(np.log2(ratios), cmap="RdBu", vmin=-4, vmax=4, aspect="auto", alpha=0.75)
        axis.set_title(dtype, color=INK)
        axis.set_xticks(range(len(sizes)), sizes, rotation=40, ha="right", size=8)
        axis.set_yticks(range(len(ops)), ops, size=8)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    figure.suptitle(f"Best peer's time / ours, {rows[0].threads} threads (?: noisy)", color=INK)
    figure.savefig(path, dpi=140)
    plt.close(figure)
    return path


def draw_roofline(rows, results, path):
    """Exponentials per second over exponentials per byte, for operations that take exponentials."""
    import matplotlib.pyplot as plt
    import numpy as np

    limits = results["limits"][f"{rows[0].isa}, threads {rows[0].threads}"]
    figure, axis = plt.subplots(figsize=(9, 5), layout="constrained")
    intensity = np.geomspace(0.02, 1, 50)
    peak = limits["exp32_G_s"]
    roof = np.minimum(peak, limits["read_GB_s"] * intensity)
    axis.plot(intensity, roof, color=INK, label="memory, exp in float32")
    axis.axhline(limits["exp64_G_s"], color=GREY, linestyle=":", label="exp in float64")
    colors = dict(zip(SIZES, plt.get_cmap("viridis")(np.linspace(0, 1, len(SIZES))), strict=True))
    markers = dict(zip(DTYPES, "osd^", strict=False))
    seen = set()
    for row in rows:
        op = OPERATIONS[row.op]
        if not op.exps:
            continue
        logits = int(np.prod(SIZES[row.size]))
        x = op.exps / ((op.reads + op.writes) * DTYPES[row.dtype].itemsize)
        label = row.size if row.size not in seen else None
        seen.add(row.size)
        style = {"color": colors[row.size], "marker": markers[row.dtype], "alpha": 0.85, "linewidths": 0}
        axis.scatter(x, logits * op.exps / row.seconds / 1e9, s=22, label=label, **style)
    axis.set(xscale="log", yscale="log", xlabel="exponentials per byte moved", ylabel="billion exponentials / s")
    legend = ", ".join(f"{mark} {dtype}" for dtype, mark in zip(DTYPES, "○□◇△", strict=False))
    axis.set_title(f"{legend}; above the line: the array was in cache", size=9, color=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=140)
    plt.close(figure)
    return path


def speed_table(results, who="cython"):
    """Markdown: how many times faster than the fastest peer, by operation and dtype."""
    rows = [row for row in plotted(results, who) if not row.noisy]
    dtypes = [dtype for dtype in DTYPES if any(row.dtype == dtype for row in rows)]
    peers = [name for name in RIVALS.get(who, EVERYBODY) if any(name in row.cell["times"] for row in rows)]
    beside = {dtype: {name for row in rows if row.dtype == dtype for name in row.cell["times"]} for dtype in dtypes}
    absent = [f"{name} not for {dtype}" for dtype in dtypes for name in peers if name not in beside[dtype]]
    aside = f" ({', '.join(absent)})" if absent else ""
    fastest = f"the fastest of {', '.join(peers)}" if len(peers) > 1 else peers[0]
    sizes = len({row.size for row in rows})
    lines = [
        f"How many times faster than {fastest} in the same run{aside}: geometric mean over {sizes} sizes, and the "
        f"lowest, of the cells measured without noise. {rows[0].threads} threads each.",
        "",
        "| Operation | " + " | ".join(dtypes) + " |",
        "|---" * (len(dtypes) + 1) + "|",
    ]
    for op in OPERATIONS:
        entries = []
        for dtype in dtypes:
            ratios = [row.ratio for row in rows if row.op == op and row.dtype == dtype]
            entries.append(f"{geometric_mean(ratios):.1f} ({min(ratios):.1f})" if ratios else "")
        if any(entries):
            lines.append(f"| `{op}` | " + " | ".join(entries) + " |")
    return "\n".join(lines)


def busy_markdown(cells):
    """What neighbours do to a call: ours on one thread and on two, and others on two."""
    others = [who for who in cells[0]["times"] if who not in ("one thread", "fastlogits")]
    heads = ["Beside", "Operation", "Logits", "one thread", "two threads", "over one thread", *others]
    lines = [
        "On a busy machine, beside processes that compute without end on the same two processors: median and 99th "
        "percentile of single calls in float32. The others have two threads.",
        "",
        "| " + " | ".join(heads) + " |",
        "|---" * len(heads) + "|",
    ]
    for cell in cells:
        times = cell["times"]
        entries = [both(times.get("one thread")), both(times.get("fastlogits")), over_one_thread(times)]
        entries += [both(times.get(who)) for who in others]
        lines.append("| " + " | ".join([str(cell["burners"]), f"`{cell['op']}`", cell["size"], *entries]) + " |")
    return "\n".join(lines)


def origin(machine):
    """When, where and with what the figures were measured."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"Measured on {machine['measured']} on {machine['processors']} processors of an {machine['processor']}, "
        f"instruction set {machine['instruction set']}, with {versions}."
    )


def readme_region(results, folder):
    """The Markdown between README's speed marks."""
    source = f"[{folder}/compare.json]({folder}/compare.json)"
    parts = [speed_table(results)] + ([busy_markdown(results["busy"])] if results.get("busy") else [])
    return "\n\n".join([*parts, f"{origin(results['machine'])} Every cell: {source}."])


def write_readme(source, here):
    """Keep the results in benchmarks/results and write README's region from them."""
    root, folder = here.parent, here / "results"
    folder.mkdir(exist_ok=True)
    if Path(source).resolve() != (folder / "compare.json").resolve():
        shutil.copy(source, folder / "compare.json")
    results = load(source)
    readme = root / "README.md"
    region = readme_region(results, folder.relative_to(root).as_posix())
    marks = r"(<!-- speed:begin -->\n).*?(<!-- speed:end -->)"
    text, count = re.subn(
        marks, lambda m: f"{m[1]}{region}\n{m[2]}", readme.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    if not count:
        raise SystemExit("README.md has no <!-- speed:begin --> ... <!-- speed:end -->")
    readme.write_text(text, encoding="utf-8")
