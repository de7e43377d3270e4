"""Calls beside processes that compute without end: ours on one thread and on two, torch, ONNX Runtime.

    python benchmarks/busy.py [--burners 0,1,4] [--ops softmax] [--sizes 128x1000] [--budget 2]

Each contender has a process of its own, so that nobody's waiting threads are in another's way. All of them, and the
burners, share two processors. They take turns; single calls are timed. A library that is missing is left out.
"""

import argparse
import functools
import itertools
import json
import os
import sys

import processes
import report
import timing

OPERATIONS = ("softmax", "loss_grad")
SIZES = ("128x1000", "1024x1000", "4096x1000")
BURNERS = (1, 4)
PROCESSORS = 2
BUDGET, QUICK = 2.0, 0.3

# Who takes part, with how many threads; all the others are divided by the first.
CONTENDERS = {"one thread": 1, "fastlogits": PROCESSORS, "torch": PROCESSORS, "onnxruntime": PROCESSORS}
OURS = "one thread", "fastlogits"


def library(who):
    """In the contender's process"""
    import contenders
    import onnx_runtime
    import peers

    if who in OURS:
        return peers.Ours("cython")
    classes = {"torch": contenders.PEERS["torch"], "onnxruntime": onnx_runtime.OnnxRuntime}
    return classes[who](CONTENDERS[who])


def serve(who):
    """Answer an operation and its size, which are prepared and checked, by why not; seconds by the times of calls."""
    try:
        found, missing = library(who), None
    except ImportError as error:
        missing = str(error)
    answer(missing)
    contender = None
    for line in sys.stdin:
        words = line.split()
        if len(words) == 1:
            answer(contender.singly(float(words[0])))
            continue
        try:
            contender = entered(found, *words)
            answer(None)
        except Exception as error:
            answer(f"{type(error).__name__}: {error}")


def answer(value):
    print(json.dumps(value), flush=True)


def entered(found, operation, size):
    import contenders
    from benchmarks.common import Inputs

    return contenders.enter(found, operation, Inputs(size, "float32"), {})


def measure(operations=OPERATIONS, sizes=SIZES, burners=BURNERS, budget=BUDGET, say=print):
    """The cells, said as they come."""
    with processes.held_to(PROCESSORS), processes.workers(*map(command, CONTENDERS)) as workers:
        return list(cells(dict(zip(CONTENDERS, workers, strict=True)), operations, sizes, burners, budget, say))


def command(who):
    threads = str(CONTENDERS[who])
    environment = os.environ | {"OMP_NUM_THREADS": threads, "FASTLOGITS_NUM_THREADS": threads}
    return [sys.executable, __file__, "--worker", who], environment


def cells(workers, operations, sizes, burners, budget, say):
    for who, worker in list(workers.items()):
        if why := json.loads(worker.answer()):
            say(f"{who} is left out: {why}")
            del workers[who]
    say(report.BUSY_HEADER)
    for operation, size in itertools.product(operations, sizes):
        ready = dict(workers)
        for who, worker in workers.items():
            if why := json.loads(worker.ask(operation, size)):
                say(f"FAILED: {operation} {size} {who}: {why}")
                del ready[who]
        for number in burners:
            cell = {"op": operation, "size": size, "burners": number, "times": turns(ready, number, budget)}
            say(report.busy_line(cell))
            yield cell


def turns(workers, burners, budget):
    """Median and 99th percentile of each worker's calls."""
    singly = {who: functools.partial(times, worker) for who, worker in workers.items()}
    with processes.neighbours(burners):
        return timing.take_turns(singly, budget)


def times(worker, seconds):
    return json.loads(worker.ask(seconds))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    several = {"type": lambda text: text.split(","), "metavar": "A,B,..."}
    parser.add_argument("--ops", default=OPERATIONS, **several, help=f"of {', '.join(OPERATIONS)}")
    parser.add_argument("--sizes", default=SIZES, **several, help="any, such as 128x1000")
    parser.add_argument("--burners", default=BURNERS, type=lambda text: [*map(int, text.split(","))], metavar="A,B,...")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for each contender in a cell")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return serve(args.worker)
    try:
        measure(args.ops, args.sizes, args.burners, args.budget)
    except processes.Failure as failure:
        return f"busy: {failure}"
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
