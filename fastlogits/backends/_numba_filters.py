"""filter_logits and sample, by Numba."""

from fastlogits.backends import _numba_text as text
from fastlogits.backends._numba_drivers import flat, plain, quiet, run, storage_of
from fastlogits.backends._numba_text import primitives

filter_rows = plain(text.filters.filter_rows)
sample_rows = plain(text.sampling.sample_rows)


@quiet
def filter_logits(x, y, rules, rows, classes, x_stride, y_stride, threads):
    args = flat(x, (rows - 1) * x_stride + classes), x_stride, flat(y, (rows - 1) * y_stride + classes), y_stride
    run_in_scratch(filter_rows, rows, threads, classes, storage_of(x), *args, *flat_rules(rules))


@quiet
def sample(x, rules, numbers, key_0, key_1, ids, log_probs, rows, classes, x_stride, threads):
    args = flat(x, (rows - 1) * x_stride + classes), x_stride, *flat_rules(rules), numbers, key_0, key_1, ids, log_probs
    run_in_scratch(sample_rows, rows, threads, classes, storage_of(x), *args)


def flat_rules(rules):
    return flat(rules), rules.shape[1] if len(rules) > 1 else 0


def run_in_scratch(driver, rows, threads, classes, storage, *args):
    fields = primitives.SECTIONS * max(classes, primitives.BUCKETS)
    run(driver, rows, threads, classes, 1, storage, *args, classes, fields=fields)
