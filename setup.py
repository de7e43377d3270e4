"""The compiled kernels, one build per instruction set, and adapters/<name> as fastlogits.<name>."""

import copy
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
import time
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PARTS = (
    "backends", "backends.cython", "backends.numba", "backends.numpy", "calibration", "cli", "cli.formats",
    "conformal", "kernels",
)  # fmt: skip
ADAPTERS = sorted(path.parent.name for path in Path("adapters").glob("*/__init__.py"))

TEAM = Path("fastlogits/backends/team")
TEXT = Path("fastlogits/kernels")
HEADER = "fastlogits/include/fastlogits.h"
STORED = {"float32": "FLOAT32", "float64": "FLOAT64", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}

X86 = platform.machine().lower() in ("x86_64", "amd64")
LEVELS = {"v2": "x86-64-v2", "v3": "x86-64-v3", "v4": "x86-64-v4"} if X86 else {}
# FASTLOGITS_BUILD_ISA=v4, or v3,v4: these alone; generic is what any processor of the kind runs (SSE2 on x86-64).
WANTED = os.environ.get("FASTLOGITS_BUILD_ISA", "").replace(",", " ").split() or list(LEVELS) or ["generic"]
MARCH = {name: march for name, march in {"generic": None, **LEVELS}.items() if name in WANTED}
if unknown := set(WANTED) - set(MARCH):
    raise SystemExit(f"fastlogits: FASTLOGITS_BUILD_ISA is {', '.join(['generic', *LEVELS])}, not {', '.join(unknown)}")

# Never -ffast-math: NaN must stay NaN, and -fassociative-math would reorder the formulas. Multiply-add is fused where
# the text says fma, nowhere else, so that two compilers round alike.
FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-ffp-contract=off"]

QUIET = ["-Wno-unused-function"]  # each unit has all of the text

# Nothing here relies on the interpreter lock: what is global is written while a module is imported, or is atomic.
DIRECTIVES = {
    "boundscheck": False, "wraparound": False, "cdivision": True, "language_level": 3, "freethreading_compatible": True,
}  # fmt: skip

# For `make test-sanitized`. Python's own -fwrapv would make overflows defined.
SANITIZE = [
    "-O1", "-g", "-fno-omit-frame-pointer", "-fno-wrapv", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
] if os.environ.get("FASTLOGITS_SANITIZE") == "1" else []  # fmt: skip


def read_text():
    """kernels/unit.py, which makes one Cython file of the text; the package cannot be imported before it is built."""
    spec = importlib.util.spec_from_file_location("unit", TEXT / "unit.py")
    unit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unit)
    return unit


def compiler_is_there():
    """Asked before anything is translated, which takes a minute."""
    words = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    for program in words[: 2 if "ccache" in words[0] else 1]:
        if not shutil.which(program):
            raise SystemExit(
                f"fastlogits: no C compiler ({program}) found; install GCC or Clang, or set "
                "FASTLOGITS_SKIP_EXTENSION=1 to go without the compiled kernels (Numba and NumPy backends)"
            )


def unit(name, sources, march, macro):
    """The text, or probes of the machine, for one instruction set and type of array."""
    return Extension(
        name,
        sources,
        include_dirs=[str(TEXT)],
        define_macros=[("STORED", macro), ("CYTHON_INLINE", "inline __attribute__((always_inline))")],
        depends=[str(TEXT / "machine.h")],
        extra_compile_args=[*FLAGS, *([f"-march={march}", "-mprefer-vector-width=512"] if march else []), *QUIET],
    )


