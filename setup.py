"""The compiled kernels, one build per instruction set, and adapters/<name> as fastlogits.<name>."""

import copy
import importlib.util
import os
import platform
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PARTS = ("backends", "backends.units", "calibration", "cli", "cli.formats", "kernels")
ADAPTERS = sorted(path.parent.name for path in Path("adapters").glob("*/__init__.py"))

TEAM = Path("fastlogits/backends/team")
TEXT = Path("fastlogits/kernels")
STORED = {"float32": "FLOAT32", "float64": "FLOAT64", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}

X86 = platform.machine().lower() in ("x86_64", "amd64")
MARCH = {"v2": "x86-64-v2", "v3": "x86-64-v3", "v4": "x86-64-v4"} if X86 else {"generic": None}

# Never -ffast-math: NaN must stay NaN, and -fassociative-math would reorder the formulas. Multiply-add is fused where
# the text says fma, nowhere else, so that two compilers round alike.
FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-ffp-contract=off"]


def read_text():
    """kernels/unit.py, which makes one Cython file of the text; the package cannot be imported before it is built."""
    spec = importlib.util.spec_from_file_location("unit", TEXT / "unit.py")
    unit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unit)
    return unit


def extensions():
    import numpy
    from Cython.Build import cythonize

    directives = {"boundscheck": False, "wraparound": False, "cdivision": True, "language_level": 3}
    plain = [
        Extension("fastlogits.backends._cpu", ["fastlogits/backends/_cpu.pyx"]),
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
    (text,) = cythonize(
        [Extension("unit", ["build/text/unit.pyx"])],
        build_dir="build",
        include_path=[str(TEXT), "build/text"],
        compiler_directives={**directives, "infer_types": True},
    )
    units = [
        Extension(
            f"fastlogits.backends.units.{name}_{stored}",
            text.sources,
            include_dirs=[str(TEXT)],
            define_macros=[("STORED", macro), ("CYTHON_INLINE", "inline __attribute__((always_inline))")],
            depends=[str(TEXT / "machine.h")],
            extra_compile_args=[*FLAGS, *([f"-march={march}", "-mprefer-vector-width=512"] if march else [])],
        )
        for name, march in MARCH.items()
        for stored, macro in STORED.items()
    ]
    callers = [
        Extension(
            f"fastlogits.backends.{name}",
            [f"fastlogits/backends/{name}.pyx"],
            include_dirs=[numpy.get_include(), "fastlogits/backends", str(TEXT)],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            depends=["build/text/task.pxi", "build/text/plan.pxi", str(TEXT / "machine.h")],
        )
        for name in ("_calls", "_calls_filters", "_calls_stats")
    ]
    # Declares what it needs of XLA by itself, so that it is built, and works, whatever JAX is there later.
    xla = Extension(
        "fastlogits.jax._handler",
        ["adapters/jax/_handler.pyx"],
        include_dirs=[numpy.get_include(), "fastlogits/backends"],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        depends=["adapters/jax/xla_ffi.h", "adapters/jax/xla_team.h"],
    )
    written = cythonize(
        [*plain, xla, *callers],
        build_dir="build",
        include_path=[str(TEXT), "build/text"],
        compiler_directives=directives,
    )
    return [*written, *units]


class BuildKernels(build_ext):
    def run(self):
        compiler = os.environ.get("CC", "cc").split()[0]
        if self.extensions and not shutil.which(compiler):
            raise SystemExit(
                f"fastlogits: no C compiler ({compiler}) found; install GCC or Clang, or set "
                "FASTLOGITS_SKIP_EXTENSION=1 to go without the compiled kernels (Numba and NumPy backends)"
            )
        self.parallel = self.parallel or os.cpu_count()
        if self.inplace or self.editable_mode:
            Path("fastlogits/backends/units").mkdir(exist_ok=True)
        super().run()

    def build_extension(self, extension):
        # The objects for each type and instruction set come from one C file: keep them apart.
        apart = copy.copy(self)
        apart.build_temp = os.path.join(self.build_temp, extension.name)
        build_ext.build_extension(apart, extension)


setup(
    packages=["fastlogits", *(f"fastlogits.{name}" for name in (*PARTS, *ADAPTERS))],
    package_dir={f"fastlogits.{name}": f"adapters/{name}" for name in ADAPTERS},
    ext_modules=[] if os.environ.get("FASTLOGITS_SKIP_EXTENSION") == "1" else extensions(),
    cmdclass={"build_ext": BuildKernels},
)
