"""The conversion of GGUF files: tokens as llama.cpp's, logits as the original model's, whole folder or none."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from filelock import FileLock
from gguf import GGMLQuantizationType as Kind
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from chatlab.errors import ModelFilesError
from chatlab.weights import conversion, gguf_tokenizer
from chatlab.weights import gguf as gguf_model
from chatlab.weights.conversion import converted
from chatlab.weights.download import fetch

RECORD = Path(__file__).parent / "data" / "tokenizer_reference.json"
REFERENCE = json.loads(RECORD.read_text())["strings"]
FILES = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture(scope="session")
def smollm_gguf() -> Path:
    return fetch()


@pytest.fixture(scope="session")
def smollm(smollm_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The default model, converted by the code under test, not found in the user's cache."""
    home = tmp_path_factory.mktemp("smollm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHATLAB_HOME", str(home))
        folder = converted(smollm_gguf)
    yield folder
    shutil.rmtree(home)  # 640 MB


@pytest.fixture(scope="session")
def smollm_tokenizer(smollm: Path) -> Any:
    return PreTrainedTokenizerFast.from_pretrained(smollm)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smollm_gguf: Path) -> Path:
    monkeypatch.setenv("CHATLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


# ---------------------------------------------------------------------------- a tiny model, written as GGUF


def byte_tokens() -> list[str]:
    """The 256 byte tokens of byte-level BPE, two merges, then the special ones."""
    from tokenizers.pre_tokenizers import ByteLevel

    return [*sorted(ByteLevel.alphabet()), "he", "hel", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool>"]


def tiny_model(architecture: str, *, tied: bool = True, **options: Any) -> Any:
    classes = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    }
    config_class, model_class = classes[architecture]
    config = config_class(
        vocab_size=len(byte_tokens()),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        tie_word_embeddings=tied,
        initializer_range=0.1,  # so that attention matters: q and k in the wrong order are 53 % off
        **{"num_attention_heads": 4, "num_key_value_heads": 2, **options},
    )
    torch.manual_seed(0)
    model = model_class(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


def permute(weights: np.ndarray, heads: int) -> np.ndarray:
    """Order the rows as llama.cpp's converter does: row i of each head beside the row half a head on."""
    by_head = weights.reshape(heads, -1, *weights.shape[1:])
    half = by_head.shape[1] // 2
    side_by_side = np.empty_like(by_head)
    side_by_side[:, 0::2], side_by_side[:, 1::2] = by_head[:, :half], by_head[:, half:]
    return side_by_side.reshape(weights.shape)


def write_gguf(
    path: Path,
    model: Any,
    *,
    kind: Kind = Kind.F32,
    tables: Kind | None = None,
    pre: str = "smollm",
    edit: Callable[[Any], None] = lambda writer: None,
    leave_out: str = "",
) -> Path:
    """Write a Transformers model as llama.cpp's converter does; the model's weights become the rounded ones."""
    config, architecture = model.config, model.config.model_type
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    tokens = byte_tokens()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 4) + [3, 3, 3, 4])
    writer.add_token_merges(["h e", "he l"])
    writer.add_bos_token_id(tokens.index("<|im_start|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_chat_template(TEMPLATE)
    edit(writer)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), config.num_hidden_layers)
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        gguf_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if gguf_name == leave_out:
            continue
        stored = kind if parameter.dim() == 2 else Kind.F32
        if tables is not None and name in ("model.embed_tokens.weight", "lm_head.weight"):
            stored = tables
        weights = parameter.numpy().copy()
        parameter.copy_(torch.from_numpy(gguf.dequantize(gguf.quantize(weights, stored), stored)))
        if architecture == "llama" and ".q_proj." in name:
            weights = permute(weights, config.num_attention_heads)
        elif architecture == "llama" and ".k_proj." in name:
            weights = permute(weights, config.num_key_value_heads)
        writer.add_tensor(gguf_name, gguf.quantize(weights, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", tiny_model("llama"))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(100, 140).reshape(2, 20)).logits


def folders(home: Path) -> list[str]:
    """Everything in the models folder but the lock."""
    models = home / "models"
    return sorted(path.name for path in models.iterdir() if path.name != ".conversion.lock") if models.exists() else []


# ---------------------------------------------------------------------------- tokens


def test_the_reference_of_the_tokenizer_trap(smollm_tokenizer: Any) -> None:
    ids = smollm_tokenizer("hello  12345 1st a1b").input_ids
    assert ids == [28120, 256, 33, 34, 35, 36, 37, 216, 33, 302, 253, 33, 82]


@pytest.mark.parametrize("loader", [PreTrainedTokenizerFast, AutoTokenizer])
def test_tokens_are_those_of_llama_cpp(smollm: Path, loader: Any) -> None:
    tokenizer = loader.from_pretrained(smollm)
    assert len(REFERENCE) >= 300
    for entry in REFERENCE:
        string = entry["string"]
        ids = tokenizer(string, add_special_tokens=False).input_ids
        assert ids == entry.get("special", entry["text"]), string
        assert tokenizer.decode(ids) == string
        as_text = tokenizer(string, add_special_tokens=False, split_special_tokens=True).input_ids
        assert as_text == entry["text"], string


def test_the_record_is_what_llama_cpp_says_now(smollm_gguf: Path, tmp_path: Path) -> None:
    """Every string of the record through llama.cpp itself, where `xllamacpp` is installed.

    To make the record anew, after adding `{"string": ...}` lines to it or for a new llama.cpp:
    `pip install xllamacpp`, then `CHATLAB_RECORD=1 pytest tests/test_conversion.py -k llama_cpp_says`.
    """
    xllamacpp = pytest.importorskip("xllamacpp")
    options = xllamacpp.CommonParams()
    options.model.path = str(smollm_gguf)
    options.n_ctx, options.port, options.warmup = 256, 0, False
    server = xllamacpp.Server(options)

    def ids(string: str, special: bool) -> list[int]:
        body = json.dumps({"content": string, "add_special": False, "parse_special": special}).encode()
        request = urllib.request.Request(
            f"{server.listening_address}/tokenize", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            found: list[int] = json.load(response)["tokens"]
            return found

    entries: list[dict[str, Any]] = []
    for string in (entry["string"] for entry in REFERENCE):
        text, special = ids(string, False), ids(string, True)
        entries.append({"string": string, "text": text, **({"special": special} if special != text else {})})
    if os.environ.get("CHATLAB_RECORD"):
        note = json.dumps(json.loads(RECORD.read_text())["note"])
        lines = ",\n".join(json.dumps(entry) for entry in entries)
        RECORD.write_text(f'{{"note": {note},\n"strings": [\n{lines}\n]}}\n')
    else:
        assert entries == REFERENCE


def test_the_tokenizer_knows_its_special_tokens_its_length_and_its_template(smollm_tokenizer: Any) -> None:
    tokenizer = smollm_tokenizer
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert (tokenizer.unk_token, tokenizer.pad_token) == ("<|endoftext|>", "<|im_end|>")
    assert tokenizer.model_max_length == 8192
    assert tokenizer.clean_up_tokenization_spaces is False
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(tokenizer(prompt, add_special_tokens=False).input_ids) == prompt


@pytest.mark.parametrize(
    ("pre", "pieces", "first"),
    [
        ("smollm", ["a", "1", "2", "3", "4", "Ġb"], None),
        ("gpt-2", ["a", "1234", "Ġb"], None),
        ("qwen2", ["a", "1", "2", "3", "4", "Ġb"], None),
        ("llama-bpe", ["a", "123", "4", "Ġb"], "<|im_start|>"),
    ],
)
def test_each_known_rule_splits_in_its_own_way(tmp_path: Path, pre: str, pieces: list[str], first: str) -> None:
    """By hand, each of these gave llama.cpp's ids on the whole record too (qwen2: but for NFC)."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(
        converted(write_gguf(tmp_path / "tiny.gguf", tiny_model("llama"), pre=pre))
    )
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a1234 b")
    assert [piece for piece, _ in split] == pieces
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("hello<tool><|im_end|>").input_ids)
    assert tokens == [*([first] if first else []), "hel", "l", "o", "<tool>", "<|im_end|>"]


@pytest.mark.parametrize("add", [False, True])
def test_the_file_decides_whether_a_start_token_is_added(tmp_path: Path, add: bool) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, tiny_model("llama"), pre="llama-bpe", edit=lambda writer: writer.add_add_bos_token(add))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(converted(path))
    assert tokenizer("h").tokens() == [*(["<|im_start|>"] if add else []), "h"]


@pytest.mark.parametrize(("pre", "said"), [("default", "'default'"), ("tekken", "'tekken'"), ("", "None")])
def test_an_unknown_rule_is_refused_by_name(tmp_path: Path, home: Path, pre: str, said: str) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama"), pre=pre)  # "" is not written at all
    with pytest.raises(ModelFilesError, match=f"tokenizer.ggml.pre = {said}.*Hugging Face folder or hub id"):
        converted(path)
    assert folders(home) == []


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_a_tokenizer_of_another_kind_is_refused(kind: str) -> None:
    with pytest.raises(ModelFilesError, match=f"m.gguf has a tokenizer of kind '{kind}'.*folder or hub id"):
        gguf_tokenizer.gguf_tokenizer({"tokenizer.ggml.model": kind}, Path("m.gguf"))


def test_a_vocabulary_without_merges_is_refused() -> None:
    metadata = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": [], "tokenizer.ggml.token_type": []}
    with pytest.raises(ModelFilesError, match=r"m.gguf has no tokenizer.ggml.merges"):
        gguf_tokenizer.gguf_tokenizer(metadata, Path("m.gguf"))


def test_a_qwen2_tokenizer_is_the_same_through_the_auto_class(tmp_path: Path) -> None:
    folder = converted(write_gguf(tmp_path / "tiny.gguf", tiny_model("qwen2"), pre="qwen2"))
    fast, auto = PreTrainedTokenizerFast.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for entry in REFERENCE:
        assert fast(entry["string"]).input_ids == auto(entry["string"]).input_ids


# ---------------------------------------------------------------------------- weights


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_1, Kind.Q4_0, Kind.Q5_1])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_logits_are_those_of_the_original(tmp_path: Path, architecture: str, kind: Kind) -> None:
    original = tiny_model(architecture)
    unrounded = logits(original)
    path = write_gguf(tmp_path / "tiny.gguf", original, kind=kind)
    model = AutoModelForCausalLM.from_pretrained(converted(path), dtype="auto").eval()
    assert model.dtype == torch.float32
    # Exactly the weights that the blocks stand for: only the order of sums may differ.
    torch.testing.assert_close(logits(model), logits(original), rtol=1e-5, atol=1e-5)
    # And near the model before it was quantised: relative error of the logits, twice what was measured.
    tolerance = {"F32": 1e-6, "F16": 0.002, "BF16": 0.012, "Q8_0": 0.04, "Q5_1": 0.26, "Q4_1": 0.5, "Q4_0": 0.5}
    assert (logits(model) - unrounded).norm() / unrounded.norm() < tolerance[kind.name]


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("llama", {"tied": False}),
        ("qwen2", {"tied": False}),
        ("llama", {"attention_bias": True}),
    ],
)
def test_an_output_head_and_biases_are_kept(tmp_path: Path, architecture: str, options: dict[str, Any]) -> None:
    original = tiny_model(architecture, **options)
    folder = converted(write_gguf(tmp_path / "tiny.gguf", original))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    assert model.config.tie_word_embeddings == options.get("tied", True)
    assert model.state_dict().keys() == original.state_dict().keys()
    torch.testing.assert_close(logits(model), logits(original), rtol=1e-5, atol=1e-5)


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_model("qwen3", head_dim=16))
    with pytest.raises(ModelFilesError, match="qwen3"):
        converted(path)


def test_the_default_model_is_whole_tied_and_talks(smollm: Path, smollm_tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(smollm, dtype="auto").eval()
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert model.generation_config.eos_token_id == [2, 0]
    assert model.config.rms_norm_eps == 1e-5
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    prompt = smollm_tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    reply = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert smollm_tokenizer.decode(reply) == "The capital of France is Paris.<|im_end|>"


def test_the_folder_holds_standard_files_the_4_bit_weights_and_no_pickle(smollm: Path) -> None:
    assert {path.name for path in smollm.iterdir()} == FILES | {"packed.safetensors"}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN), "llama.rope.scaling.type = 'yarn'"),
        (lambda w: w.add_rope_scaling_factor(4.0), "llama.rope.scaling.factor = 4.0"),
        (lambda w: w.add_rope_dimension_count(8), "llama.rope.dimension_count = 8"),
        (lambda w: w.add_expert_count(4), "llama.expert_count = 4"),
        (lambda w: w.add_tensor("rope_freqs.weight", np.ones(8, np.float32)), "tensor 'rope_freqs.weight'"),
        (lambda w: w.add_tensor("output.weight", np.ones((8, 8), np.float32)), "lm_head.weight: .*expected"),
    ],
)
def test_what_would_change_the_mathematics_is_refused(
    tmp_path: Path, home: Path, edit: Callable[[Any], None], said: str
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama"), edit=edit)
    with pytest.raises(ModelFilesError, match=said):
        converted(path)
    assert folders(home) == []


def test_a_missing_tensor_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama"), leave_out="blk.1.ffn_up.weight")
    with pytest.raises(ModelFilesError, match=r"1 tensors are missing.*layers\.1\.mlp\.up_proj"):
        converted(path)


# ---------------------------------------------------------------------------- whole or not at all


def test_a_file_is_converted_once_a_changed_one_anew_a_copy_not(
    tmp_path: Path, home: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = converted(tiny_gguf)
    inode = (first / "model.safetensors").stat().st_ino
    assert converted(tiny_gguf) == first
    (tmp_path / "elsewhere").mkdir()
    assert converted(Path(shutil.copyfile(tiny_gguf, tmp_path / "elsewhere" / "tiny.gguf"))) == first
    assert (first / "model.safetensors").stat().st_ino == inode
    write_gguf(tiny_gguf, tiny_model("llama", tied=False))
    second = converted(tiny_gguf)
    monkeypatch.setattr(conversion, "FORMAT", conversion.FORMAT + 1)
    third = converted(tiny_gguf)
    assert len({first, second, third}) == 3
    assert folders(home) == sorted([first.name, third.name]), "what another format made of this file is gone"


def test_older_formats_of_a_file_go_when_the_new_one_is_there_and_no_sooner(
    home: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "FORMAT", 2)
    old = converted(tiny_gguf)
    (old.with_name(old.name.replace("-v2", "-v1"))).mkdir()
    newer = old.with_name(old.name.replace("-v2", "-v9"))
    newer.mkdir()
    monkeypatch.setattr(conversion, "FORMAT", 3)
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_convert", lambda *_: (_ for _ in ()).throw(ModelFilesError("broken")))
        with pytest.raises(ModelFilesError, match="broken"):
            converted(tiny_gguf)
        assert len(folders(home)) == 3, "a conversion that fails takes nothing away"
    lock = FileLock(home / "models" / ".conversion.lock")
    with ThreadPoolExecutor() as pool:
        with lock:  # another process builds
            building = home / "models" / "other.building"
            building.mkdir()
            waiting = pool.submit(converted, tiny_gguf)
            time.sleep(0.5)
            assert old.is_dir() and building.is_dir() and not waiting.done()
        new = waiting.result(timeout=60)
    assert folders(home) == sorted([new.name, newer.name])
    AutoModelForCausalLM.from_pretrained(new)


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path: Path, home: Path, tiny_gguf: Path) -> None:
    whole = tiny_gguf.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [0, 3, 4, 8, 24, 30, *range(100, len(whole) - 64, len(whole) // 40)]:
        cut.write_bytes(whole[:length])
        with pytest.raises(ModelFilesError, match=r"cut.gguf.* is not a whole GGUF file .*fetch it again"):
            converted(cut)
    assert folders(home) == []


def test_other_files_and_missing_ones_are_refused(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_text("<html>404 Not Found</html>" * 100)
    with pytest.raises(ModelFilesError, match="not a whole GGUF file"):
        converted(path)
    for missing in (tmp_path / "missing.gguf", tmp_path):
        with pytest.raises(ModelFilesError, match="Cannot read"):
            converted(missing)
    assert folders(home) == []


def test_a_disk_too_small_is_refused_before_writing(
    home: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3_000_000))
    with pytest.raises(ModelFilesError, match=r"needs 20 MB in .*models, but only 3 MB .*CHATLAB_HOME"):
        converted(tiny_gguf)
    assert folders(home) == []


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("chatlab.weights.gguf.os.fsync", OSError(errno.ENOSPC, "No space left on device")),
        # What the Rust library raises, seen on a small tmpfs.
        (
            "transformers.PreTrainedTokenizerFast.save_pretrained",
            Exception("No space left on device (os error 28)"),
        ),
    ],
)
def test_a_disk_that_fills_up_leaves_nothing(
    home: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    def full(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(where, full)
    with pytest.raises(ModelFilesError, match=r"disk of .*models is full: .* needs 20 MB there.*CHATLAB_HOME"):
        converted(tiny_gguf)
    assert folders(home) == []


def test_a_home_that_is_a_file_is_refused(home: Path, tiny_gguf: Path) -> None:
    home.write_text("")
    with pytest.raises(ModelFilesError, match=r"Cannot write to .*CHATLAB_HOME"):
        converted(tiny_gguf)


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
import gguf, tokenizers, transformers
from chatlab.weights.conversion import converted
owner, name, calls = eval(sys.argv[2]), sys.argv[3], int(sys.argv[4])
real = getattr(owner, name)
def deadly(*arguments, **options):
    global calls
    if name == "replace" and not str(arguments[0]).endswith(".building"):
        return real(*arguments, **options)
    calls -= 1
    if calls < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    done = real(*arguments, **options)
    if calls == 0 and name == "replace":
        os.kill(os.getpid(), signal.SIGKILL)
    return done
setattr(owner, name, deadly)
converted(Path(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    ("owner", "name", "calls", "left"),
    [
        ("transformers.PreTrainedTokenizerFast", "save_pretrained", 0, "building"),
        ("gguf", "dequantize", 9, "building"),
        ("os", "replace", 0, "building"),
        ("os", "replace", 1, "whole"),
    ],
)
def test_a_killed_conversion_leaves_nothing_in_use(
    home: Path, tiny_gguf: Path, owner: str, name: str, calls: int, left: str
) -> None:
    child = subprocess.run([sys.executable, "-c", KILLED, str(tiny_gguf), owner, name, str(calls)], check=False)
    assert child.returncode == -9
    (leftover,) = folders(home)
    assert leftover.endswith(".building") == (left == "building")
    folder = converted(tiny_gguf)
    assert folders(home) == [folder.name]
    assert {path.name for path in folder.iterdir()} == FILES
    AutoModelForCausalLM.from_pretrained(folder)


RACING = """
import sys, time
from pathlib import Path
import transformers
from chatlab.weights import conversion
real = conversion._convert
def slow(*arguments):
    print("converting", flush=True)
    time.sleep(1)
    real(*arguments)
conversion._convert = slow
print("ready", flush=True)
sys.stdin.readline()
print(conversion.converted(Path(sys.argv[1])))
"""


def test_two_processes_at_once_convert_once(home: Path, tiny_gguf: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", RACING, str(tiny_gguf)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    said = sorted(child.communicate(timeout=120)[0].split("\n")[:-1] for child in children)
    folder = str(converted(tiny_gguf))
    assert said == sorted([[folder], ["converting", folder]])
    assert folders(home) == [Path(folder).name]


def test_public_names() -> None:
    assert conversion.__all__ == ["converted"]
    assert gguf_model.__all__ == ["read_gguf", "save_model"]
    assert gguf_tokenizer.__all__ == ["end_token_ids", "gguf_tokenizer"]
