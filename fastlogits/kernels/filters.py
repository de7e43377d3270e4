"""Filters of rows of logits by the rules of Hugging Face's processors, without sorting.

Each filter looks at what the ones before it left. These survivors stand in `scratch`, ordered by class: the logit
z, its mass exp(z - peak) with peak the row's largest z, and the class. All of it is in double.

What sorting would find, `select` finds by histograms: where the masses of the largest keys, added up, reach a
share. The key is z, or minus its distance from the mean. Most of a long row never becomes a survivor, because the
first filter sets a bound that no smaller z can pass. A row's `rules` are the parameters of its filters.

`scratch` has ROOM for so many survivors in each of its sections. A long row may have more: then it is left, with the
number NEEDED in `scratch`, for whoever called to come back to it with more memory.
"""

import math

from fastlogits.kernels import primitives, softmax


def room_of(classes):
    """The room to begin with: for all classes of rows that are not very long, and for what is known of all spans."""
    spans = (classes + primitives.SPAN - 1) // primitives.SPAN
    return max(primitives.BUCKETS, max(spans, min(classes, primitives.MOST_ROOM)))


def size_of(room):
    """How many numbers `scratch` has."""
    return primitives.FIRST_SECTION + primitives.SECTIONS * room


def section(scratch, index):
    """A part of the scratch memory."""
    room = primitives.whole(scratch[primitives.ROOM])
    return primitives.stretch(scratch, primitives.FIRST_SECTION + index * room, room)


def scaled(x, at, size, temperature, work, storage):
    """z_j = x_j / temperature"""
    logits = primitives.load(x, at, size, primitives.slot(work, 0), storage)
    if temperature == 1.0:
        return logits
    z = primitives.slot(work, 1)
    divisor = primitives.cast(temperature, work)
    for j in range(size):
        z[j] = logits[j] / divisor
    return z


