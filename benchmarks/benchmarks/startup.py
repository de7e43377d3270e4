"""What one waits for before the first result: imports, and the compilation by Numba."""

import subprocess
import sys


def timeraw_import():
    return "import fastlogits"


def timeraw_import_numpy():
    """The part of it that is NumPy's; it should not move, and shows how quiet the machine was."""
    return "import numpy"


FIRST_CALL = """
import os, tempfile
if {empty}:
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()
import numpy, fastlogits
with fastlogits.settings(backend="numba"):
    fastlogits.cross_entropy_with_grad(numpy.zeros((32, 10), numpy.float32), [0] * 32)
"""


class FirstCall:
    """A process's first call of the Numba backend, with an empty cache and with a filled one."""

    param_names = ("cache",)
    params = (("empty", "filled"),)
    number, repeat, rounds, timeout = 1, 2, 1, 600

    def setup(self, cache):
        if cache == "filled":
            subprocess.run([sys.executable, "-c", FIRST_CALL.format(empty=False)], check=True)

    def timeraw_loss_and_gradient(self, cache):
        return FIRST_CALL.format(empty=cache == "empty")
