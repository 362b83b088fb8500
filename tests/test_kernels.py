"""The compiled loops as such: when they are compiled, and that threads may call them at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import chatlab
from chatlab.loops import building, object_file

COMPILING = """
import sys
sys.path.remove("")  # as in a program that is installed
from chatlab.loops import object_file
from chatlab.weights.conversion import _compiling_kernels
assert not object_file.is_kept()
with _compiling_kernels():
    assert not object_file.is_kept(), "another process does it"
assert object_file.is_kept()
assert "numba" not in sys.modules
"""

READING = """
import hashlib, sys, chatlab
model = chatlab.load()
cache = model.llama.new_cache()
for ids in (chatlab.encode("Once upon a time there was a"), [28]):
    vectors = model.llama.read([(ids, cache)])
    print(hashlib.sha256(vectors.numpy().tobytes()).hexdigest())
"""


def python(code, cwd=None, **variables):
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=os.environ | variables, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


def test_a_loaded_model_needs_no_compiler():
    """To import it takes a third of the time in which a model is to be loaded."""
    assert python("import sys, chatlab; chatlab.load(); print('numba' in sys.modules)") == ["False"]


def test_the_first_conversion_lets_another_process_compile(tmp_path):
    """Even where another chatlab lies: a checkout's own folder, in which the README's command is given."""
    (tmp_path / "chatlab").mkdir()
    (tmp_path / "chatlab" / "__init__.py").write_text("raise ImportError('not this one')", encoding="utf-8")
    python(COMPILING, cwd=tmp_path, CHATLAB_HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert len(list(tmp_path.glob("loops/*.o"))) == 1


def test_what_is_broken_is_built_again(monkeypatch, tmp_path):
    monkeypatch.setattr(object_file, "home", lambda: tmp_path)
    monkeypatch.setattr(object_file.platformdirs, "user_cache_path", lambda name: tmp_path / "user")
    monkeypatch.setattr(building, "build", lambda: iter([b"", b"code"]))
    assert object_file.object_code() == b"code" and object_file.is_kept()
    [file] = tmp_path.glob("loops/*.o")
    file.write_bytes(file.read_bytes()[:-1])
    assert not object_file.is_kept() and object_file.object_code() == b"code" and object_file.is_kept()


def test_where_nobody_may_write_it_is_kept_for_the_user(monkeypatch, tmp_path):
    (tmp_path / "loops").write_text("no folder", encoding="utf-8")
    monkeypatch.setattr(object_file, "home", lambda: tmp_path)
    monkeypatch.setattr(object_file.platformdirs, "user_cache_path", lambda name: tmp_path / "user")
    monkeypatch.setattr(building, "build", lambda: iter([b"", b"code"]))
    assert object_file.object_code() == b"code"
    assert len(list(tmp_path.glob("user/loops/*.o"))) == 1 and object_file.is_kept()


def test_other_loops_are_another_file(monkeypatch, tmp_path):
    before = object_file._files()
    (tmp_path / "sizes.py").write_text("GROUP = 64", encoding="utf-8")
    monkeypatch.setattr(object_file, "SOURCES", tmp_path)
    assert not set(before) & set(object_file._files())


def test_what_is_read_is_the_same_to_the_last_bit_however_the_loops_were_compiled(tmp_path):
    """For an older processor and in a hurry, or for this one."""
    older = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_OPT": "1"}
    place = f"file = __import__('pathlib').Path({str(tmp_path / 'a.o')!r})"
    kept = f"from chatlab.loops import object_file; {place}; object_file._files = lambda: [file]"
    assert python(READING) == python(f"{kept}\n{READING}", **older)
    assert (tmp_path / "a.o").is_file()


def test_threads_may_reply_at_once(model):
    texts = []

    def reply():
        ids, cache, text = chatlab.encode("Once upon a time"), None, []
        for _ in range(40):
            logits, cache = model.next_token_logits(ids, cache)
            ids = [int(logits.argmax())]
            text += ids
        texts.append(tuple(text))

    threads = [threading.Thread(target=reply) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(texts) == 4 and len(set(texts)) == 1
