import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

import chatlab
from chatlab import ChatTemplateError, ModelFilesError, ModelNotFoundError, user
from chatlab.model import load
from chatlab.testing import CHATML
from chatlab.weights.download import fetch


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A model as people have it on their disk: a folder that Transformers saved."""
    tiny_model.network.save_pretrained(tmp_path / "tiny")
    tiny_model.tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_default_model(model):
    assert (model.name, model.context_length, model.vocab_size) == ("SmolLM2-135M-Instruct", 8192, 49152)
    assert model.tokenizer.convert_ids_to_tokens(model.end_token_ids[0]) == "<|im_end|>"
    assert set(model.control_tokens) >= {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}
    assert repr(model) == "LlamaModel('SmolLM2-135M-Instruct', context_length=8192)"


def test_loading_twice_gives_the_same_object(model):
    assert load() is model and load("smollm2-135m-instruct") is load("smollm2-135m-instruct")


def test_gguf_file_and_a_folder_with_one_are_the_same_model(model, tmp_path):
    (tmp_path / "copy").mkdir()
    copied = shutil.copy(fetch(), tmp_path / "copy")  # under the same name, so that the one conversion serves both
    input_ids = [1, 2, 3, 4]
    expected, _ = model.next_token_logits(input_ids)
    for name in (fetch(), copied, tmp_path / "copy"):
        logits, _ = load(name).next_token_logits(input_ids)
        assert torch.equal(logits, expected)
        assert load(name).tokenizer.encode("hello  12345") == model.tokenizer.encode("hello  12345")


def test_local_folder(folder, tiny_model):
    loaded = load(folder)
    assert (loaded.name, loaded.end_token_ids, loaded.context_length) == ("tiny", (257,), 1024)
    logits, _ = loaded.next_token_logits([72, 105])
    torch.testing.assert_close(logits, tiny_model.next_token_logits([72, 105])[0])
    assert chatlab.chat_completions([user("Hi")], folder, max_tokens=3, seed=0).usage.completion_tokens == 3


def test_cache_goes_on_where_it_was(tiny_model):
    whole, _ = tiny_model.next_token_logits([1, 2, 3, 4, 5])
    _, cache = tiny_model.next_token_logits([1, 2])
    _, cache = tiny_model.next_token_logits([3], cache)
    copied = tiny_model.fork(cache)
    tiny_model.next_token_logits([99], cache)
    logits, _ = tiny_model.next_token_logits([4, 5], copied)
    torch.testing.assert_close(logits, whole, atol=1e-4, rtol=1e-4)


def test_model_without_a_chat_template_says_so_or_takes_one_by_hand(folder):
    (folder / "chat_template.jinja").unlink()
    bare = load(folder)
    with pytest.raises(ChatTemplateError, match=r"has no chat template.*chat_template="):
        chatlab.render([user("Hi")], model=bare)
    assert next(chatlab.generate("Hi", model=bare)).token_id >= 0, "plain text can still be continued"
    given = load(folder, chat_template=CHATML)
    assert chatlab.render([user("Hi")], model=given).startswith("<|im_start|>user\nHi")


def test_pickled_weights_are_never_read(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(ModelFilesError, match=r"safetensors.*never read"):
        load(folder)


def test_missing_or_cut_off_weights_are_refused_and_not_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    missing = next(name for name in weights if weights[name].dim() == 2)
    save_file({name: value for name, value in weights.items() if name != missing}, folder / "model.safetensors")
    with pytest.raises(ModelFilesError, match=f"1 tensors are missing or do not fit, such as {missing}"):
        load(folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFilesError, match="cannot be loaded"):
        load(folder)


def test_one_model_under_several_names_is_loaded_once(folder, model, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert load("tiny") is load(folder) is load(str(folder) + "/")
    assert load("smollm2-135m-INSTRUCT") is model


def test_a_loaded_model_is_not_kept_waiting_by_another_load(model):
    with ThreadPoolExecutor() as pool, chatlab.model._loading:
        assert pool.submit(load).result(timeout=5) is model


@pytest.mark.parametrize("device", ["gpu", "cuda", "mps", "cuda:1", ""])
def test_device_that_is_not_there(device):
    with pytest.raises(ValueError, match=r"one that this machine has \(cpu\)"):
        load(device=device)


def test_code_that_a_model_brings_is_never_run(folder):
    config = (folder / "config.json").read_text()
    auto_map = '{"auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"},'
    (folder / "config.json").write_text(
        config.replace("{", auto_map, 1).replace('"model_type": "', '"model_type": "new-')
    )
    (folder / "evil.py").write_text("raise SystemExit('this code was run')")
    with pytest.raises(ModelFilesError):
        load(folder)


@pytest.mark.parametrize(
    "name", ["gpt-17", "no/such/folder", "./missing", "~/missing.gguf", "", "a/my.gguf", "~nouser/x", "x" * 5000, 5]
)
def test_name_that_leads_nowhere(name):
    with pytest.raises(ModelNotFoundError, match="There is no model"):
        load(name)


def test_hub_id_without_a_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError, match=r"'nobody/nothing' is not in the local cache"):
        load("nobody/nothing")


def test_hub_id_from_the_local_cache(folder, tmp_path, monkeypatch):
    """The layout of the hub's cache, made by hand, so that no network is needed."""
    snapshot = tmp_path / "hub" / "models--someone--tiny" / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load("someone/tiny").name == "someone/tiny"


def test_other_files_are_refused(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(ModelFilesError, match="not a GGUF file"):
        load(tmp_path / "model.pt")


def test_end_tokens_of_the_converted_model_are_those_of_its_file(model):
    assert isinstance(model.tokenizer, PreTrainedTokenizerFast)
    assert model.end_token_ids == (2, 0)
    assert [model.tokenizer.decode([token_id]) for token_id in model.end_token_ids] == ["<|im_end|>", "<|endoftext|>"]


def test_auto_takes_the_accelerator_where_there_is_one(monkeypatch):
    from chatlab.model import _device

    assert _device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert _device("auto") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert _device("auto") == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert _device("auto") == "cpu"


def test_limit_can_be_lowered_on_the_same_weights(tiny_model):
    view = tiny_model.with_context_length(20)
    assert view.context_length == 20 and tiny_model.context_length == 1024
    assert view.network is tiny_model.network and view.name == tiny_model.name
    with pytest.raises(chatlab.ContextLengthError, match="can hold 20 tokens"):
        chatlab.chat_completions([chatlab.user("x" * 30)], view)
    for length in (21, 0, 1.5, True):
        with pytest.raises(chatlab.BadRequestError, match="context_length must be"):
            view.with_context_length(length)
