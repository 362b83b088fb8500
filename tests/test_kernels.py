"""The compiled loops as such: when they are compiled, and that threads may call them at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import chatlab
from chatlab import kernels

KERNELS = (kernels.multiply, kernels.unpack, kernels.read)

COMPILING = """
import sys
sys.path.remove("")  # as in a program that is installed
from chatlab import kernels
from chatlab.weights.conversion import _compiling_kernels
with _compiling_kernels():
    assert not kernels.multiply.signatures, "another process does it"
kernels.prepare()
print(sum(kernel.stats.cache_hits.total() for kernel in (kernels.multiply, kernels.unpack, kernels.read)))
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


def test_a_loaded_model_compiles_nothing_more(model):
    """A type that was not foreseen would stop a reply for seconds."""
    kernels.prepare()
    before = [len(kernel.signatures) for kernel in KERNELS]
    prompt = chatlab.encode("Once upon a time ") * 30
    logits, cache = model.next_token_logits(prompt)
    copies = model.forks(cache, 3)
    model.next_token_logits([int(logits.argmax())], cache)
    model.next_logits_of_many([([number], copy) for number, copy in enumerate(copies)])
    model.next_token_logits([1, 2, 3], cache)
    model.logits(prompt)
    assert [len(kernel.signatures) for kernel in KERNELS] == before


def test_the_first_conversion_lets_another_process_compile(tmp_path):
    """Even where another chatlab lies: a checkout's own folder, in which the README's command is given."""
    (tmp_path / "chatlab").mkdir()
    (tmp_path / "chatlab" / "__init__.py").write_text("raise ImportError('not this one')", encoding="utf-8")
    assert python(COMPILING, cwd=tmp_path, NUMBA_CACHE_DIR=str(tmp_path)) == ["3"]
    assert list(tmp_path.rglob("*.nbc"))


def test_what_is_read_is_the_same_to_the_last_bit_however_the_loops_were_compiled(tmp_path):
    """For an older processor and in a hurry, or for this one; and found compiled, which is linked in another way."""
    older = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_OPT": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert python(READING) == python(READING, **older) == python(READING, **older)


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
