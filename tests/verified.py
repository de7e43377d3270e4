"""What pyright says of the public names' types: `python tests/verified.py` prints those that it does not know.

It finds packages alone that lie as they are installed, so what is in two folders here is put together first.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
PUBLIC = (
    "fastlogits", "fastlogits.calibration", "fastlogits.conformal", "fastlogits.dask", "fastlogits.jax",
    "fastlogits.tensorflow", "fastlogits.tensorflow.keras", "fastlogits.tensorflow.metrics", "fastlogits.torch",
    "fastlogits.torch.hf", "fastlogits.torch.metrics",
)  # fmt: skip


def installed(folder):
    """The environment of a virtual environment in which pyright finds the package, and all that is installed here."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    package = site / "fastlogits"
    package.mkdir()
    for path in (*(ROOT / "fastlogits").iterdir(), *(ROOT / "adapters").iterdir()):
        if path.name != "__pycache__":
            (package / path.name).symlink_to(path)
    (site / "others.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return os.environ | {"VIRTUAL_ENV": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def symbols(folder):
    """name -> whether its type is known, as pyright names what the package exports."""
    command = [sys.executable, "-m", "basedpyright", "--verifytypes", "fastlogits", "--ignoreexternal", "--outputjson"]
    output = subprocess.run(command, env=installed(folder), cwd=folder, capture_output=True, text=True).stdout
    found = json.loads(output)["typeCompleteness"]["symbols"]
    return {symbol["name"]: symbol["isTypeKnown"] for symbol in found}


def public_names():
    """(what users import, where its classes are defined)"""
    names, classes = set(), set()
    for module in PUBLIC:
        namespace = importlib.import_module(module)
        for name in getattr(namespace, "__all__", [n for n in vars(namespace) if not n.startswith("_")]):
            value = getattr(namespace, name)
            if (getattr(value, "__module__", None) or module).startswith("fastlogits"):
                names.add(f"{module}.{name}")
            if isinstance(value, type):
                classes.add(f"{value.__module__}.{value.__qualname__}")
    return names, classes


def unknown(folder):
    """(how many public names and members of classes there are, those whose types are not known)"""
    known = symbols(folder)
    names, classes = public_names()
    public = [name for name in known if name in names or name.rpartition(".")[0] in classes]
    return len(public), [name for name in public if not known[name]]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        count, without = unknown(Path(folder))
    print(*without, f"{count - len(without)} of {count} public symbols have types", sep="\n")
