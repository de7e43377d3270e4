"""The errors of this adapter."""


def no_array(name, value):
    return TypeError(f"{name}: expected an array, got {_kind(value)}")


def no_dimension(axis, name, dims):
    return ValueError(f"axis: expected a dimension of {name}, {tuple(dims)}, got {axis!r}")


def unknown_dimensions(name, extra, logits, dims):
    return ValueError(f"{name}: expected dimensions of {logits}, {tuple(dims)}, got {', '.join(map(repr, extra))} too")


def other_coordinates(name, dim, logits):
    return ValueError(f"{name}: expected the coordinates of {logits} along {dim!r}, got others; align them first")


def other_index(name, logits, own, other):
    at = next((i for i, (one, two) in enumerate(zip(own, other, strict=True)) if one != two), 0)
    return ValueError(
        f"{name}: expected the index (or names) of {logits}, {own[at]!r} at {at}, got {other[at]!r}; reindex it, or "
        f"pass {name}.to_numpy() where the order is the same"
    )


def lazy(name, value):
    return TypeError(f"{name}: expected an array in memory, got {_kind(value)}; pass {name}.collect()")


def on_a_device(name, device):
    return TypeError(f"{name}: expected an array in the CPU's memory, got one on device {device}; bring it here first")


def no_numpy_type(name, value, error):
    return TypeError(f"{name}: expected an array of a type that NumPy knows, got {_kind(value)} ({error})")


def no_numbers(name, column, dtype):
    if column is None:
        return TypeError(f"{name}: expected numbers, got {dtype}")
    return TypeError(f"{name}: expected numbers, but column {column!r} holds {dtype}; pass the classes alone")


def a_label(name, column, dtype):
    return TypeError(
        f"{name}: column {column!r} holds {dtype}, and has the name of labels, not of a class; drop it, or pass "
        f"{name}.to_numpy() if it is one"
    )


def missing_number(held, position, column=None):
    of = "" if column is None else f" of column {column!r}"
    way_out = "fill it" if column is None else "fill it, with -inf for a class that cannot be"
    return ValueError(f"{held.name}: expected numbers, got none at {held.row(position)}{of}; {way_out}")


# Labels


def missing_label(held, position, ignorable):
    way_out = ", or pass ignore_index=-100 to have them ignored" if ignorable else ""
    return ValueError(
        f"{held.name}: expected one in each row, got none at {held.place(position)}; drop such rows{way_out}"
    )


def not_the_classes(given, count):
    return ValueError(f"classes: expected {count} different names, one for each class, got {_listed(given)}")


def other_classes(given, names):
    return ValueError(
        f"classes: expected the names of the logits' classes in their order, {_listed(names)}, got {_listed(given)}"
    )


def repeated_names(name, names):
    return ValueError(f"{name}: expected one class for each name, but some of {_listed(names)} are alike")


def no_such_class(held, position, label, names):
    return ValueError(f"{held.name}: expected one of {_listed(names)}, got {label!r} at {held.place(position)}")


def no_names(name, categories, count):
    return TypeError(
        f"{name}: got names, {_listed(categories)}, and the {count} classes have none; name them in their order with "
        "classes=[...]"
    )


def no_whole_number(held, position, label):
    return TypeError(f"{held.name}: expected integer class indices, got {label} at {held.place(position)}")


def no_two_classes(name, count):
    return TypeError(f"{name}: expected integer class indices, got bool, which are labels of 2 classes, not of {count}")


def _listed(names):
    names = list(map(str, names))
    return ", ".join(names if len(names) <= 12 else [*names[:10], "...", names[-1]])


def _kind(value):
    kind = type(value)
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


# Tables of results


def no_table(name, known):
    return ValueError(f"library: expected one of {', '.join(map(repr, known))}, got {name!r}")


def no_library(name):
    return ImportError(f"RowStats.to_frame: makes a table of {name}, which is not installed; library= names another")


def lazy_fields():
    return TypeError("RowStats.to_frame: expected fields in memory, got lazy ones; call .compute() first")
