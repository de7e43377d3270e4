"""What computes one number for each of a stretch, part of the primitives; each.h is its C."""

from fastlogits.kernels import machine, scalars

LOG2_E = scalars.LOG2_E
NEG_INF = float("-inf")


def flush_lanes(lanes, tiny):
    return machine.zero_below(machine.magnitude(lanes), tiny, lanes)


def scale_each(x, n, factor, out):
    """out_i = factor * x_i, 0 below the smallest normal number; out may be x"""
    w = machine.width(x)
    by = machine.splat(factor, x)
    tiny = machine.splat(2.0 ** machine.lowest(x), x)
    i = 0
    while i + w <= n:
        machine.write(out, i, flush_lanes(by * machine.read(x, i), tiny))
        i += w
    if i < n:
        machine.write_tail(out, i, n - i, flush_lanes(by * machine.read_tail(x, i, n - i, 0.0), tiny))


def exp_each(x, shift, n, scale, out):
    """out_i = exp(scale * (x_i - shift_i)); out may be x"""
    w = machine.width(x)
    rate = machine.splat(scale * LOG2_E, x)
    floor = machine.splat(machine.lowest(x) / (scale * LOG2_E), x)
    i = 0
    while i + w <= n:
        machine.write(out, i, scalars.exp_from(machine.read(x, i) - machine.read(shift, i), rate, floor))
        i += w
    if i < n:
        d = machine.read_tail(x, i, n - i, NEG_INF) - machine.read_tail(shift, i, n - i, 0.0)
        machine.write_tail(out, i, n - i, scalars.exp_from(d, rate, floor))
