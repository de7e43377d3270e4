"""What runs where POSIX's own modules, functions and files are missing: the pure wheel on Windows."""

from conftest import require_backend
from subprocesses import run

HIDE = """
import os, sys
import numpy as np
import numpy.testing  # as whatever else chooses by the system when it is imported
if backend == "numba":
    import numba, scipy.special
import concurrent.futures, importlib.metadata, json, pathlib, shutil, tempfile, zipfile

for name in ("fcntl", "resource", "grp", "pwd", "termios", "posix", "_posixsubprocess", "_posixshmem"):
    sys.modules[name] = None
for name in (
    "fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "kill", "killpg", "mkfifo", "nice", "pread", "preadv",
    "pwrite", "pwritev", "posix_fadvise", "posix_fallocate", "posix_spawn", "register_at_fork", "sched_getaffinity",
    "sched_yield", "setsid", "fstatvfs", "sync", "sysconf", "sysconf_names", "uname", "fchmod", "fchown",
    "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK", "SCHED_OTHER",
):
    if hasattr(os, name):
        delattr(os, name)

def hidden(event, args):
    if event == "open" and str(args[0]).startswith(("/proc", "/sys")):
        raise FileNotFoundError(args[0])

sys.addaudithook(hidden)
"""

SOFTMAX = """
import fastlogits
logits = np.linspace(-3, 3, 300_000).reshape(300, 1000)
np.testing.assert_allclose(fastlogits.softmax(logits).sum(1), 1)
print(fastlogits.show_config("dicts")["backend"])
"""

API = """
loss, grad = fastlogits.cross_entropy_with_grad(logits, np.arange(300))
np.testing.assert_allclose(grad.sum(1), 0, atol=1e-12)
assert fastlogits.row_stats(logits, np.arange(300)).entropy.shape == (300,)
fastlogits.sample(logits, seed=0, top_p=0.9)
fastlogits.empty_cache()
"""

CLI = """
from fastlogits.cli import main
os.chdir(folder)
np.save("logits.npy", np.linspace(-3, 3, 300_000, dtype=np.float32).reshape(300, 1000))
np.save("labels.npy", np.arange(300))
np.savez("logits.npz", logits=np.zeros((3, 4)))
for words in (
    "apply softmax logits.npy probs.npy",
    "apply softmax logits.npy probs.npy --force",
    "apply stats logits.npy stats.npz --labels labels.npy",
    "apply logsumexp logits.npz lse.npy",
    "calibrate logits.npy labels.npy --save temperature.json",
    "info",
):
    assert main([*words.split(), "--no-progress"] if words.startswith("apply") else words.split()) == 0, words
np.testing.assert_allclose(np.load("probs.npy").sum(1), 1, rtol=1e-5)
assert sorted(np.load("stats.npz"))
"""


def test_the_functions():
    assert run(f"backend = 'numpy'\n{HIDE}{SOFTMAX}{API}", FASTLOGITS_BACKEND="numpy") == "numpy"


def test_numba():
    require_backend("numba")
    assert run(f"backend = 'numba'\n{HIDE}{SOFTMAX}", timeout=600, FASTLOGITS_BACKEND="numba") == "numba"


def test_the_command_line(tmp_path):
    run(f"backend, folder = 'numpy', {str(tmp_path)!r}\n{HIDE}{CLI}", timeout=300, FASTLOGITS_BACKEND="numpy")
