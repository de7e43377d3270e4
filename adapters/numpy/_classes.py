"""Labels as they come, by number or by name, as class indices."""

import re
from typing import NamedTuple

import numpy as np

from fastlogits.numpy import _checks


class Numbers(NamedTuple):
    """Labels that are numbers, and where there is none (None: nowhere)."""

    values: np.ndarray
    missing: np.ndarray | None = None

    def rows(self, axis):
        """The same without an axis, of length 1."""
        return Numbers(self.values.squeeze(axis), None if self.missing is None else self.missing.squeeze(axis))


class Names(NamedTuple):
    """Labels that are categories, by their places in a list, -1 where there is none.

    The order of the list means something if it was `declared`, and does not come of what happens to be there.
    """

    codes: np.ndarray
    categories: list
    declared: bool = False

    def rows(self, axis):
        return self._replace(codes=self.codes.squeeze(axis))

    def numbers(self):
        """The categories' own values where they are whole numbers or truth values; else None."""
        if all(isinstance(each, (bool, np.bool_)) for each in self.categories):
            values = np.array(self.categories, bool)
        elif all(re.fullmatch(r"-?\d+", key(each)) and not isinstance(each, str) for each in self.categories):
            values = np.array([int(each) for each in self.categories], np.int64)
        else:
            return None
        if not len(values):
            values = np.zeros(1, np.int64)
        missing = self.codes < 0
        return Numbers(values[np.maximum(self.codes, 0)], missing if missing.any() else None)


def read(array, name):
    """`Numbers` or `Names` of an array of NumPy; anything else as it is."""
    if type(array) is not np.ndarray or array.dtype.kind in "iub":
        return Numbers(array)
    if array.dtype.kind == "f":
        missing = np.isnan(array)
        return Numbers(array, missing if missing.any() else None)
    if array.dtype.kind in "UST":
        categories, codes = np.unique(array, return_inverse=True)
        if array.dtype.kind == "S":
            categories = np.strings.decode(categories)
        return Names(codes.reshape(array.shape), categories.tolist())
    if array.dtype.kind != "O":
        return Numbers(array)
    places = {}
    codes = np.array([-1 if none(each) else places.setdefault(each, len(places)) for each in array.flat], np.intp)
    return Names(codes.reshape(array.shape), list(places))


def none(value):
    """Whether a value stands for none: None, NaN, NA of pandas or NaT."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (value != value) is True


def key(name):
    """What a name and a category that mean the same have in common."""
    if isinstance(name, (float, np.floating)) and float(name).is_integer():
        name = int(name)
    return str(name)


class Classes(NamedTuple):
    """How many classes the logits have, and their names, if they have any."""

    count: int
    names: list | None

    @classmethod
    def of(cls, count, names, given):
        """Of the names that logits have by themselves, and those that a caller has given them."""
        names = None if names is None else list(map(key, names))
        if given is not None:
            given = list(map(key, given))
            if len(given) != count or len({*given}) != count:
                raise _checks.not_the_classes(given, count)
            if names is not None and any(a != b and a in names for a, b in zip(given, names, strict=True)):
                raise _checks.other_classes(given, names)
            return cls(count, given)
        return cls(count, names)

    def numbered(self):
        """The numbers of the classes in their names where these count otherwise than from 0 on in order; else None.

        Names that are nothing but numbers count, and so do those that differ by a number alone, from 0 on in disorder.
        """
        found = [re.fullmatch(r"(.*?)(-?\d+)", name, re.DOTALL) for name in self.names or ()]
        if not found or not all(found):
            return None
        numbers = [int(match[2]) for match in found]
        prefixes = {match[1] for match in found}
        in_order = numbers == list(range(self.count))
        known = prefixes == {""} or (len(prefixes) == 1 and sorted(numbers) == list(range(self.count)))
        return numbers if known and not in_order else None

    def named(self, categories, argument):
        """The class of each category, -1 where there is none of that name."""
        if len({*self.names}) != len(self.names):
            raise _checks.repeated_names(argument, self.names)
        places = {name: i for i, name in enumerate(self.names)}
        return np.array([places.get(key(each), -1) for each in categories] or [-1], np.intp)


def indices(labels, classes, held, ignore_index, ignorable):
    """Class indices of `Numbers` or `Names` that the argument `held` has; `ignore_index` where there is none.

    It is None where the caller has not said that missing labels are to be ignored, though they may be `ignorable`.
    """
    by_name = False
    if isinstance(labels, Names):
        labels, by_name = _of_names(labels, classes, held)
    values, missing = labels
    if type(values) is not np.ndarray:
        return values
    if missing is not None and missing.any():
        if ignore_index is None:
            raise _checks.missing_label(held, int(np.flatnonzero(missing)[0]), ignorable)
        values = np.where(missing, np.zeros((), values.dtype), values)
    values = _whole(values, held)
    if values.dtype == bool:
        values = _of_two(values, classes, held)
    elif values.dtype.kind in "iu" and not by_name and (numbers := classes.numbered()) is not None:
        values = _of_numbers(values, numbers, held, ignore_index)
    if missing is not None:
        values = values.astype(np.int64)
        values[missing] = ignore_index
    return values


def _of_names(labels, classes, held):
    """As `Numbers`, and whether these are the classes' and no names any more."""
    if (numbers := labels.numbers()) is not None:
        return numbers, False
    codes, categories, declared = labels
    missing = codes < 0
    if classes.names is not None:
        places = classes.named(categories, held.name)
        unknown = ~missing & (places[np.maximum(codes, 0)] < 0)
        if unknown.any():
            position = int(np.flatnonzero(unknown)[0])
            raise _checks.no_such_class(held, position, categories[codes.flat[position]], classes.names)
    elif declared and len(categories) == classes.count:
        places = np.arange(classes.count)
    else:
        raise _checks.no_names(held.name, categories, classes.count)
    return Numbers(places[np.maximum(codes, 0)], missing if missing.any() else None), True


def _whole(values, held):
    """Floats that are whole numbers as integers."""
    if values.dtype.kind != "f":
        return values
    whole = values.astype(np.float64)
    bad = ~(whole == np.rint(whole)) | (np.abs(whole) > 2.0**53)
    if bad.any():
        raise _checks.no_whole_number(held, int(np.flatnonzero(bad)[0]), values.flat[np.flatnonzero(bad)[0]])
    return whole.astype(np.int64)


def _of_two(values, classes, held):
    """Truth values as classes: by name where there are such, else False is the first of two."""
    if classes.names is not None and {"True", "False"} <= {*classes.names}:
        return classes.named([False, True], held.name)[values.astype(np.intp)]
    if classes.count != 2:
        raise _checks.no_two_classes(held.name, classes.count)
    return values.astype(np.int64)


def _of_numbers(values, numbers, held, ignore_index):
    order = np.argsort(numbers)
    known = np.asarray(numbers)[order]
    if len(np.unique(known)) != len(known):
        raise _checks.repeated_names(held.name, numbers)
    at = np.searchsorted(known, values).clip(max=len(known) - 1)
    found = known[at] == values
    ignored = values == (-100 if ignore_index is None else ignore_index)
    if not (found | ignored).all():
        position = int(np.flatnonzero(~(found | ignored))[0])
        raise _checks.no_such_class(held, position, values.flat[position], numbers)
    return np.where(found, order[at], values)
