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

from fastlogits.cli.failures import Failure, tell
from fastlogits.cli.job import Job
from fastlogits.cli.partial import Partial
from fastlogits.cli.progress import bar
from fastlogits.cli.whole import followed, mind


def run(args):
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        source, labels = (place and stack.enter_context(_opened(place)) for place in (args.source, args.labels))
        job = Job(args, source, labels)
        _tell_of_replaced(args)
        partial = Partial(args.target, args.force, args.resume)
        try:
            with contextlib.closing(partial):
                left = _left(job, partial, args)
                resumed = partial.blocks if left else job.plan.count
                if left:
                    _compute(job, partial, args.progress)
                    partial.finish()
        except OSError as error:
            hint = "; --resume goes on once that is mended" if partial.is_left() else ""
            raise Failure(error.filename or args.target.path, f"{error.strerror}{hint}") from error
        except KeyboardInterrupt:
            # Not before the files are closed: until then the disk may still be busy with more blocks.
            raise _interrupted(job, partial, args.target.path) from None
    return _summary(job, args, resumed, partial.nan_rows, time.perf_counter() - start)


def _opened(place):
    return contextlib.closing(place.open())


def _tell_of_replaced(args):
    """It is read to the end before, but it is gone afterwards."""
    target = args.target.path
    for name, place in (("SOURCE", args.source), ("the labels", args.labels)):
        if args.force and place and os.path.exists(target) and os.path.samefile(place.path, target):
            tell(f"{target}: is {name}, and will be replaced")


def _interrupted(job, partial, path):
    if partial.done:
        message = "interrupted, but whole"
    elif not partial.is_left():
        message = "interrupted"
    else:
        message = f"interrupted after {partial.blocks} of {job.plan.count} blocks; --resume goes on from there"
    return Failure(path, message, status=130)


def _left(job, partial, args):
    """Begin, or go on where an interrupted run got to; whether anything is left to be done."""
    journal, task = partial.journal, json.loads(json.dumps(job.task(args)))
    if args.resume and partial.is_whole(task):
        partial.discard()
        return False
    mind(partial.target, args.force)
    if journal.damaged and not args.force:
        raise Failure(journal.path, "is damaged, or not from an interrupted run; --force begins again")
    if journal.entry is None or not os.path.lexists(partial.path) or (args.force and not args.resume):
        _check_space(job, args.target)
        partial.begin(task, job.results)
        return True
    if not args.resume:
        raise Failure(partial.path, "left by an interrupted run: --resume goes on, --force begins again")
    if different := _differences(journal.task, task):
        raise Failure(partial.path, f"was made with {' and '.join(different)}; --force begins again")
    job.plan = _plan(job.plan, journal)
    partial.resume(job.results)
    return True


def _differences(old, task):
    """In what the task of an interrupted run was another one."""
    found = [f"another {name}" for name in task if name not in ("step", "options") and task[name] != old.get(name)]
    before = old.get("options")
    if not isinstance(before, dict):
        return [*found, "another set of options"]
    for name, value in task["options"].items():
        if value != before.get(name):
            found.append(f"--{name.replace('_', '-')} {before.get(name)} instead of {value}")
    return found


def _plan(plan, journal):
    """The blocks of the interrupted run, of which so many are done."""
    step = journal.task.get("step")
    with contextlib.suppress(TypeError, ValueError):
        old = plan._replace(step=tuple(step))
        done, nan_rows = (journal.entry.get(name) for name in ("blocks", "nan_rows"))
        sound = all(type(n) is int and 0 <= n <= max(1, most) for n, most in zip(step, plan.shape, strict=True))
        if sound and type(done) is type(nan_rows) is int and 0 <= done <= old.count and nan_rows >= 0:
            return old
    raise Failure(journal.path, "is damaged; --force begins again")


def _check_space(job, target):
    folder = os.path.dirname(followed(target.path)) or "."
    needed = sum(math.prod(shape) * dtype.itemsize for shape, dtype in job.results.values())
    # What is made of finished arrays is there beside them for a while.
    needed *= 1 if hasattr(target.format, "layout") else 2
    if os.path.isdir(folder) and (free := shutil.disk_usage(folder).free) < needed:
        raise Failure(target.path, f"needs {needed:,} bytes, but only {free:,} are free")


def _compute(job, partial, progress):
    """Compute all blocks that are not there yet."""
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
        "bytes_per_second": round(job.bytes * (blocks - resumed) / max(1, blocks) / seconds),
    }


def text(summary):
    size = " x ".join(map(str, summary["shape"]))
    nan = f"; rows with NaN in logits or results: {summary['nan_rows']}" if summary["nan_rows"] else ""
    if summary["resumed_after_blocks"] == summary["blocks"]:
        return f"{summary['target']}: {summary['operation']} of {size} {summary['dtype']}: already whole{nan}"
    rate = summary["bytes_per_second"] / 1e9
    return (
        f"{summary['target']}: {summary['operation']} of {size} {summary['dtype']} in {summary['seconds']:.1f} s "
        f"({rate:.2f} GB/s){nan}"
    )
