import pytest

from chatlab.weights.inventory import remove, stored_models


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("CHATLAB_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def store(folder, name, size, home):
    path = home / "models" / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_empty_home_has_no_models():
    assert stored_models() == []


def test_lists_downloads_and_conversions_but_nothing_unfinished(tmp_path):
    store("Model-A", "Model-A.Q4_1.gguf", 10, tmp_path)
    store("Model-A.Q4_1-abc-v1", "model.safetensors", 20, tmp_path)
    store("Model-A.Q4_1-abc-v1", "tokenizer.json", 5, tmp_path)
    store("Model-B.building", "model.safetensors", 30, tmp_path)
    store("Model-C/.fetch-x", "part.whl", 30, tmp_path)
    assert [(model.name, model.kind, model.size) for model in stored_models()] == [
        ("Model-A", "download", 10),
        ("Model-A.Q4_1-abc-v1", "converted", 25),
    ]


def test_remove_takes_the_conversion_along_and_nothing_else(tmp_path):
    store("Model-A", "Model-A.Q4_1.gguf", 10, tmp_path)
    store("Model-A.Q4_1-abc-v1", "model.safetensors", 20, tmp_path)
    store("Model-A.Q8_0-def-v1", "model.safetensors", 20, tmp_path)  # from a file of the learner's own
    store("Model-AB", "ab.gguf", 10, tmp_path)
    assert remove("Model-A") == 30
    assert [model.name for model in stored_models()] == ["Model-A.Q8_0-def-v1", "Model-AB"]
    with pytest.raises(KeyError):
        remove("Model-A")


def test_models_of_the_hub_are_listed_and_removed(tmp_path):
    snapshot = tmp_path / "hub/models--someone--tiny/snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"x" * 7)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs/main").write_text("0" * 40)
    assert [(model.name, model.kind, model.size) for model in stored_models()] == [("someone/tiny", "hub", 7)]
    assert remove("someone/tiny") == 7 and stored_models() == []
