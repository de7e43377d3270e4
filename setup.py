"""The compiled kernels, one build per instruction set, and adapters/<name> as fastlogits.<name>."""

import copy
import os
import platform
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = (
    "backward", "cross_entropy", "cross_entropy_lanes", "filters", "lanes", "moments", "philox", "pieces", "radix",
    "row_stats", "sampling", "softmax", "topk",
)  # fmt: skip
PARTS = ("backends", "calibration", "cli", "cli.formats", "kernels")
ADAPTERS = sorted(path.parent.name for path in Path("adapters").glob("*/__init__.py"))

X86 = platform.machine().lower() in ("x86_64", "amd64")
MARCH = {"v2": "x86-64-v2", "v3": "x86-64-v3", "v4": "x86-64-v4"} if X86 else {"generic": None}

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


def extensions():
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
            include_dirs=[numpy.get_include(), "fastlogits/kernels"],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            extra_compile_args=["-O2", "-fopenmp"],
            extra_link_args=["-fopenmp"],
        )
        for name in ("_softmax", "_cross_entropy", "_filters", "_moments", "_row_stats")
    ]
    plain = [
        Extension("fastlogits.backends._cpu", ["fastlogits/backends/_cpu.pyx"]),
        Extension(
            "fastlogits.backends._team",
            ["fastlogits/backends/_team.pyx"],
            extra_compile_args=["-fopenmp"],
            extra_link_args=["-fopenmp"],
        ),
    ]
    # Declares what it needs of XLA by itself, so that it is built, and works, whatever JAX is there later.
    xla = Extension(
        "fastlogits.jax._handler",
        ["adapters/jax/_handler.pyx"],
        include_dirs=[numpy.get_include()],
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
        compiler = os.environ.get("CC", "cc").split()[0]
        if self.extensions and not shutil.which(compiler):
            raise SystemExit(
                f"fastlogits: no C compiler ({compiler}) found; install GCC or Clang, or set "
                "FASTLOGITS_SKIP_EXTENSION=1 to go without the compiled kernels (Numba and NumPy backends)"
            )
        self.parallel = self.parallel or os.cpu_count()
        if self.inplace or self.editable_mode:
            for name in MARCH:
                Path("fastlogits/kernels", name).mkdir(exist_ok=True)
        super().run()

    def build_extension(self, extension):
        # A kernel's objects for each instruction set come from one C file: keep them apart.
        extension.extra_compile_args += SANITIZE
        extension.extra_link_args += SANITIZE
        apart = copy.copy(self)
        apart.build_temp = os.path.join(self.build_temp, extension.name)
        build_ext.build_extension(apart, extension)


setup(
    packages=["fastlogits", *(f"fastlogits.{name}" for name in (*PARTS, *ADAPTERS))],
    package_dir={f"fastlogits.{name}": f"adapters/{name}" for name in ADAPTERS},
    ext_modules=[] if os.environ.get("FASTLOGITS_SKIP_EXTENSION") == "1" else extensions(),
    cmdclass={"build_ext": BuildKernels},
)
