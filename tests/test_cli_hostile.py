"""Files from strangers: whatever a header says is checked when the file is opened, in one line, and nothing is left."""

import io
import json
import os
import struct
import zipfile

import numpy as np
import pytest
from commands import APPLY, interrupt, refused
from conftest import need

import fastlogits
from fastlogits.cli import main
from fastlogits.cli.journal import _digest


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", rng.normal(size=(60, 4)).astype(np.float32))
    np.save("y.npy", np.arange(60) % 4)
    return tmp_path


def fails(capsys, source, *what, target="out.npy"):
    """One line with the file's name, and no file more than before."""
    before = sorted(os.listdir())
    line = refused(capsys, ["apply", "logsumexp", source, target])
    assert line.startswith(f"fastlogits: {source.partition(':')[0]}: ")
    assert len(line) < 500
    assert any(word in line for word in what), line
    assert sorted(os.listdir()) == before


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class TestNpz:
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    @pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
    def test_damaged(self, save, place, folder, rng, capsys):
        save("a.npz", x=rng.normal(size=(300, 40)))
        with open("a.npz", "r+b") as file:
            file.seek(int(place * os.path.getsize("a.npz")))
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        fails(capsys, "a.npz", "Bad CRC-32", "Error -3")

    @pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    @pytest.mark.parametrize("shape", [(3, 2), (50, 2)])
    def test_other_sizes_than_declared(self, kind, shape, folder, capsys, monkeypatch):
        """More would end in the next member, and less may be followed by anything."""
        honest = npy(np.zeros((9, 2)))
        header = npy(np.zeros(shape))[: -16 * shape[0]]
        with zipfile.ZipFile("a.npz", "w", kind) as archive:
            archive.writestr("x.npy", header + honest[-9 * 16 :])
            archive.writestr("y.npy", honest)
        monkeypatch.setattr("tempfile.TemporaryFile", lambda: pytest.fail("too late"))
        fails(capsys, "a.npz:x", "bytes of x.npy expected")

    def test_stored_members_of_two_sizes(self, folder, capsys):
        """The size in the directory is a lie."""
        np.savez("a.npz", x=np.zeros((4, 2)), y=np.ones((4, 2)))
        content = bytearray((folder / "a.npz").read_bytes())
        entry = content.index(b"PK\x01\x02")
        (size,) = struct.unpack_from("<I", content, entry + 24)
        struct.pack_into("<I", content, entry + 20, size - 8)
        (folder / "a.npz").write_bytes(content)
        fails(capsys, "a.npz:x", "expected", "Bad CRC-32")

    def test_other_members(self, folder, capsys):
        with zipfile.ZipFile("a.npz", "w") as archive:
            archive.writestr("readme.txt", "text")
            archive.writestr("x.npy", npy(np.zeros((9, 2))))
        assert main(["apply", "softmax", "a.npz", "out.npy"]) == 0
        fails(capsys, "a.npz:readme.txt", "no array 'readme.txt'", target="b.npy")