def find_peaks(x, at, classes, temperature, scratch, work, storage):
    """The largest z of each span of the row; returns the largest of them all, or NaN if there is one."""
    peaks = section(scratch, primitives.SPAN_PEAK)
    peak = primitives.NEG_INF
    for span in range((classes + primitives.SPAN - 1) // primitives.SPAN):
        start = span * primitives.SPAN
        size = min(primitives.SPAN, classes - start)
        z = scaled(x, at + start, size, temperature, work, storage)
        peaks[span] = primitives.maximum_or_nan(z, size)
        if peaks[span] != peaks[span]:
            return primitives.NAN
        if peaks[span] > peak:
            peak = peaks[span]
    return peak


def widen(x, at, size, temperature, wide, work, storage):
    """wide_j = z_j in double"""
    z = scaled(x, at, size, temperature, work, storage)
    for j in range(size):
        wide[j] = z[j]


def row_mass(x, at, classes, temperature, peak, scratch, work, storage):
    """sum_j exp(z_j - peak)"""
    wide = section(scratch, primitives.KEY)
    total = 0.0
    for block in range(softmax.blocks_of(classes)):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        widen(x, at + start, size, temperature, wide, work, storage)
        total += primitives.sum_exp(wide, size, peak, 1.0)
    return total


def gather(x, at, classes, temperature, bound, scratch, work, storage):
    """Makes survivors of the finite z from `bound` on; returns how many, or NO_ROOM."""
    room = primitives.whole(scratch[primitives.ROOM])
    peaks = section(scratch, primitives.SPAN_PEAK)
    survivors = section(scratch, primitives.SURVIVOR)
    ids = section(scratch, primitives.SURVIVOR_ID)
    n = 0
    more = 0
    for span in range((classes + primitives.SPAN - 1) // primitives.SPAN):
        if peaks[span] >= bound:
            start = span * primitives.SPAN
            size = min(primitives.SPAN, classes - start)
            z = scaled(x, at + start, size, temperature, work, storage)
            if n + size > room:
                for j in range(size):
                    more += 1 if z[j] >= bound else 0
            else:
                for j in range(size):
                    survivors[n] = z[j]
                    ids[n] = start + j
                    n += 1 if z[j] >= bound else 0
    if more > 0:
        scratch[primitives.NEEDED] = n + more + primitives.SPAN
        return primitives.NO_ROOM
    return n


def distance(key, high, unit, rate):
    """From the largest key, in buckets."""
    return (high * unit - key * unit) * rate


def bucket(key, high, unit, rate, last):
    """Which of the buckets [0, last] holds `key`, the largest keys in the first."""
    place = distance(key, high, unit, rate)
    return primitives.whole(place) if place < last else last


def unit_of(span):
    """A power of 2 times which keys can be subtracted, and their number divided by the span, without overflow."""
    if span == primitives.INF:
        return 0.5
    return 2.0**500 if span < 2.0**-900 else 1.0


def select(key, mass, n, total, rest, scratch):
    """The key at which the masses of the largest keys leave at most `rest` of `total`; the smallest if none does.

    `found` then has the mass of all larger keys, and that of one with this key. Each round leaves one bucket of keys.
    """
    narrowed = section(scratch, primitives.NARROWED)
    narrowed_mass = section(scratch, primitives.NARROWED_MASS)
    histogram = section(scratch, primitives.HISTOGRAM)
    found = section(scratch, primitives.FOUND)
    before = 0.0
    high = primitives.maximum(key, n)
    low = primitives.minimum(key, n)
    while low < high:
        last = min(n, primitives.BUCKETS) - 1
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
            gap = distance(key[i], high, unit, rate) - (chosen + 0.5)
            if (gap if gap > 0.0 else -gap) < 1.0 and bucket(key[i], high, unit, rate, last) == chosen:
                narrowed[size] = key[i]
                narrowed_mass[size] = mass[i]
                size += 1
        key = narrowed
        mass = narrowed_mass
        n = size
        high = primitives.maximum(key, n)
        low = primitives.minimum(key, n)
    found[primitives.BEFORE] = before
    found[primitives.ONE] = mass[0]
    return high


def nth(key, n, count, scratch):
    """The `count`-th largest of n keys."""
    ones = section(scratch, primitives.NARROWED_MASS)
    for i in range(n):
        ones[i] = 1.0
    return select(key, ones, n, n, n - count, scratch)


def count_at(key, n, threshold):
    count = 0
    for i in range(n):
        count += 1 if key[i] == threshold else 0
    return count


def keep(key, n, threshold, first, last, ties, min_keep, scratch):
    """Keeps the survivors with keys above `threshold`, and [first, last) of those at it; returns how many.

    At least `min_keep` stay: if need be the threshold sinks to the last of them, and `ties` says which of those at
    it stay.
    """
    if min_keep >= n:
        return n
    above = primitives.count_above(key, n, threshold)
    at_threshold = count_at(key, n, threshold)
    last = min(last, at_threshold)
    if above + last - first < min_keep:
        threshold = nth(key, n, min_keep, scratch)
        above = primitives.count_above(key, n, threshold)
        at_threshold = count_at(key, n, threshold)
        first = 0
        last = at_threshold
        if ties == primitives.FIRST_TIES:
            last = min_keep - above
        elif ties == primitives.LAST_TIES:
            first = last - (min_keep - above)
    survivors = section(scratch, primitives.SURVIVOR)
    mass = section(scratch, primitives.SURVIVOR_MASS)
    ids = section(scratch, primitives.SURVIVOR_ID)
    if last - first < at_threshold:
        place = 0
        for i in range(n):
            if key[i] == threshold:
                if place < first or place >= last:
                    key[i] = primitives.NEG_INF
                place += 1
    kept = 0
    for i in range(n):
        # Written whether it stays or not: of branches here half would be mispredicted.
        survivors[kept] = survivors[i]
        mass[kept] = mass[i]
        ids[kept] = ids[i]
        kept += 1 if key[i] >= threshold else 0
    return kept


def keep_top_p(n, top_p, total, min_keep, scratch):
    """Drops z as long as the mass of all that are not larger is at most 1 - top_p of the total."""
    survivors = section(scratch, primitives.SURVIVOR)
    mass = section(scratch, primitives.SURVIVOR_MASS)
    found = section(scratch, primitives.FOUND)
    rest = (1.0 - top_p) * total
    threshold = select(survivors, mass, n, total, rest, scratch)
    at_threshold = count_at(survivors, n, threshold)
    stay = 1
    while stay < at_threshold and total - (found[primitives.BEFORE] + stay * found[primitives.ONE]) > rest:
        stay += 1
    first = at_threshold - stay
    return keep(
        survivors, n, threshold, first, at_threshold, primitives.LAST_TIES, min_keep, scratch
    )


def keep_probable(n, cutoff, total, ties, min_keep, scratch):
    """Drops z with mass / total < cutoff."""
    survivors = section(scratch, primitives.SURVIVOR)
    mass = section(scratch, primitives.SURVIVOR_MASS)
    lowest = primitives.INF
    for i in range(n):
        if mass[i] / total >= cutoff and survivors[i] < lowest:
            lowest = survivors[i]
    return keep(survivors, n, lowest, 0, n, ties, min_keep, scratch)


def mean(n, peak, total, scratch):
    """sum_i mass_i (z_i - peak) / total"""
    survivors = section(scratch, primitives.SURVIVOR)
    mass = section(scratch, primitives.SURVIVOR_MASS)
    terms = section(scratch, primitives.KEY)
    for i in range(n):
        terms[i] = primitives.weigh(mass[i], survivors[i] - peak)
    return primitives.total(terms, n) / total


def keep_typical(n, typical_p, peak, total, min_keep, scratch):
    """Keeps the z nearest to the mean, up to the first with which they have typical_p of the mass, and its equals.

    -log p_i - H = sum_j p_j z_j - z_i: the distance of the surprise from the entropy H is that of z from its mean.
    """
    survivors = section(scratch, primitives.SURVIVOR)
    mass = section(scratch, primitives.SURVIVOR_MASS)
    key = section(scratch, primitives.KEY)
    center = mean(n, peak, total, scratch)
    for i in range(n):
        gap = (survivors[i] - peak) - center
        key[i] = primitives.larger(gap if gap < 0.0 else -gap, primitives.LOWEST)
    threshold = select(key, mass, n, total, (1.0 - typical_p) * total, scratch)
    # Classes above and below the mean that are as far from it are so to within the rounding.
    threshold = primitives.larger(threshold - primitives.NEAR * (1.0 - threshold), primitives.LOWEST)
    return keep(key, n, threshold, 0, n, primitives.FIRST_TIES, min_keep, scratch)


def eta_cutoff(n, eta, peak, total, scratch):
    """min(eta, sqrt(eta) exp(-H)), H the entropy."""
    entropy = math.log(total) - mean(n, peak, total, scratch)
    return min(eta, math.sqrt(eta) * math.exp(-entropy))


def first_bound(rules, at, classes, peak, total, scratch):
    """No z below this passes the first of the filters; `total` where that needs it."""
    top_k = primitives.whole(rules[at + primitives.TOP_K])
    count = primitives.whole(rules[at + primitives.MIN_KEEP])
    bound = peak
    if top_k < classes:
        count = max(top_k, count)
    else:
        least = 0.0
        if rules[at + primitives.TOP_P] < 1.0:
            least = (1.0 - rules[at + primitives.TOP_P]) * total / classes
        elif rules[at + primitives.MIN_P] > 0.0:
            least = rules[at + primitives.MIN_P]
        elif rules[at + primitives.TYPICAL_P] == 1.0:
            least = rules[at + primitives.EPSILON] * total
        if least == 0.0:
            return primitives.LOWEST
        bound = min(peak, peak + math.log(least) - 1e-6)  # well below what rounding may do to it
    spans = (classes + primitives.SPAN - 1) // primitives.SPAN
    if count > spans:
        return primitives.LOWEST
    if count > 1:
        # As many spans have a z of this size.
        peaks = section(scratch, primitives.SPAN_PEAK)
        bound = min(bound, nth(peaks, spans, count, scratch))
    return max(bound, primitives.LOWEST)


def filter_row(x, at, rules, rules_at, classes, scratch, work, storage):
    """Leaves in `scratch` the survivors of all filters; returns how many, NO_ROOM, or -1 for a row with NaN or +inf."""
    min_keep = primitives.whole(rules[rules_at + primitives.MIN_KEEP])
    top_k = primitives.whole(rules[rules_at + primitives.TOP_K])
    top_p = rules[rules_at + primitives.TOP_P]
    min_p = rules[rules_at + primitives.MIN_P]
    typical_p = rules[rules_at + primitives.TYPICAL_P]
    epsilon = rules[rules_at + primitives.EPSILON]
    eta = rules[rules_at + primitives.ETA]
    temperature = rules[rules_at + primitives.TEMPERATURE]
    survivors = section(scratch, primitives.SURVIVOR)
    mass = section(scratch, primitives.SURVIVOR_MASS)

    peak = find_peaks(x, at, classes, temperature, scratch, work, storage)
    if not peak < primitives.INF:
        return -1
    if peak == primitives.NEG_INF:
        return 0
    # A filter by the share of the whole row's mass must know it even where it looks at the top of the row only.
    by_share = top_p < 1.0 or (min_p == 0.0 and typical_p == 1.0 and epsilon > 0.0)
    whole = by_share and top_k >= classes
    total = row_mass(x, at, classes, temperature, peak, scratch, work, storage) if whole else 0.0
    bound = first_bound(rules, rules_at, classes, peak, total, scratch)
    n = gather(x, at, classes, temperature, bound, scratch, work, storage)
    if n < 0:
        return n
    if top_k < classes:
        top_k = max(top_k, min_keep)
        n = keep(survivors, n, primitives.INF, 0, 0, primitives.ALL_TIES, top_k, scratch)
    left = primitives.keep_exp(survivors, n, peak, 1.0, mass, primitives.KEEP)
    if not whole:
        total = left
    if top_p < 1.0:
        n = keep_top_p(n, top_p, total, min_keep, scratch)
        total = primitives.total(mass, n)
    if min_p > 0.0:
        n = keep_probable(n, min_p, 1.0, primitives.FIRST_TIES, min_keep, scratch)
        total = primitives.total(mass, n)
    if typical_p < 1.0:
        n = keep_typical(n, typical_p, peak, total, min_keep, scratch)
        total = primitives.total(mass, n)
    if epsilon > 0.0:
        n = keep_probable(n, epsilon, total, primitives.ALL_TIES, min_keep, scratch)
        total = primitives.total(mass, n)
    if eta > 0.0:
        eta = eta_cutoff(n, eta, peak, total, scratch)
        n = keep_probable(n, eta, total, primitives.ALL_TIES, min_keep, scratch)
    return n


def unfiltered(rules, at, classes):
    """Whether every class survives, if its logit is finite."""
    by_rank = rules[at + primitives.TOP_K] < classes or rules[at + primitives.TOP_P] < 1.0
    by_mass = rules[at + primitives.MIN_P] > 0.0 or rules[at + primitives.EPSILON] > 0.0
    by_entropy = rules[at + primitives.TYPICAL_P] < 1.0 or rules[at + primitives.ETA] > 0.0
    return not (by_rank or by_mass or by_entropy)


def fill(y, at, n, value, work, storage):
    """y_j = value"""
    values = primitives.slot(work, 0)
    for j in range(min(primitives.BLOCK, n)):
        values[j] = primitives.cast(value, work)
    for block in range(softmax.blocks_of(n)):
        start = block * primitives.BLOCK
        primitives.store(y, at + start, min(primitives.BLOCK, n - start), values, storage)


def divide_row(x, at, y, y_at, classes, temperature, scratch, work, storage):
    """y_j = x_j / temperature; NaN for a row with NaN or +inf."""
    if not find_peaks(x, at, classes, temperature, scratch, work, storage) < primitives.INF:
        fill(y, y_at, classes, primitives.NAN, work, storage)
        return
    for block in range(softmax.blocks_of(classes)):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        z = scaled(x, at + start, size, temperature, work, storage)
        primitives.store(y, y_at + start, size, z, storage)


def filter_rows(x, x_stride, y, y_stride, rules, rules_stride, classes, scratch, work, storage, start, stop):
    """y_j = x_j / temperature where class j survives, else -inf; NaN for a row with NaN or +inf.

    Returns `stop`, or the row for which there is no room.
    """
    survivors = section(scratch, primitives.SURVIVOR)
    ids = section(scratch, primitives.SURVIVOR_ID)
    value = primitives.slot(work, 0)
    for row in range(start, stop):
        at = row * x_stride
        y_at = row * y_stride
        rules_at = row * rules_stride
        if unfiltered(rules, rules_at, classes):
            temperature = rules[rules_at + primitives.TEMPERATURE]
            divide_row(x, at, y, y_at, classes, temperature, scratch, work, storage)
            continue
        n = filter_row(x, at, rules, rules_at, classes, scratch, work, storage)
        if n == primitives.NO_ROOM:
            return row
        fill(y, y_at, classes, primitives.NAN if n < 0 else primitives.NEG_INF, work, storage)
        for i in range(n):
            value[0] = primitives.cast(survivors[i], work)
            primitives.store(y, y_at + primitives.whole(ids[i]), 1, value, storage)
    return stop
