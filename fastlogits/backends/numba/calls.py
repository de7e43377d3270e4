"""The operations, by the text that Numba compiled: from NumPy arrays to the kernels of their type."""

import numpy as np

from fastlogits._memory import LAST_CACHE
from fastlogits.backends.numba import team
from fastlogits.backends.numba.drivers import new_job
from fastlogits.backends.numba.records import STRUCTURES
from fastlogits.backends.numba.units import unit_of
from fastlogits.kernels.plan import SIEVE_CLASSES as COLUMNS

Task, Loss, Stats = STRUCTURES["Task"], STRUCTURES["Loss"], STRUCTURES["Stats"]


def unit_for(array):
    return unit_of(array.dtype.name)


def address(array):
    return None if array is None else array.ctypes.data


def new_task(x, x_stride, outer, classes, inner, **fields):
    return Task(x=address(x), x_stride=x_stride, rows=outer, classes=classes, inner=inner, **{"scale": 1.0, **fields})


def blocks_in(unit, classes):
    return -(-classes // unit.sizes.BLOCK)


def fields_of(unit, task):
    """How many numbers a long row has, a whole number of cache lines; and what a radix sort takes."""
    numbers = unit.sizes.BLOCK_FIELDS * blocks_in(unit, task.classes) + unit.sizes.PARKED
    numbers += unit.plan.sort_fields(task.classes) if task.stats.sorting else 0
    return -(-numbers // 8) * 8


def room(unit, task):
    """The scratch memory of a thread: what the text calls Work, the blocks of a long row, and its exponentials."""
    size = unit.work_bytes + 8 * fields_of(unit, task)
    if task.keep == unit.sizes.KEEP_PADDED:
        size += blocks_in(unit, task.classes) * unit.sizes.BLOCK * unit.itemsize
    return size


def run(name, unit, task, items, logits, threads):
    share_out(name, unit, task, items, logits, threads, room(unit, task), fields_of(unit, task))


def share_out(name, unit, task, items, logits, threads, nbytes, fields):
    """All items of a kernel, shared out so that Ctrl-C is heard in between."""
    driver, job = unit.driver(name), new_job(unit.work_bytes, fields, task)
    region = unit.plan.REGION // max(1, logits) or 1
    for start in range(0, items, region):
        job.start, job.stop = start, min(items, start + region)
        job.parts = unit.plan.parts_of(job.stop - start, logits, threads)
        team.share_out(driver, job, threads, nbytes)


def run_way(operation, way, unit, task, threads):
    plan = unit.plan
    if way == plan.SHARED_WAY:
        run_shared(operation, unit, task, threads)
        return
    ways = {plan.ROWS_WAY: "rows", plan.SHORT_WAY: "short", plan.COLUMNS_WAY: "columns"}
    items = plan.items_of(way, task.rows, task.classes, task.inner, unit.halves)
    run(f"{operation}_{ways[way]}", unit, task, items, plan.logits_of(way, task.classes, unit.halves), threads)


def run_shared(operation, unit, task, threads):
    """The steps of long rows, of as many as stay in cache from one step to the next."""
    sizes, blocks = unit.sizes, blocks_in(unit, task.classes)
    together = min(task.rows, unit.plan.IN_CACHE // task.classes or 1)
    pieces = -(-blocks // sizes.PIECE)
    shared = np.empty(together * (sizes.BLOCK_FIELDS * blocks + sizes.PARKED))
    kept = np.empty(together * blocks * sizes.BLOCK * unit.itemsize if task.keep == sizes.KEEP_PADDED else 0, np.uint8)
    task.sharing, task.shared, task.kept = True, address(shared), address(kept)
    for row in range(0, task.rows, together):
        task.first, n = row, min(together, task.rows - row)
        for step, items, logits, by in (
            ("pick", n, sizes.BLOCK, 1),
            ("reduce", n * pieces, sizes.PIECE * sizes.BLOCK, threads),
            ("settle", n, sizes.BLOCK, 1),
            ("write", n * pieces, sizes.PIECE * sizes.BLOCK, threads),
        ):
            if f"{operation}_{step}" in unit.kernels:
                run(f"{operation}_{step}", unit, task, items, logits, by)


def softmax(x, y, outer, classes, inner, x_stride, y_stride, scale, threads, scales=None):
    task = new_task(x, x_stride, outer, classes, inner, scale=scale, scales=address(scales))
    softmax_of(x, y, task, y_stride, threads)


def log_softmax(x, y, outer, classes, inner, x_stride, y_stride, scale, threads, scales=None):
    task = new_task(x, x_stride, outer, classes, inner, scale=scale, scales=address(scales), log=True)
    softmax_of(x, y, task, y_stride, threads)


def softmax_of(x, y, task, y_stride, threads):
    unit, apart = unit_for(x), address(x) != address(y)
    sizes, way = unit.sizes, unit.plan.way_of(task.rows, task.classes, task.inner, threads)
    task.y, task.y_stride = address(y), y_stride
    if task.log:
        task.keep = sizes.KEEP if apart and not unit.halves else sizes.DISCARD
    else:
        task.keep = unit.plan.keep_of(way, task.classes, not unit.halves)
    if apart and (task.log or task.keep != sizes.KEEP):
        task.past = unit.plan.past_caches(way, 2 * x.nbytes, LAST_CACHE, unit.halves)
        if task.past and task.log:
            task.keep = sizes.DISCARD
    run_way("softmax", way, unit, task, threads)


def logsumexp(x, lse, outer, classes, inner, x_stride, threads):
    unit, task = unit_for(x), new_task(x, x_stride, outer, classes, inner, lse=address(lse))
    run_way("logsumexp", unit.plan.way_of(outer, classes, inner, threads), unit, task, threads)


def argmax(x, indices, outer, classes, inner, x_stride, threads):
    unit, task = unit_for(x), new_task(x, x_stride, outer, classes, inner, indices=address(indices))
    run_way("argmax", unit.plan.way_of(outer, classes, inner, threads), unit, task, threads)


def softmax_blocks(x, peaks, sums, rests, rows, classes, x_stride, scale, threads):
    found = {"peaks": address(peaks), "sums": address(sums), "rests": address(rests)}
    task = new_task(x, x_stride, rows, classes, 1, scale=scale, **found)
    run("blocks_rows", unit_for(x), task, rows, classes, threads)


def softmax_merged(peaks, sums, rests, row_peaks, row_rests, classes, scale):
    found = {"peaks": address(peaks), "sums": address(sums), "rests": address(rests)}
    rows = {"row_peaks": address(row_peaks), "row_rests": address(row_rests)}
    task = new_task(peaks, 0, len(row_peaks), classes, 1, scale=scale, **found, **rows)
    run("merged_rows", unit_for(peaks), task, len(row_peaks), 1, 1)


def softmax_piece(x, y, peaks, rests, rows, classes, x_stride, y_stride, scale, log, threads):
    found = {"row_peaks": address(peaks), "row_rests": address(rests)}
    task = new_task(x, x_stride, rows, classes, 1, scale=scale, log=log, y=address(y), y_stride=y_stride, **found)
    run("piece_rows", unit_for(x), task, rows, classes, threads)


def softmax_backward(g, p, out, outer, classes, inner, g_stride, p_stride, out_stride, threads):
    task = new_task(g, g_stride, outer, classes, inner, y_stride=p_stride, z_stride=out_stride)
    gradient_of(g, p, out, task, threads)


def log_softmax_backward(g, log_p, out, outer, classes, inner, g_stride, log_p_stride, out_stride, threads):
    task = new_task(g, g_stride, outer, classes, inner, y_stride=log_p_stride, z_stride=out_stride, log=True)
    gradient_of(g, log_p, out, task, threads)


def gradient_of(g, p, out, task, threads):
    unit = unit_for(g)
    plan, way = unit.plan, unit.plan.gradient_way_of(task.rows, task.classes, task.inner, threads)
    task.y, task.z = address(p), address(out)
    if task.z not in (task.x, task.y):
        task.past = plan.past_caches(way, 3 * g.nbytes, LAST_CACHE, unit.halves)
    run_way("gradient", way, unit, task, threads)


def cross_entropy(arrays, outer, classes, inner, strides, options, grad_scale, threads):
    x, unit = arrays.logits, unit_for(arrays.logits)
    way, plan = unit.plan.way_of(outer, classes, inner, threads), unit.plan
    scale, prescale = plan.scale_of(options.logit_scale), plan.prescale_of(options.logit_scale)
    softcap, soft = options.softcap or 0.0, arrays.targets is not None
    loss = Loss(
        ignore_index=options.ignore_index, smoothing=options.label_smoothing, z_loss=options.z_loss, softcap=softcap,
        grad_scale=grad_scale * options.logit_scale, soft=soft, weighted=arrays.weight is not None,
        sampled=arrays.sample_weight is not None, upstream=arrays.grad_loss is not None,
        spread=soft or options.label_smoothing > 0, bent=softcap > 0 or prescale != 1.0, prescale=prescale,
        with_grad=arrays.grad is not None,
    )  # fmt: skip
    task = new_task(
        x, strides[0], outer, classes, inner, targets=address(arrays.targets), targets_stride=strides[1],
        y=address(arrays.grad), y_stride=strides[2], labels=address(arrays.labels), weight=address(arrays.weight),
        sample_weight=address(arrays.sample_weight), grad_loss=address(arrays.grad_loss),
        losses=address(arrays.losses), scale=scale, loss=loss,
    )  # fmt: skip
    if loss.with_grad:
        task.keep = plan.keep_of(way, classes, not unit.halves and not loss.bent)
        if task.keep != unit.sizes.KEEP and task.x != task.y:
            task.past = plan.past_caches(way, 2 * x.nbytes, LAST_CACHE, unit.halves)
    run_way("loss", way, unit, task, threads)


def count_labels(labels, weight, sample_weight, classes, ignore_index):
    """The first row with a label that is no class, or -1; what a mean divides by."""
    unit = unit_of("float32" if weight is None else weight.dtype.name)
    loss = Loss(ignore_index=ignore_index, weighted=weight is not None, sampled=sample_weight is not None)
    total, bad = np.empty(1), np.empty(1, np.intp)
    task = new_task(
        labels, 0, labels.size, classes, 1, labels=address(labels), weight=address(weight), loss=loss,
        sample_weight=address(sample_weight), losses=address(total), indices=address(bad),
    )  # fmt: skip
    run("count_rows", unit, task, task.rows, 0, 1)
    return int(bad[0]), float(total[0])


def moments(x, labels, results, outer, classes, inner, x_stride, beta, threads):
    task = new_task(x, x_stride, outer, classes, inner, scale=beta, labels=address(labels), results=address(results))
    unit = unit_for(x)
    run_way("moments", unit.plan.way_of(outer, classes, inner, threads), unit, task, threads)


def row_stats(
    x, labels, thresholds, results, outer, classes, inner, x_stride, ordered, ignore_index, threads, scale=1.0,
    scales=None, bias=None,
):  # fmt: skip
    unit, plan = unit_for(x), unit_for(x).plan
    where = {name: address(array) for name, array in results.items()}
    wanted = {f"with_{name}s": f"{name}" in where for name in ("label_logit", "peak", "rest", "moment", "second")}
    wanted |= {f"with_{name}": name in where for name in ("lse", "nll", "entropy", "max_prob", "margin")}
    top_k = results["top_ids"].shape[1] if "top_ids" in results else 0
    moment = "moment" in where or "entropy" in where
    ranked = "ahead" in where or "above" in where
    stats = Stats(
        label_logits=where.get("label_logit"), thresholds=address(thresholds), moments=where.get("moment"),
        seconds=where.get("second"), nll=where.get("nll"), entropy=where.get("entropy"),
        max_prob=where.get("max_prob"), margin=where.get("margin"), above=where.get("ahead", where.get("above")),
        top_values=where.get("top_values"), top_ids=where.get("top_ids"), top_k=top_k, ties="ahead" in where,
        moment=moment, sums=moment or not where.keys().isdisjoint(("rest", "lse", "nll", "max_prob")),
        located="argmax" in where, second="second" in where or "margin" in where, ranked=ranked,
        given=thresholds is not None, swept=len(where) > ("label_logit" in where), ordered=ordered,
        labelled="label_logit" in where or "nll" in where or (ranked and thresholds is None),
        sorting=top_k >= plan.SORT_K, **wanted,
    )  # fmt: skip
    task = new_task(
        x, x_stride, outer, classes, inner, labels=address(labels), stats=stats, row_peaks=where.get("peak"),
        row_rests=where.get("rest"), indices=where.get("argmax"), lse=where.get("lse"),
        loss=Loss(ignore_index=ignore_index), scale=scale, scales=address(scales), bias=address(bias),
        biased=bias is not None,
    )  # fmt: skip
    if inner == 1 and not stats.swept:
        run("stats_rows", unit, task, outer, 1, threads)
        return
    way = plan.ROWS_WAY
    if not stats.sorting:
        way = plan.stats_way_of(outer, classes, inner, threads, stats.top_k)
    run_way("stats", way, unit, task, threads)


def columns_pay(classes, top_k):
    """Whether statistics of columns are taken where they lie, and not from rows that they are copied to."""
    plan = unit_of("float32").plan
    few = top_k <= plan.COLUMN_K and classes <= plan.COLUMN_CLASSES
    return top_k == 0 or few or classes <= plan.STATS_CLASSES


def takes_bias(classes, top_k):
    """Whether statistics of rows come with a bias of each class; otherwise it is in the logits already."""
    return top_k == 0 and classes > unit_of("float32").plan.STATS_CLASSES


def filter_logits(x, y, rules, rows, classes, inner, x_stride, y_stride, threads):
    task = new_task(x, x_stride, rows, classes, inner, y=address(y), y_stride=y_stride)
    run_filters("filter", x, task, rules, threads)


def sample(x, rules, numbers, key_0, key_1, ids, log_probs, rows, classes, inner, x_stride, threads):
    drawn = {"indices": address(ids), "log_probs": address(log_probs)}
    task = new_task(x, x_stride, rows, classes, inner, numbers=address(numbers), key_0=key_0, key_1=key_1, **drawn)
    run_filters("sample", x, task, rules, threads)


def run_filters(name, x, task, rules, threads):
    unit = unit_for(x)
    task.rules, task.rules_stride = address(rules), unit.sizes.RULES if len(rules) > 1 else 0
    if task.classes <= COLUMNS:
        items = unit.plan.few_items(task.rows, task.classes, task.inner)
        run(f"{name}_short", unit, task, items, unit.plan.few_lanes(task.classes) * task.classes, threads)
        return
    survivors = unit.plan.room_of(task.classes)
    nbytes = unit.work_bytes + 8 * unit.sizes.SURVIVOR_FIELDS * unit.plan.field_of(survivors)
    share_out(f"{name}_rows", unit, task, task.rows, task.classes, threads, nbytes, survivors)
