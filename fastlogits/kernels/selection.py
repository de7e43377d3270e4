"""Which of the survivors stay, see filters.py: the threshold that sorting would find, by histograms."""

from fastlogits.kernels import machine
from fastlogits.kernels.doubles import count_from, largest_of
from fastlogits.kernels.sizes import BUCKETS

ALL_TIES, FIRST_TIES, LAST_TIES = 0, 1, 2  # which of equal keys stay
FEW_RANKS = 24  # which are found faster one after another
LOWEST = -1.7976931348623157e308
ON_LIMIT = 2.0**-42  # what comes as near as this to a limit is on it


def distance(key, high, unit, rate):
    """From the largest key, in buckets."""
    return (high * unit - key * unit) * rate


def bucket(key, high, unit, rate, last):
    """Which of the buckets [0, last] holds `key`, the largest keys in the first."""
    place = distance(key, high, unit, rate)
    return machine.whole(place) if place < last else last


def unit_of(span):
    """A power of 2 times which keys can be subtracted, and their number divided by the span, without overflow."""
    if span == machine.INF:
        return 0.5
    return 2.0**500 if span < 2.0**-900 else 1.0


def select_key(key, mass, n, total, rest, survivors):
    """The key at which the masses of the largest keys leave at most `rest` of `total`, the smallest if none does; the
    mass of all larger keys; that of one with this key. Each round leaves one bucket of keys.
    """
    histogram = survivors.histogram
    before = 0.0
    high = largest_of(key, n, 1.0)
    low = -largest_of(key, n, -1.0)
    while low < high:
        last = min(n, BUCKETS) - 1
        unit = unit_of(high - low)
        rate = (last + 1) / (high * unit - low * unit)
        for b in range(last + 1):
            histogram[b] = 0.0
        for i in range(n):
            histogram[bucket(key[i], high, unit, rate, last)] += mass[i]
        chosen = 0
        while chosen < last and total - (before + histogram[chosen]) > rest:
            before += histogram[chosen]
            chosen += 1
        size = 0
        # Most keys are far from this bucket, which one comparison shows; two would be mispredicted.
        for i in range(n):
            if abs(distance(key[i], high, unit, rate) - (chosen + 0.5)) < 1.0:
                if bucket(key[i], high, unit, rate, last) == chosen:
                    survivors.narrowed[size] = key[i]
                    survivors.narrowed_mass[size] = mass[i]
                    size += 1
        key = survivors.narrowed
        mass = survivors.narrowed_mass
        n = size
        high = largest_of(key, n, 1.0)
        low = -largest_of(key, n, -1.0)
    return high, before, mass[0]


def nth(key, n, count, survivors):
    """The `count`-th largest of n keys: by insertion into the largest so far where these are few."""
    largest = survivors.narrowed_mass
    if count > FEW_RANKS:
        for i in range(n):
            largest[i] = 1.0
        threshold, _, _ = select_key(key, largest, n, n, n - count, survivors)
        return threshold
    for i in range(count):
        largest[i] = -machine.INF
    for i in range(n):
        if key[i] > largest[count - 1]:
            place = count - 1
            while place > 0 and largest[place - 1] < key[i]:
                largest[place] = largest[place - 1]
                place -= 1
            largest[place] = key[i]
    return largest[count - 1]


def count_at(key, n, threshold):
    count = 0
    for i in range(n):
        count += 1 if key[i] == threshold else 0
    return count


def keep(key, n, threshold, first, last, ties, min_keep, survivors):
    """Keeps the survivors with keys above `threshold`, and [first, last) of those at it; returns how many.

    At least `min_keep` stay: if need be the threshold sinks to the last of them, and `ties` says which of those at
    it stay.
    """
    if min_keep >= n:
        return n
    at_threshold = count_at(key, n, threshold)
    above = count_from(key, n, threshold) - at_threshold
    last = min(last, at_threshold)
    if above + last - first < min_keep:
        threshold = nth(key, n, min_keep, survivors)
        at_threshold = count_at(key, n, threshold)
        above = count_from(key, n, threshold) - at_threshold
        first = 0
        last = at_threshold
        if ties == FIRST_TIES:
            last = min_keep - above
        elif ties == LAST_TIES:
            first = last - (min_keep - above)
    if last - first < at_threshold:
        place = 0
        for i in range(n):
            if key[i] == threshold:
                if place < first or place >= last:
                    key[i] = -machine.INF
                place += 1
    kept = 0
    for i in range(n):
        # Written whether it stays or not: of branches here half would be mispredicted.
        survivors.z[kept] = survivors.z[i]
        survivors.mass[kept] = survivors.mass[i]
        survivors.id[kept] = survivors.id[i]
        kept += 1 if key[i] >= threshold else 0
    return kept
