"""The cost curve: the time of a logit by the number of classes, for the same number of logits in all; and its picture.

    python benchmarks/curve.py [--functions softmax,sample] [--peers torch] [--picture FILE] [...]
    python benchmarks/curve.py --report FILE        # print and draw earlier results

Everything is divided by what ours takes for a logit of 4096 classes. A cliff is a step between neighbours. Results are
checked before they are timed.
"""

import argparse
import contextlib
import itertools
import math
import sys
from pathlib import Path

import contenders
import postprocessing as grid
import report
import timing
from benchmarks.common import OPERATIONS, Inputs, check
from measure import Progress, machine, matching

import fastlogits
from benchmarks import postprocessing as functions

FOLDER = Path(__file__).parents[1] / "build" / "compare"

CLASSES = (2, 3, 4, 8, 10, 16, 17, 20, 24, 32, 33, 40, 64, 65, 100, 128, 129, 256, 257, 512, 1000, 1024, 1025, 4096)
LOGITS = 1 << 22

# Drawn by default; any of OPERATIONS and of what comes after the logits may be asked for.
DRAWN = {
    "softmax": "softmax",
    "logsumexp": "logsumexp",
    "loss": "loss",
    "loss_grad": "loss and gradient",
    "entropy": "entropy",
    "sample": "sample",
}
# At most so many times the time of a logit at 4096 classes, from 4 classes on
MOST = {"softmax": 2.5, "logsumexp": 2.5, "loss": 2.5, "loss_grad": 2.5, "entropy": 3.0, "sample": 4.0}
PEERS = {"numpy": "scipy", "torch": "torch", "torch.compile": "torch.compile"}  # as contenders calls them


def racing(name, inputs, args):
    """Callables without arguments, ours and the peers', whose result is right; and who was wrong."""
    ours = grid.Ours(args.backend, args.thread)
    found, wrong, cache = {}, {}, {}
    for who in ("ours", *args.peers):
        try:
            if name in OPERATIONS and who == "ours":
                arrays = [getattr(inputs, field) for field in OPERATIONS[name].takes]
                call = ours.within(lambda arrays=arrays: OPERATIONS[name].call(fastlogits, *arrays))
                check(name, call(), inputs)
            elif name in OPERATIONS:
                library = contenders.PEERS[PEERS[who]](args.thread)
                call = contenders.enter(library, name, inputs, {}).call
            else:
                library = ours if who == "ours" else grid.rivals(args)[who]
                call = library.call(name, inputs)
                functions.check(name, grid.as_numpy(call()), inputs, cache, peer=who != "ours")
            found[who] = call
        except Exception as error:
            wrong[who] = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:120]}"
    return found, wrong


def measure(names, args):
    """Seconds for a logit: by function, by who, by the number of classes."""
    costs = {name: {} for name in names}
    progress = Progress(len(names) * len(args.classes))
    for classes in args.classes:
        inputs = Inputs(f"{args.logits // classes}x{classes}", args.dtype)
        for name in names:
            progress.step(f"{name}, {classes} classes")
            found, wrong = racing(name, inputs, args)
            racers = {who: timing.Contender(call, timer=grid.CLOCKS[args.clock]) for who, call in found.items()}
            timing.race(racers, args.peers, args.budget, (3, 15))
            for who, racer in racers.items():
                costs[name].setdefault(who, {})[str(classes)] = racer.best / inputs.logits.size
            progress.clear()
            for who, why in wrong.items():
                print(f"not timed: {name}, {classes} classes, {who}: {why}", flush=True)
    return costs


def over_last(curves):
    """The curves of a function in times of ours at the largest number of classes; what was not measured is NaN."""
    ours = curves.get("ours", {})
    last = ours[max(ours, key=int)] if ours else math.nan
    return {who: {int(classes): cost / last for classes, cost in curve.items()} for who, curve in curves.items()}


def table(results):
    classes = results["classes"]
    lines = [f"{'classes':<43}" + "".join(f"{c:>7}" for c in classes)]
    for name, curves in results["costs"].items():
        for who, curve in over_last(curves).items():
            row = "".join(f"{curve.get(c, math.nan):>7.2f}" for c in classes)
            most = f"   {bound(name, curve)}" if who == "ours" and name in MOST else ""
            lines.append(f"{name:<28} {who:<14}{row}{most}")
    return "\n".join(lines)


