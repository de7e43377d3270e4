"""The errors of this adapter."""


def no_array(name, value):
    kind = type(value)
    return TypeError(f"{name}: expected an array, got {kind.__module__.partition('.')[0]}.{kind.__name__}")


def no_dimension(axis, name, dims):
    return ValueError(f"axis: expected a dimension of {name}, {tuple(dims)}, got {axis!r}")


def unknown_dimensions(name, extra, logits, dims):
    return ValueError(f"{name}: expected dimensions of {logits}, {tuple(dims)}, got {', '.join(map(repr, extra))} too")


def other_coordinates(name, dim, logits):
    return ValueError(f"{name}: expected the coordinates of {logits} along {dim!r}, got others; align them first")