SHAPES = [(-1, 4), (-2, -3), (True, 3), (3, -1, 0), (1 << 62, 0), (10**30, 0, 3), (1,) * 70, (2.5, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_shapes_of_npy(shape, suffix, folder, capsys):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(400)
    if suffix == ".npz":
        with zipfile.ZipFile("a.npz", "w") as archive:
            archive.writestr("x.npy", content)
    else:
        (folder / "a.npy").write_bytes(content)
    fails(capsys, f"a{suffix}", "no array is of shape", "not valid", "damaged")


def safetensors(path, entries, data):
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def entry(shape=(4, 2), offsets=(0, 32), dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


ENTRIES = {
    "negative offsets": entry(offsets=(-32, 0)),
    "reversed offsets": entry(offsets=(32, 0)),
    "one offset": entry(offsets=(32,)),
    "offsets of text": entry(offsets=("0", "32")),
    "offsets beyond the end": entry(shape=(8, 2), offsets=(0, 64)),
    "gap": entry(shape=(2, 2), offsets=(16, 32)),
    "too little": entry(shape=(2, 2), offsets=(0, 16)),
    "negative shape": entry(shape=(-4, -2)),
    "boolean shape": entry(shape=(True, 8)),
    "fractional shape": entry(shape=(4.0, 2)),
    "no shape": entry(shape=None),
    "shape of another size": entry(shape=(4, 3)),
    "impossible shape": entry(shape=(1 << 62, 1 << 62, 0), offsets=(0, 0)),
    "unknown dtype": entry(dtype="F7"),
    "list as dtype": entry(dtype=["F32"]),
    "no table": [1, 2],
    "number": 3,
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_of_safetensors(name, folder, capsys):
    safetensors(folder / "a.safetensors", {"x": ENTRIES[name]}, bytes(0 if name == "impossible shape" else 32))
    fails(capsys, "a.safetensors", "damaged", "truncated", "expected one of", "no array")


def test_entries_of_safetensors_that_overlap(folder, capsys):
    safetensors(folder / "a.safetensors", {"x": entry(), "y": entry(), "z": entry(offsets=(32, 64))}, bytes(64))
    fails(capsys, "a.safetensors:x", "damaged: 'y' lies at 0 to 32")
    safetensors(folder / "a.safetensors", [entry()], bytes(32))
    fails(capsys, "a.safetensors", "damaged: the header")
    (folder / "a.safetensors").write_bytes(struct.pack("<Q", 100_000) + b"[" * 100_000)
    fails(capsys, "a.safetensors", "recursion")


@pytest.mark.parametrize("shape", [[-5, 3], [1 << 62, 1 << 62]])
def test_shapes_of_zarr(shape, folder, capsys):
    zarr = need("zarr")
    zarr.save_array("a.zarr", np.zeros((6, 3)))
    path = folder / "a.zarr" / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shape": shape}))
    fails(capsys, "a.zarr", "")


def test_no_classes_to_parquet(folder, capsys):
    need("pyarrow")
    np.save("a.npy", np.zeros((5, 0), np.float32))
    before = sorted(os.listdir())
    line = refused(capsys, "apply softmax a.npy out.parquet")
    assert line.endswith("out.parquet: .parquet holds no rows without classes: take .npz or another")
    assert sorted(os.listdir()) == before
    np.save("b.npy", np.zeros((0, 5), np.float32))
    assert main(["apply", "softmax", "b.npy", "out.parquet"]) == 0
    assert need("pyarrow.parquet").read_table("out.parquet").num_rows == 0


class TestJournal:
    @pytest.fixture
    def path(self, folder):
        interrupt(APPLY)
        return folder / "out.npy.partial.journal"

    def right(self):
        np.testing.assert_array_equal(np.load("out.npy"), fastlogits.softmax(np.load("x.npy")))
        assert sorted(os.listdir()) == ["out.npy", "x.npy", "y.npy"]

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00" * 50, b"{}\n{}\n", b"[1]\n[2]\n", b"null\n3\n", b"\n\n"])
    def test_of_somebody_else(self, content, path, capsys):
        path.write_bytes(content)
        for more in ([], ["--resume"]):
            assert f"{path.name}: is damaged, or not from an interrupted run" in refused(capsys, [*APPLY, *more])
        assert path.read_bytes() == content
        assert main([*APPLY, "--force"]) == 0
        self.right()

    @pytest.mark.parametrize(("old", "new"), [
        (b'"step": [1', b'"step": [2'), (b'"step": [', b'"steq": ['), (b'"blocks": ', b'"blocks": 9'),
        (b'"nan_rows": 0', b'"nan_rows": x'), (b'"softmax"', b'"argmax"'),
    ])  # fmt: skip
    def test_changed(self, old, new, path, capsys):
        """What was changed does not count: refused, or gone on with from before."""
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))
        if main([*APPLY, "--resume"]):
            assert path.name in refused(capsys, [*APPLY, "--resume"])
            assert main([*APPLY, "--force"]) == 0
        self.right()

    @pytest.mark.parametrize("changed", [
        {"step": [1, 2, 3]}, {"step": None}, {"step": [-1, 4]}, {"step": ["1", 4]}, {"step": [True, 4]}, {"options": 3},
        {"options": None}, {"source": 7}, {"blocks": -1}, {"blocks": 10**9}, {"blocks": "1"}, {"nan_rows": None},
        {"blocks": True}, {"whole": [1]},
    ])  # fmt: skip
    def test_forged(self, changed, path, capsys):
        """By somebody who knows how."""
        texts = [json.loads(line.partition(b" ")[2]) for line in path.read_bytes().splitlines()]
        texts[0 if changed.keys() <= texts[0].keys() else -1] |= changed
        first, lines = b"", []
        for text in (json.dumps(text).encode() for text in texts):
            lines.append(_digest(first, text) + b" " + text)
            first = first or lines[0]
        path.write_bytes(b"\n".join(lines) + b"\n")
        if "whole" in changed:
            assert main([*APPLY, "--resume"]) == 0
        else:
            assert path.name.removesuffix(".journal") in refused(capsys, [*APPLY, "--resume"])
            assert main([*APPLY, "--force"]) == 0
        self.right()