def extensions():
    compiler_is_there()
    import numpy
    from Cython.Build import cythonize

    plain = [
        Extension(
            "fastlogits.backends._team",
            ["fastlogits/backends/_team.pyx", *map(str, sorted(TEAM.glob("*.c")))],
            include_dirs=["fastlogits/backends"],
            depends=[str(path) for path in TEAM.glob("*.h")],
            extra_compile_args=["-O2"],
            extra_link_args=["-pthread"],
        ),
    ]
    read_text().write(Path("build/text"))
    # This folder too: whoever builds a wheel does not have it on the path.
    include_path = [".", str(TEXT), "build/text"]
    (text,) = cythonize(
        [Extension("unit", ["build/text/unit.pyx"])],
        build_dir="build",
        include_path=include_path,
        compiler_directives={**DIRECTIVES, "infer_types": True},
    )
    units = [
        unit(f"fastlogits.backends.cython.units.{name}_{stored}", text.sources, march, macro)
        for name, march in MARCH.items()
        for stored, macro in STORED.items()
    ]
    callers = [
        Extension(
            f"fastlogits.backends.cython.{name}",
            [f"fastlogits/backends/cython/{name}.pyx"],
            include_dirs=[numpy.get_include(), "fastlogits/backends", "fastlogits/include", str(TEXT)],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            depends=["build/text/task.pxi", "build/text/plan.pxi", str(TEXT / "machine.h"), HEADER],
        )
        for name in ("_core", "_calls", "_calls_filters", "_calls_stats", "_cpu", "_plain")
    ]
    # They declare what they need of frameworks by themselves: they are built, and work, whatever is there later.
    native = [
        Extension(
            f"fastlogits.{adapter}.{name}",
            [f"adapters/{adapter}/{name}.pyx"],
            include_dirs=[numpy.get_include(), "fastlogits/backends", "fastlogits/include", str(TEXT)],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            depends=[*map(str, Path("adapters", adapter).glob("*.h")), HEADER],
        )
        for adapter, name in (("jax", "_handler"), ("torch", "_native"))
    ]
    # Registered where TensorFlow's library is.
    operators = Extension(
        "fastlogits.tensorflow._ops",
        ["adapters/tensorflow/_ops.c"],
        include_dirs=["fastlogits/include"],
        depends=["adapters/tensorflow/tensorflow_c.h", HEADER],
    )
    written = cythonize(
        [*plain, *native, *callers],
        build_dir="build",
        include_path=include_path,
        compiler_directives=DIRECTIVES,
    )
    return [*written, *([operators] if sys.platform == "linux" else []), *units]


class BuildKernels(build_ext):
    def run(self):
        self.parallel = self.parallel or os.cpu_count()
        for extension in self.extensions:
            extension.depends.append("setup.py")  # which has the compiler's options
        if self.inplace or self.editable_mode:
            units = Path("fastlogits/backends/cython/units")
            units.mkdir(exist_ok=True)
            for name in {"generic", *LEVELS} - set(MARCH):  # or they would go on as they are, whatever is edited
                for path in units.glob(f"{name}_*"):
                    path.unlink()
        super().run()

    def build_extension(self, extension):
        # The objects for each type and instruction set come from one C file: keep them apart.
        extension.extra_compile_args += ["-g0", *SANITIZE]  # debug symbols would be four fifths of a wheel
        extension.extra_link_args += SANITIZE
        apart = copy.copy(self)
        apart.build_temp = os.path.join(self.build_temp, extension.name)
        built, start = Path(self.get_ext_fullpath(extension.name)), time.time()
        build_ext.build_extension(apart, extension)
        if built.exists() and built.stat().st_mtime >= start:
            print(f"compiled {extension.name} in {time.time() - start:.0f} s", flush=True)


# Metadata and an sdist ask for no compiler, and take no minute.
BUILDING = {"build", "build_ext", "bdist_wheel", "editable_wheel", "install", "develop"} & set(sys.argv)
SKIP = os.environ.get("FASTLOGITS_SKIP_EXTENSION") == "1"

setup(
    packages=["fastlogits", *(f"fastlogits.{name}" for name in (*PARTS, *ADAPTERS))],
    package_dir={f"fastlogits.{name}": f"adapters/{name}" for name in ADAPTERS},
    ext_modules=extensions() if BUILDING and not SKIP else [],
    cmdclass={"build_ext": BuildKernels},
)
