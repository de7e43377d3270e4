"""What `fastlogits` does to files of others: nothing, whatever stands at its names, and whoever meddles."""

import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time

import files
import numpy as np
import pytest
from commands import APPLY, interrupt, meddling, refused
from conftest import need
from files import FORMATS
from subprocesses import environment
from test_cli_resume import content, finished, start, wait_for_blocks

import fastlogits
from fastlogits.cli import journal, main, marks, whole
from fastlogits.cli.partial import Partial


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", rng.normal(size=(60, 4)).astype(np.float32))
    np.save("y.npy", np.arange(60) % 4)
    return tmp_path


@pytest.fixture
def large(folder, rng):
    """Logits of thousands of small blocks."""
    np.save("x.npy", rng.normal(size=(15000, 80)).astype(np.float32))
    return folder


class TestSomebodyElse:
    """Other runs, and other people, while ours is at work."""

    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    def test_another_run_after_the_files_were_removed(self, suffix, large):
        """Run 1 ends without touching what run 2 has begun, and run 2 makes its target."""
        target = large / f"out{suffix}"
        words = "softmax", "x.npy", target, "--memory", "6KB", "--threads", "1"
        first = start(*words)
        wait_for_blocks(first, target)
        first.send_signal(signal.SIGSTOP)
        for path in large.glob("out.*"):
            path.unlink()
        second = start(*words)
        wait_for_blocks(second, target)
        second.send_signal(signal.SIGSTOP)
        first.send_signal(signal.SIGCONT)
        _, errors = finished(first, expect=1)
        assert "was removed or replaced while it was in use" in errors
        assert not target.exists()
        second.send_signal(signal.SIGCONT)
        finished(second)
        (found,) = files.read(target).values()
        np.testing.assert_array_equal(found, fastlogits.softmax(np.load("x.npy")))

    def test_file_of_another_at_the_name(self, folder, monkeypatch, capsys):
        def meddle():
            os.unlink("out.npy.partial")
            (folder / "out.npy.partial").write_text("of somebody else")

        meddling(monkeypatch, meddle)
        assert "out.npy.partial: was removed or replaced" in refused(capsys, [*APPLY, "--memory", "400"])
        assert (folder / "out.npy.partial").read_text() == "of somebody else"
        assert not (folder / "out.npy").exists()

    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    @pytest.mark.parametrize("after", [3, 20])
    def test_cut_short(self, suffix, after, folder, monkeypatch, capsys):
        """Also before the last block, with which the file gets its length back."""
        with monkeypatch.context() as context:
            meddling(context, lambda: os.truncate(f"out{suffix}.partial", 100), after)
            words = ["apply", "softmax", "x.npy", f"out{suffix}", "--memory", "200", "--threads", "1"]
            assert "partial: damaged" in refused(capsys, words)
        assert sorted(os.listdir()) == ["x.npy", "y.npy"]

    def test_what_was_assembled_is_replaced(self, folder, monkeypatch, capsys):
        sync_tree = whole.sync_tree

        def meddled(path):
            os.rename(path, f"{path}.moved")
            (folder / path).write_text("of somebody else")
            sync_tree(path)

        monkeypatch.setattr("fastlogits.cli.partial.sync_tree", meddled)
        assert "out.npz.partial.whole: was removed or replaced" in refused(capsys, "apply softmax x.npy out.npz")
        assert not (folder / "out.npz").exists()


