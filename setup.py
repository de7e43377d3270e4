"""The compiled kernels, one build per instruction set, and adapters/<name> as fastlogits.<name>."""

import copy
import os
import platform
import shutil
import sys
import sysconfig
import time
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = (
    "backward", "cross_entropy", "cross_entropy_lanes", "filters", "lanes", "moments", "philox", "pieces", "radix",
    "row_stats", "sampling", "softmax", "topk",
)  # fmt: skip
PARTS = ("backends", "calibration", "cli", "cli.formats", "kernels")
ADAPTERS = sorted(path.parent.name for path in Path("adapters").glob("*/__init__.py"))

TEAM = Path("fastlogits/backends/team")

X86 = platform.machine().lower() in ("x86_64", "amd64")
LEVELS = {"v2": "x86-64-v2", "v3": "x86-64-v3", "v4": "x86-64-v4"} if X86 else {}
# FASTLOGITS_BUILD_ISA=v4, or v3,v4: these alone; generic is what any processor of the kind runs (SSE2 on x86-64).
WANTED = os.environ.get("FASTLOGITS_BUILD_ISA", "").replace(",", " ").split() or list(LEVELS) or ["generic"]
MARCH = {name: march for name, march in {"generic": None, **LEVELS}.items() if name in WANTED}
if unknown := set(WANTED) - set(MARCH):
    raise SystemExit(f"fastlogits: FASTLOGITS_BUILD_ISA is {', '.join(['generic', *LEVELS])}, not {', '.join(unknown)}")

# Never -ffast-math: NaN must stay NaN, and -fassociative-math would reorder the formulas. The steps of a row are
# functions that want to be one: with this limit the loss of 8192 x 100 takes 0.35 ms on one thread with AVX2, without
# it 0.38.
FLAGS = [
    "-O3", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-ffp-contract=fast", "-finline-limit=800",
]  # fmt: skip

# For `make test-sanitized`. Python's own -fwrapv would make overflows defined.
SANITIZE = [
    "-O1", "-g", "-fno-omit-frame-pointer", "-fno-wrapv", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
] if os.environ.get("FASTLOGITS_SANITIZE") == "1" else []  # fmt: skip


def compiler_is_there():
    """Asked before anything is translated, which takes a minute."""
    words = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    for program in words[: 2 if "ccache" in words[0] else 1]:
        if not shutil.which(program):
            raise SystemExit(
                f"fastlogits: no C compiler ({program}) found; install GCC or Clang, or set "
                "FASTLOGITS_SKIP_EXTENSION=1 to go without the compiled kernels (Numba and NumPy backends)"
            )


def extensions():
    compiler_is_there()
    import numpy
    from Cython.Build import cythonize

    directives = {"boundscheck": False, "wraparound": False, "cdivision": True, "language_level": 3}
    texts = cythonize(
        [f"fastlogits/kernels/{name}.py" for name in KERNELS], build_dir="build", compiler_directives=directives
    )
    calls = [
        Extension(
            f"fastlogits.backends.{name}",
            [f"fastlogits/backends/{name}.pyx"],
            include_dirs=[numpy.get_include(), "fastlogits/backends", "fastlogits/kernels"],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            extra_compile_args=["-O2"],
        )
        for name in ("_softmax", "_cross_entropy", "_filters", "_moments", "_row_stats")
    ]
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
    # Declares what it needs of XLA by itself, so that it is built, and works, whatever JAX is there later.
    xla = Extension(
        "fastlogits.jax._handler",
        ["adapters/jax/_handler.pyx"],
        include_dirs=[numpy.get_include(), "fastlogits/backends"],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        depends=["adapters/jax/xla_ffi.h", "adapters/jax/xla_team.h"],
    )
    # The C of a kernel is compiled once for each instruction set, into a folder that takes the place of
    # fastlogits/kernels on the package's path: the module's name, which Cython writes into the C, stays true.
    return cythonize([*plain, xla, *calls], build_dir="build", compiler_directives=directives) + [
        Extension(
            text.name.replace("kernels.", f"kernels.{name}."),
            text.sources,
            include_dirs=["fastlogits/kernels"],
            depends=[*text.depends, *map(str, Path("fastlogits/kernels").glob("*.h"))],
            extra_compile_args=[*FLAGS, *([f"-march={march}", "-mprefer-vector-width=512"] if march else [])],
        )
        for name, march in MARCH.items()
        for text in texts
    ]


class BuildKernels(build_ext):
    def run(self):
        self.parallel = self.parallel or os.cpu_count()
        for extension in self.extensions:
            extension.depends.append("setup.py")  # which has the compiler's options
        if self.inplace or self.editable_mode:
            for name in {"generic", *LEVELS}:
                folder = Path("fastlogits/kernels", name)
                if name in MARCH:
                    folder.mkdir(exist_ok=True)
                else:  # or they would go on as they are, whatever is edited
                    shutil.rmtree(folder, ignore_errors=True)
        super().run()

    def build_extension(self, extension):
        # A kernel's objects for each instruction set come from one C file: keep them apart.
        extension.extra_compile_args += SANITIZE
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