def bound(name, curve):
    worst = max((c for c in curve if c >= 4), key=curve.get, default=None)
    if worst is None:
        return ""
    verdict = "met" if curve[worst] <= MOST[name] else "MISSED"
    return f"at most {MOST[name]:g} from 4 on: {curve[worst]:.2f} at {worst}, {verdict}"


def draw(results, path, across=3):
    """A panel for each function, ours and the others, as an SVG whose text stays text."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    costs = {name: over_last(curves) for name, curves in results["costs"].items() if curves}
    across = min(across, len(costs))
    down = -(-len(costs) // across)
    style = {"svg.fonttype": "none", "svg.hashsalt": "fastlogits", "font.size": 9, "font.family": "sans-serif"}
    with plt.rc_context(style):
        size = (0.6 + 2.5 * across, 0.7 + 1.9 * down)
        shared = {"sharex": True, "sharey": True, "squeeze": False, "layout": "constrained"}
        figure, axes = plt.subplots(down, across, figsize=size, **shared)
        colors = dict(zip(("ours", *PEERS), (report.BLUE, report.GREY, report.RED, report.INK), strict=True))
        for axis, (name, curves) in itertools.zip_longest(axes.flat, costs.items(), fillvalue=(None, {})):
            axis.set_visible(bool(name))
            for who, curve in curves.items():
                label = "fastlogits" if who == "ours" else who
                axis.plot(curve.keys(), curve.values(), color=colors[who], linewidth=1.3, label=label)
            axis.set_title(DRAWN.get(name, name), size=9, color=report.INK)
            axis.set(xscale="log", yscale="log")
            axis.xaxis.set_major_locator(FixedLocator([2, 4, 16, 64, 256, 1024, 4096]))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5, 10, 20, 50, 100, 200]))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
            axis.yaxis.set_minor_locator(NullLocator())
            axis.grid(color=report.GREY, alpha=0.3, linewidth=0.5)
            axis.tick_params(length=0, labelsize=8)
            axis.spines[["top", "right"]].set_visible(False)
        axes.flat[0].legend(frameon=False, fontsize=8)
        figure.supxlabel("classes", size=9, color=report.INK)
        figure.supylabel("time of a logit / ours at 4096", size=9, color=report.INK)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


def main():
    args = arguments()
    if args.report:
        results = report.load(args.report)
    else:
        names = matching([*OPERATIONS, *functions.CALLS], args.functions)
        results = {"machine": machine(), "classes": args.classes, "costs": measure(names, args)}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        report.save(results, args.json)
    print(table(results))
    with contextlib.suppress(ImportError):
        draw(results, args.picture)
        print(f"* {args.picture}")
    return int(any("ours" not in curves for curves in results["costs"].values()))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    several = {"type": lambda text: text.split(","), "metavar": "A,B,..."}
    numbers = {"type": lambda text: [*map(int, text.split(","))], "metavar": "A,B,..."}
    parser.add_argument("--functions", default=[*DRAWN], **several, help="* and ? are wildcards")
    parser.add_argument("--classes", default=[*CLASSES], **numbers)
    parser.add_argument("--logits", type=int, default=LOGITS, help="in all, whatever the number of classes")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", dest="thread", type=int, default=1)
    parser.add_argument("--backend", default="cython", help="of ours: cython, numba, numpy")
    parser.add_argument("--peers", default=["torch"], **several, help=f"of {', '.join(PEERS)}; or none")
    parser.add_argument("--budget", type=float, default=0.5, help="seconds for a function and number of classes")
    parser.add_argument("--clock", choices=grid.CLOCKS, default="wall", help="cpu: of the calling thread, when busy")
    parser.add_argument("--json", type=Path, default=FOLDER / "curve.json", metavar="FILE", help="where results go")
    parser.add_argument("--picture", type=Path, default=FOLDER / "curve.svg", metavar="FILE", help=".svg, .png or .pdf")
    parser.add_argument("--report", type=Path, metavar="FILE", help="measure nothing, print and draw these results")
    args = parser.parse_args()
    args.peers = [who for who in args.peers if who != "none"]
    return args


if __name__ == "__main__":
    sys.exit(main())