class TestNamesThatAreTaken:
    """By links, devices, pipes, and files and folders of the user."""

    @pytest.mark.parametrize("words", [APPLY, ["calibrate", "x.npy", "y.npy", "--save", "out.json"]])
    @pytest.mark.parametrize("linked", [False, True])
    @pytest.mark.parametrize("kind", ["pipe", "device"])
    def test_no_file(self, words, linked, kind, folder, capsys):
        target = words[-1]
        place = "special" if linked else target
        if linked:
            os.symlink(place, target)
        if kind == "pipe":
            os.mkfifo(place)
        else:
            os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        before = os.lstat(place)
        assert "is neither file nor folder" in refused(capsys, [*words, "--force"])
        assert os.path.samestat(os.lstat(place), before)
        assert not list(folder.glob("*partial*"))

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    @pytest.mark.parametrize("name", ["out.npy.partial", "out.npy.partial.journal", "out.npz.partial.whole"])
    def test_planted_links(self, link, name, folder, capsys):
        (folder / "precious").write_text("precious")
        link("precious", name)
        target = name[:7]
        refused(capsys, ["apply", "softmax", "x.npy", target])
        main(["apply", "softmax", "x.npy", target, "--force"])
        assert (folder / "precious").read_text() == "precious"

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_planted_links_at_what_is_resumed(self, link, folder, capsys):
        interrupt(APPLY)
        size = os.path.getsize("out.npy.partial")
        (folder / "precious").write_bytes(bytes(size))
        os.unlink("out.npy.partial")
        link("precious", "out.npy.partial")
        assert "out.npy.partial: is no file of ours" in refused(capsys, [*APPLY, "--resume"])
        assert (folder / "precious").read_bytes() == bytes(size)

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_planted_links_beside_what_is_saved(self, link, folder):
        (folder / "precious").write_text("precious")
        link("precious", "t.json.partial")
        assert main(["calibrate", "x.npy", "y.npy", "--save", "t.json", "--no-progress"]) == 0
        assert (folder / "precious").read_text() == "precious"
        assert json.loads((folder / "t.json").read_text())["rows"] == 60

    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".zarr"])
    @pytest.mark.parametrize("end", ["", ".journal", ".whole", ".replaced"])
    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_of_the_user(self, suffix, end, kind, folder, capsys):
        """A file gives way to --force; a folder to nothing."""
        need(FORMATS[suffix].library)
        words, path = ["apply", "softmax", "x.npy", f"out{suffix}"], folder / f"out{suffix}.partial{end}"
        if kind == "file":
            path.write_text("precious")
        else:
            path.mkdir()
            (path / "precious").touch()
        before = content(path)
        assert path.name in refused(capsys, words)
        assert content(path) == before
        if kind == "file":
            assert main([*words, "--force"]) == 0
            assert sorted(os.listdir()) == [f"out{suffix}", "x.npy", "y.npy"]
        else:
            assert path.name in refused(capsys, [*words, "--force"])
            assert content(path) == before
            assert sorted(os.listdir()) == [path.name, "x.npy", "y.npy"]

    def test_folder_that_is_no_zarr(self, folder, capsys):
        (folder / "out.zarr").mkdir()
        (folder / "out.zarr" / "precious").touch()
        assert "out.zarr: is a folder, but no zarr" in refused(capsys, "apply softmax x.npy out.zarr --force")
        assert os.listdir("out.zarr") == ["precious"]


@pytest.mark.parametrize("words", [APPLY, ["calibrate", "x.npy", "y.npy", "--save", "out.json"]])
def test_rights_are_kept(words, folder):
    target = folder / words[-1]
    target.touch()
    for mode in (0o600, 0o640, 0o604):
        target.chmod(mode)
        os.chown(target, 12, 34)
        assert main([*words, "--force", "--no-progress"]) == 0
        status = target.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, 12, 34)


def test_what_is_private_is_private_on_the_way(folder, monkeypatch):
    (folder / "out.npy").touch()
    (folder / "out.npy").chmod(0o600)
    modes = []
    meddling(monkeypatch, lambda: modes.append(stat.S_IMODE(os.stat("out.npy.partial").st_mode)), 1)
    assert main([*APPLY, "--force"]) == 0
    assert modes == [0o600]


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_source_as_target(link, folder, capsys):
    """Not without a word."""
    expected, target = fastlogits.softmax(np.load("x.npy")), "x.npy" if link is None else "z.npy"
    if link is not None:
        link("x.npy", target)
    words = "apply", "softmax", "x.npy", target, "--force"
    assert main(words) == 0
    assert capsys.readouterr().err == f"fastlogits: {target}: is SOURCE, and will be replaced\n"
    np.testing.assert_array_equal(np.load(target), expected)


class TestFilesystems:
    """That cannot do everything."""

    @pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.ENOLCK])
    def test_no_locks(self, code, folder, monkeypatch, capsys):
        def flock(*args):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", flock)
        interrupt(APPLY)
        assert "left by an interrupted run" in refused(capsys, APPLY)
        assert main([*APPLY, "--resume"]) == 0
        np.testing.assert_array_equal(np.load("out.npy"), fastlogits.softmax(np.load("x.npy")))

    def test_no_fcntl(self, folder, monkeypatch):
        monkeypatch.setattr(journal, "fcntl", None)
        assert main(APPLY) == 0

    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    @pytest.mark.parametrize("what", ["folders", "files"])
    def test_no_fsync(self, what, suffix, folder, monkeypatch):
        fsync = os.fsync

        def limited(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if what == "files":
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", limited)
        assert main(["apply", "softmax", "x.npy", f"out{suffix}"]) == 0
        assert sorted(os.listdir()) == [f"out{suffix}", "x.npy", "y.npy"]

    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".zarr"])
    def test_real_full_disk(self, suffix, large):
        """What was computed is kept, and goes on where there is room."""
        need(FORMATS[suffix].library)
        if os.geteuid():
            pytest.skip("only root mounts")
        (large / "disk").mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=6M", "none", "disk"]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("no mounts here")
        try:
            target = large / "disk" / f"out{suffix}"
            words = "softmax", "x.npy", target, "--memory", "60KB"
            (large / "disk" / "other").write_bytes(bytes(3 << 20))
            # The check of the room would find it out at once.
            nothing_checked = "import fastlogits.cli.apply as a; a._check_space = lambda *_: None; "
            run = [sys.executable, "-c", f"{nothing_checked}from fastlogits.cli import main; raise SystemExit(main())"]
            done = subprocess.run([*run, "apply", *map(str, words)], env=environment(), capture_output=True, text=True)
            assert done.returncode == 1
            assert done.stderr.endswith(": No space left on device; --resume goes on once that is mended\n")
            assert not target.exists()
            subprocess.run(["mount", "-o", "remount,size=60M", "disk"], check=True)
            finished(start(*words, "--resume"))
            (found,) = files.read(target).values()
            np.testing.assert_array_equal(found, fastlogits.softmax(np.load("x.npy")))
            assert sorted(os.listdir("disk")) == ["other", target.name]
        finally:
            subprocess.run(["umount", "disk"], check=True)


