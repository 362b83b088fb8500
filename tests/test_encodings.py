import hashlib

import httpx2
import pytest
import tiktoken.load

from chatlab import BadRequestError, ModelFilesError
from chatlab.encodings import _FILES, encoding, offline_encodings


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty cache, and no network: a request fails, and one that is not ours fails the test."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})

    def no_network(*_, **__):
        raise httpx2.ConnectError("Name or service not known")

    monkeypatch.setattr(httpx2, "head", no_network)
    monkeypatch.setattr(tiktoken.load, "read_file", lambda path: pytest.fail(f"tiktoken went for {path}"))
    return tmp_path


def test_cl100k_is_the_real_one_without_a_network(offline, monkeypatch):
    monkeypatch.undo()
    assert encoding("cl100k_base").name == "cl100k_base"
    assert encoding("cl100k_base").encode("tiktoken is great!") == [83, 1609, 5963, 374, 2294, 0]  # as in its README
    assert encoding("cl100k_base").n_vocab == 100277
    assert encoding("gpt-3.5-turbo") is encoding("cl100k_base")


@pytest.mark.parametrize("name", [*_FILES, "gpt-4o"])
def test_encoding_that_needs_a_network_says_so_at_once(offline, name):
    with pytest.raises(ModelFilesError, match=r"not on this machine.*Name or service not known.*take cl100k_base"):
        encoding(name)


def test_cached_encoding_needs_no_network(offline, monkeypatch):
    for path in _FILES["gpt2"]:
        url = f"https://openaipublic.blob.core.windows.net/{path}"
        (offline / hashlib.sha1(url.encode()).hexdigest()).write_text("")
    stand_in = encoding("cl100k_base")
    monkeypatch.setattr(tiktoken, "get_encoding", {"gpt2": stand_in}.get)
    assert encoding("gpt2") is stand_in


def test_the_files_are_those_that_tiktoken_asks_for(offline, monkeypatch):
    """If tiktoken moves a file, the check of its cache must move too."""
    for name, paths in _FILES.items():
        asked = []

        def refuse(path, expected_hash=None, asked=asked):
            asked.append(path)
            raise OSError("asked")

        monkeypatch.setattr("tiktoken.load.read_file_cached", refuse)
        with pytest.raises(OSError, match="asked"):
            tiktoken.get_encoding(name)
        assert asked == [f"https://openaipublic.blob.core.windows.net/{paths[0]}"]


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(BadRequestError, match=r"no encoding 'cl200k'.*o200k_base.*cl100k_base"):
        encoding("cl200k")


def test_offline_encodings_work_without_a_network(monkeypatch):
    monkeypatch.setattr("httpx2.head", lambda *_, **__: pytest.fail("a network was asked"))
    assert {"bytes", "cl100k_base"} <= set(offline_encodings())
    for name in offline_encodings():
        assert encoding(name).decode(encoding(name).encode("Hi é")) == "Hi é"
