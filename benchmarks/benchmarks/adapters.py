"""The time of the adapters, for the frameworks that are installed in the environment."""

import functools
import importlib.util
import os
import sys
from pathlib import Path

from .common import OPERATIONS, Inputs

FRAMEWORKS = tuple(
    name
    for name in ("torch", "tensorflow", "jax")
    if importlib.util.find_spec(name) and importlib.util.find_spec(f"fastlogits.{name}")
)


class Adapter:
    param_names = ("framework", "operation", "dtype", "size")
    params = (
        FRAMEWORKS,
        tuple(name for name in OPERATIONS if not name.endswith("_backward")),
        ("float32", "bfloat16"),
        ("32x10", "4096x1000", "256x32000"),
    )
    repeat = (3, 10, 0.4)
    timeout = 300

    def setup(self, framework, operation, dtype, size):
        sys.path.insert(0, str(Path(__file__).parents[1]))
        import contenders

        library = contenders.adapters(len(os.sched_getaffinity(0)), [framework])[f"fastlogits.{framework}"]
        contender = contenders.enter(library, operation, Inputs(size, dtype), {})
        self.call = functools.partial(contender.context.run, contender.call)

    def time_call(self, *_):
        self.call()


if not FRAMEWORKS:
    del Adapter
