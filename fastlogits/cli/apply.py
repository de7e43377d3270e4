"""`fastlogits apply`: from file to file, block by block.

Some threads take one block each through reading, computing and writing, so that the disk and the kernels work at the
same time and a block stays in its processor's cache. What a block gives depends neither on the other blocks nor on the
number of threads nor on where a run was interrupted.
"""

import contextlib
import functools
import itertools
import json
import math
import os
import shutil
import time

from fastlogits.cli.failures import Failure
from fastlogits.cli.job import Job
from fastlogits.cli.partial import Partial
from fastlogits.cli.progress import bar
from fastlogits.cli.whole import followed


def run(args):
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        source, labels = (place and stack.enter_context(_opened(place)) for place in (args.source, args.labels))
        job = Job(args, source, labels)
        partial = stack.enter_context(contextlib.closing(Partial(args.target, args.force)))
        _begin(job, partial, args)
        resumed = partial.blocks
        try:
            nan_rows = _compute(job, partial, args.progress)
            partial.finish()
        except OSError as error:
            raise Failure(error.filename, f"{error.strerror}; --resume goes on once that is mended") from error
        except KeyboardInterrupt:
            message = f"interrupted after {partial.blocks} of {job.plan.count} blocks; --resume goes on from there"
            raise Failure(args.target.path, message, status=130) from None
    return _summary(job, args, resumed, nan_rows, time.perf_counter() - start)


def _opened(place):
    return contextlib.closing(place.open())


def _begin(job, partial, args):
    """From the first block, or from where an interrupted run got to."""
    task = json.loads(json.dumps(job.task(args)))
    left = partial.interrupted()
    if left is None or (args.force and not args.resume):
        _check_space(job, args.target)
        return partial.begin(task, job.results)
    old, entry = left
    if not args.resume:
        raise Failure(partial.path, "left by an interrupted run: --resume goes on, --force begins again")
    job.plan = job.plan._replace(step=tuple(old.get("step", ())))
    different = [name for name in task if name != "step" and task[name] != old.get(name)]
    if different:
        raise Failure(partial.path, f"was made with another {' and '.join(different)}; --force begins again")
    return partial.resume(entry, job.results)


def _check_space(job, target):
    folder = os.path.dirname(followed(target.path)) or "."
    needed = sum(math.prod(shape) * dtype.itemsize for shape, dtype in job.results.values())
    # What is made of finished arrays is there beside them for a while.
    needed *= 1 if hasattr(target.format, "layout") else 2
    if os.path.isdir(folder) and (free := shutil.disk_usage(folder).free) < needed:
        raise Failure(target.path, f"needs {needed:,} bytes, but only {free:,} are free")


def _compute(job, partial, progress):
    """Compute all blocks that are not there yet; returns the number of rows with NaN in all blocks."""
    done, nan_rows = partial.blocks, partial.nan_rows
    compute = functools.partial(job.compute, partial.write)
    left = itertools.islice(job.plan.blocks(), done, None)
    try:
        with (
            bar(job.bytes, job.bytes * done / max(1, job.plan.count), progress) as shown,
            contextlib.closing(job.each(compute, left)) as found,
        ):
            job.seen = shown.update
            for nan in found:
                done, nan_rows = done + 1, nan_rows + nan
                partial.note(done, nan_rows)
    except Failure:
        partial.discard()
        raise
    except BaseException:
        with contextlib.suppress(OSError):
            partial.sync(done, nan_rows)
        raise
    partial.sync(done, nan_rows)
    return nan_rows


def _summary(job, args, resumed, nan_rows, seconds):
    shape, blocks = job.source.shape, job.plan.count
    return {
        "operation": args.op,
        "source": args.source.path,
        "target": args.target.path,
        "shape": shape,
        "dtype": str(job.source.dtype),
        "axis": job.axis,
        "results": {name: {"shape": shape, "dtype": str(dtype)} for name, (shape, dtype) in job.results.items()},
        "rows": math.prod(shape) // max(1, shape[job.axis]),
        "nan_rows": nan_rows,
        "blocks": blocks,
        "resumed_after_blocks": resumed,
        "seconds": round(seconds, 3),
        "bytes_per_second": round(job.bytes * (blocks - resumed) / blocks / seconds),
    }


def text(summary):
    size = " x ".join(map(str, summary["shape"]))
    nan = f"; rows with NaN: {summary['nan_rows']}" if summary["nan_rows"] else ""
    rate = summary["bytes_per_second"] / 1e9
    return (
        f"{summary['target']}: {summary['operation']} of {size} {summary['dtype']} in {summary['seconds']:.1f} s "
        f"({rate:.2f} GB/s){nan}"
    )
