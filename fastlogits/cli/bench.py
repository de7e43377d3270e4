"""`fastlogits bench`: our time beside that of what is installed, on this machine."""

import functools
import importlib
import statistics
import time
import timeit

import numpy as np

import fastlogits
from fastlogits import config
from fastlogits.cli.failures import Failure

try:
    import resource
except ImportError:  # Windows
    resource = None

SHAPES, QUICK_SHAPES = ((4096, 1000), (128, 32000)), ((256, 1000), (8, 32000))
# Rounds in which every library takes its turn, within so many seconds for an operation, but at least so many.
SECONDS, FEWEST = 0.4, 5
SAMPLE = 0.005  # seconds that are filled with calls
PAUSE = 0.01
NOISY = 0.10  # distance between the quartiles of the samples, as a share of their median
TOP_K = 50


def ours(x, y, threads):
    return {
        "softmax": lambda: fastlogits.softmax(x),
        "log_softmax": lambda: fastlogits.log_softmax(x),
        "logsumexp": lambda: fastlogits.logsumexp(x),
        "topk": lambda: fastlogits.topk(x, min(TOP_K, x.shape[1])).values,
        "cross_entropy": lambda: fastlogits.cross_entropy(x, y),
        "cross_entropy_with_grad": lambda: fastlogits.cross_entropy_with_grad(x, y).grad_logits,
    }


def in_numpy(x, y, threads):
    """As one writes them in a line or two."""
    rows = np.arange(len(x))

    def shifted():
        return x - x.max(axis=1, keepdims=True)

    def softmax():
        e = np.exp(shifted())
        return e / e.sum(axis=1, keepdims=True)

    def log_softmax():
        z = shifted()
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    def gradient():
        p = softmax()
        p[rows, y] -= 1
        return p / len(x)

    return {
        "softmax": softmax,
        "log_softmax": log_softmax,
        "logsumexp": lambda: (x - log_softmax())[:, 0],
        "topk": lambda: -np.sort(np.partition(-x, min(TOP_K, x.shape[1]) - 1)[:, :TOP_K]),
        "cross_entropy": lambda: -log_softmax()[rows, y].mean(),
        "cross_entropy_with_grad": gradient,
    }


def in_scipy(x, y, threads):
    special = importlib.import_module("scipy.special")
    names = "softmax", "log_softmax", "logsumexp"
    return {name: functools.partial(getattr(special, name), x, axis=1) for name in names}


def in_torch(x, y, threads):
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    logits = x.clone().requires_grad_()

    def gradient():
        logits.grad = None
        torch.nn.functional.cross_entropy(logits, y).backward()
        return logits.grad

    return {
        "softmax": lambda: torch.softmax(x, 1),
        "log_softmax": lambda: torch.log_softmax(x, 1),
        "logsumexp": lambda: torch.logsumexp(x, 1),
        "topk": lambda: torch.topk(x, min(TOP_K, x.shape[1])).values,
        "cross_entropy": lambda: torch.nn.functional.cross_entropy(x, y),
        "cross_entropy_with_grad": gradient,
    }


LIBRARIES = {"fastlogits": ours, "numpy": in_numpy, "scipy": in_scipy, "torch": in_torch}


def run(args):
    threads = args.threads or config.threads(config.SERIAL_BELOW)
    with fastlogits.settings(num_threads=threads):
        shapes, seconds = args.shapes or (QUICK_SHAPES if args.quick else SHAPES), 0 if args.quick else SECONDS
        cells = [cell for shape in shapes for cell in _cells(shape, np.dtype(args.dtype), threads, seconds)]
    return {"dtype": args.dtype, "threads": threads, "config": fastlogits.show_config("dicts"), "milliseconds": cells}


def _cells(shape, dtype, threads, seconds):
    """{operation, shape, and the median time of each library} for every operation."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(scale=3, size=shape).astype(dtype), rng.integers(shape[1], size=shape[0])
    calls = {}
    for name, library in LIBRARIES.items():
        try:
            calls[name] = library(x, y, threads)
        except ImportError:
            continue
    for operation in calls["fastlogits"]:
        racers = {name: of_library[operation] for name, of_library in calls.items() if operation in of_library}
        _check(operation, racers)
        yield {"operation": operation, "shape": shape} | _race(racers, seconds)


def _check(operation, racers):
    """That all come to the same, before they are timed; which also warms them up."""
    expected = np.asarray(racers["numpy"]())
    for name, call in racers.items():
        if not np.allclose(np.asarray(call()), expected, rtol=1e-3, atol=1e-5):
            raise Failure(name, f"{operation} differs from the plain formula")


def _race(racers, seconds):
    """The median time of each, and which of them are too noisy to trust."""
    calls = {name: _calls(call) for name, call in racers.items()}
    times, switches = ({name: [] for name in racers} for _ in range(2))
    end = time.perf_counter() + seconds
    while len(times["fastlogits"]) < FEWEST or time.perf_counter() < end:
        for name, call in racers.items():
            # The threads of the one before spin for some milliseconds; and its data are in the cache.
            time.sleep(PAUSE)
            call()
            before = _switches()
            times[name].append(timeit.timeit(call, number=calls[name]) / calls[name])
            switches[name].append(_switches() - before)
    noisy = [name for name in racers if _noisy(times[name], switches[name])]
    return {name: round(1000 * statistics.median(each), 4) for name, each in times.items()} | {"noisy": noisy}


def _calls(call):
    """How many calls make a sample."""
    return max(1, round(SAMPLE / timeit.timeit(call, number=1)))


def _switches():
    """How often a processor was taken from this process; 0 where the system does not say."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else 0


def _noisy(times, switches):
    """Whether samples spread; or are alike since each of them waited for its turn, a slice of the scheduler's."""
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return high - low > NOISY * median or statistics.median(switches) > 0


def text(summary):
    cells, threads = summary["milliseconds"], summary["threads"]
    names = [name for name in LIBRARIES if name in cells[0]]
    title = f"{summary['dtype']}, {threads} thread{'s' * (threads > 1)}: milliseconds"
    lines = [f"{title:<40}" + "".join(f"{name:>20}" for name in names)]
    for cell in cells:
        label = f"{cell['operation']} {cell['shape'][0]} x {cell['shape'][1]}"
        lines.append(f"{label:<40}" + "".join(_figure(cell, name) for name in names))
    noisy = sum(name in cell["noisy"] for cell in cells for name in names)
    if noisy:
        timed = sum(name in cell for cell in cells for name in names)
        lines.append(f"? {noisy} of {timed} figures are too noisy to trust: the machine is busy; measure them again")
    return "\n".join(lines)


def _figure(cell, name):
    if name not in cell:
        return f"{'-':>20}"
    factor, noise = "", "?" if name in cell["noisy"] else ""
    if name != "fastlogits":
        doubt = "?" if {name, "fastlogits"} & {*cell["noisy"]} else ""
        factor = f" ({cell[name] / cell['fastlogits']:.1f}x{doubt})"
    return f"{cell[name]:.3g}{noise}{factor}".rjust(20)