class TestEndings:
    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".zarr"])
    def test_killed_when_it_was_whole(self, suffix, folder, capsys):
        """The results are in place, and nobody has cleaned up: --resume does."""
        need(FORMATS[suffix].library)
        words = ["apply", "softmax", "x.npy", f"out{suffix}"]
        with pytest.MonkeyPatch.context() as context:
            context.setattr(marks, "NAME", "unsupported")
            context.setattr(Partial, "discard", lambda partial: os.kill(os.getpid(), signal.SIGINT))
            assert main(words) == 130
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith("interrupted, but whole")
        before = content(folder / f"out{suffix}")
        assert len(list(folder.glob("out*"))) > 1
        assert "exists already" in refused(capsys, [*words, "--resume", "--temperature", "2"])
        assert main([*words, "--resume"]) == 0
        assert capsys.readouterr().out == f"out{suffix}: softmax of 60 x 4 float32: already whole\n"
        assert content(folder / f"out{suffix}") == before
        assert sorted(os.listdir()) == [f"out{suffix}", "x.npy", "y.npy"]

    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".zarr"])
    def test_resume_of_what_is_done(self, suffix, folder, capsys):
        """Nothing to do; but another task, another source or another file there is not done."""
        need(FORMATS[suffix].library)
        words = ["apply", "softmax", "x.npy", f"out{suffix}"]
        assert main(words) == 0
        before = content(folder / f"out{suffix}")
        capsys.readouterr()
        assert main([*words, "--resume", "--memory", "1MB"]) == 0
        assert capsys.readouterr().out == f"out{suffix}: softmax of 60 x 4 float32: already whole\n"
        assert "exists already" in refused(capsys, [*words, "--resume", "--temperature", "2"])
        assert content(folder / f"out{suffix}") == before
        status = os.stat("x.npy")
        os.utime("x.npy")
        assert "exists already" in refused(capsys, [*words, "--resume"])
        os.utime("x.npy", ns=(status.st_atime_ns, status.st_mtime_ns))
        (folder / f"out{suffix}.partial.whole").mkdir()
        assert main([*words, "--resume"]) == 0
        (folder / f"out{suffix}.partial.whole").rmdir()
        files.FORMATS[suffix].write(folder / f"out{suffix}", {"probs": np.zeros((60, 4), np.float32)})
        assert "exists already" in refused(capsys, [*words, "--resume"])
        assert sorted(os.listdir()) == [f"out{suffix}", "x.npy", "y.npy"]

    def test_another_target_meanwhile(self, folder, capsys):
        interrupt(APPLY)
        np.save("out.npy", np.zeros(3))
        assert "out.npy: exists already" in refused(capsys, [*APPLY, "--resume"])
        np.testing.assert_array_equal(np.load("out.npy"), np.zeros(3))

    @pytest.mark.parametrize("suffix", [".npz", ".h5", ".zarr", ".parquet"])
    def test_interrupted_while_it_is_assembled(self, suffix, large):
        """By a real Ctrl-C, at several moments."""
        need(FORMATS[suffix].library)
        np.save("x.npy", np.zeros((200_000, 100), np.float32))
        target, heard = large / f"out{suffix}", 0
        making = large / f"out{suffix}.partial.whole"
        for pause in (0, 0.003, 0.01, 0.03):
            process = start("softmax", "x.npy", target, "--resume")
            while process.poll() is None and not making.exists():
                time.sleep(0.001)
            time.sleep(pause)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
            if process.returncode == 0:
                break
            assert process.returncode == 130
            assert errors.count("\n") == 1
            if "but whole" in errors:
                break
            assert errors.endswith("; --resume goes on from there\n")
            assert sorted(os.listdir()) == [f"out{suffix}.partial", f"out{suffix}.partial.journal", "x.npy", "y.npy"]
            heard += 1
        assert heard
        if not target.exists():
            finished(start("softmax", "x.npy", target, "--resume"))
        assert sorted(os.listdir()) == [target.name, "x.npy", "y.npy"]

    def test_the_number_that_is_said_is_skipped(self, large):
        """Also where Ctrl-C comes again and again."""
        target, words = large / "out.npy", ("softmax", "x.npy", large / "out.npy", "--memory", "6KB")
        process = start(*words)
        wait_for_blocks(process, target)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.005)
        _, errors = finished(process, expect=130)
        output, _ = finished(start(*words, "--resume", "--json"))
        said = errors.rpartition("interrupted after ")[2].split()[0]
        assert int(said) == json.loads(output)["resumed_after_blocks"]
