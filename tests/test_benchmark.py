"""The benchmark: that it measures what it says it does. No test asks how fast anything is."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import chatlab
from chatlab import benchmark, cli, model
from chatlab.benchmark import measures
from chatlab.benchmark.measures import MEASURES, TAKES, Plan, Sample
from chatlab.benchmark.peers import (
    ChatlabPeer,
    LlamaCppPeer,
    Timing,
    TransformersPeer,
    XllamacppPeer,
    find_peers,
    fresh,
)
from chatlab.benchmark.report import Report
from chatlab.testing import ScriptedModel
from chatlab.weights.download import DEFAULT_MODEL
from chatlab.weights.home import home
from chatlab.weights.packed import FILE

seconds = st.floats(0.001, 1000)

XLLAMACPP = """
from types import SimpleNamespace
from unittest import mock
made = []
def CommonParams(): return SimpleNamespace(**{n: SimpleNamespace() for n in ("model", "cpuparams", "cpuparams_batch")})
class Server:
    def __init__(self, params): self.params = params; made.append(self)
    def handle_completions(self, request):
        self.request = request
        return {"timings": {"prompt_ms": 500.0, "predicted_ms": 1000.0 * (request["n_predict"] - 1)}}
"""
LLAMA_CPP = """
made = []
class Llama:
    def __init__(self, **settings): self.settings = settings; self.taken = 0; made.append(self)
    def reset(self): self.taken = 0
    def generate(self, token_ids, **settings):
        self.token_ids = token_ids
        while True:
            self.taken += 1
            yield 1
"""


def plan(model, **changes):
    """Return a plan for short texts, with chatlab alone."""
    settings = {"name": None, "gguf_path": None, "peers": [ChatlabPeer(model)], "runs": 2, "prompt_tokens": 8}
    settings |= {
        "reply_tokens": 4,
        "history_tokens": 32,
        "curve": [8, 16],
        "text_ids": [65 + n % 26 for n in range(64)],
    }
    return Plan(model=model, **(settings | changes))


@given(st.lists(seconds, min_size=2, max_size=9))
def test_timing_adds_up_to_the_whole_time(gaps):
    times = [sum(gaps[:n]) for n in range(len(gaps) + 1)]
    timing = Timing.of(times)
    assert timing.first == pytest.approx(gaps[0], abs=1e-6)
    assert timing.first + timing.later * (len(gaps) - 1) == pytest.approx(sum(gaps), abs=1e-6)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=7))
def test_ratio_is_the_median_of_neighbours(pairs):
    samples = [Sample("decode", line, value, 1) for pair in pairs for line, value in zip("ab", pair, strict=True)]
    report = Report({}, samples)
    assert report.ratio("decode", "b") == statistics.median(one / other for one, other in pairs)
    assert report.ratio("decode", "a") == 1
    assert report.median("decode", "b") == statistics.median(other for _, other in pairs)


def test_everything_that_can_be_measured_is():
    report = benchmark.run(ScriptedModel("Hello"), quick=True, runs=2, progress=False)
    assert report.measures() == ["decode", "busy", "cold", "next_turn", "reused", "several"] and report.complete
    assert all(len(values) == 2 for key in report.measures() for values in report.lines(key).values())
    assert set(report.absent) == {"Transformers", "llama.cpp", "curve", "load", "first_load"}
    assert list(report.lines("several")) == ["n=8", "n=1"]
    assert list(report.lines("busy")) == ["chatlab, one core taken", "chatlab, quiet"]
    text = str(report)
    for title, unit in (MEASURES[key] for key in report.measures()):
        assert f"{title}, {unit}" in text
    assert all(f"Not measured: {what}" in text for what in report.absent)
    assert json.loads(json.dumps(report.to_dict()))["measures"]["decode"]["lines"]["chatlab"]["ratio"] == 1


def test_every_measure_has_a_title():
    made = {sample.measure for _, take in TAKES[:5] for sample in next(take(plan(ScriptedModel("Hello"))))}
    assert made == {"decode", "busy", "several", "next_turn", "reused", "cold"} < set(MEASURES)


def test_a_report_is_safe_in_a_notebook():
    assert "<script" not in Report({"model": "<script>"}, absent={"x": "<script>"})._repr_html_()


def test_an_interruption_keeps_what_was_measured(monkeypatch):
    def interrupted(plan):
        yield [Sample("busy", "chatlab, quiet", 1.0, 1)]
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "TAKES", (TAKES[0], ("busy", interrupted), TAKES[2]))
    report = benchmark.run(ScriptedModel("Hello"), quick=True, progress=False)
    assert report.measures() == ["decode", "busy"] and not report.complete
    assert len(report.lines("busy")["chatlab, quiet"]) == 1
    assert "interrupted" in str(report) and report.to_dict()["complete"] is False


def test_an_interruption_ends_the_other_program(monkeypatch):
    before, others = psutil.Process().children(), []

    def interrupt(plan):
        others.extend(each for each in psutil.Process().children() if each not in before)
        raise KeyboardInterrupt

    monkeypatch.setattr(measures, "SETTLED", 0)
    monkeypatch.setattr(measures, "_adapt", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(measures.busy(plan(ScriptedModel("Hello"))))
    assert others and not any(other.is_running() for other in others)


def test_a_fresh_view_leaves_the_model_as_it_was(model):
    prefixes, ends = model.prefixes, model.end_token_ids
    view = fresh(model)
    assert view.prefixes is not prefixes and len(view.prefixes) == 0 and view.end_token_ids == ()
    assert (model.prefixes, model.end_token_ids) == (prefixes, ends)


@pytest.mark.parametrize("tokens", [2, 5])
def test_replies_are_as_long_as_asked_for(tiny_model, tokens, monkeypatch):
    seen = []
    monkeypatch.setattr(Timing, "of", classmethod(lambda cls, times: seen.append(len(times))))
    for peer in (ChatlabPeer(tiny_model), TransformersPeer(tiny_model), ChatlabPeer(ScriptedModel("H"))):
        peer.reply([72, 105], tokens)
    assert seen == [tokens + 1] * 3  # the start, and every token


def test_the_next_turn_reads_only_what_is_new(model):
    history = 64
    text_ids = chatlab.encode("one two three " * 100, model=model)
    samples = next(measures.next_turn(plan(model, history_tokens=history, text_ids=text_ids)))
    reused = {sample.line: sample.value for sample in samples if sample.measure == "reused"}
    new = measures.NEW_TOKENS
    whole = history + 2 * new  # of which the last token of the reply, and what is new, have to be read
    assert reused["read before"] == pytest.approx(100 * (history + new - 1) / whole)


def test_the_curve_goes_through_every_length(model):
    samples = next(measures.curve(plan(model)))
    assert [sample.line for sample in samples] == ["after 8 tokens", "after 16 tokens"]


def test_loading_is_measured_in_another_process(model):
    [[load, memory]] = measures.new_process(plan(model, name=model.name, runs=1))
    assert (load.measure, memory.measure) == ("load", "memory")
    assert load.value > 0 and 50 < memory.value < 2000


def test_the_first_load_finds_nothing_converted_nor_compiled(model, monkeypatch):
    made, in_new_process = [], measures._in_new_process

    def watched(name, **environment):
        figures = in_new_process(name, **environment)
        made.extend(path.name for path in Path(environment["CHATLAB_HOME"]).rglob("*"))
        return figures

    monkeypatch.setattr(measures, "_in_new_process", watched)
    [[sample]] = measures.first_load(plan(model, gguf_path=DEFAULT_MODEL.path, runs=1))
    assert (sample.measure, sample.line) == ("first_load", "chatlab.load()") and sample.value > 0
    assert FILE in made and any(name.endswith(".o") for name in made)
    assert not list(home().glob("first-load-*"))


@pytest.mark.parametrize(("package", "code"), [("xllamacpp", XLLAMACPP), ("llama_cpp", LLAMA_CPP)])
def test_llama_cpp_gets_the_same_prompt_and_threads(package, code, tmp_path, monkeypatch):
    (tmp_path / f"{package}.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # IPython may have left one that is no module
    monkeypatch.setitem(sys.modules, package, None)  # so that what is imported now is forgotten in the end
    del sys.modules[package]
    peers, absent = find_peers(ScriptedModel("Hello", context_length=99), tmp_path / "a.gguf")
    assert [peer.name for peer in peers] == ["chatlab", "llama.cpp"] and set(absent) == {"Transformers"}
    peers[1].use_threads(2)
    assert peers[1].reply([1, 2, 3], 5).later > 0 and package not in sys.modules, "it runs in a process of its own"
    peer = {"xllamacpp": XllamacppPeer, "llama_cpp": LlamaCppPeer}[package](tmp_path / "a.gguf", 99)
    for threads in (2, 2, 1):
        peer.use_threads(threads)
    timing = peer.reply([1, 2, 3], 5)
    made = sys.modules[package].made
    assert len(made) == 2, "the file is loaded again only for another number of threads"
    if package == "xllamacpp":
        assert timing == Timing(0.5, 1.0)
        assert made[1].request["prompt"] == [1, 2, 3] and made[1].request["n_predict"] == 5
        assert made[1].request["ignore_eos"] and not made[1].request["cache_prompt"]
        assert (made[1].params.cpuparams.n_threads, made[1].params.n_ctx) == (1, 99)
    else:
        assert made[1].token_ids == [1, 2, 3] and made[1].taken == 5
        assert (made[1].settings["n_threads"], made[1].settings["n_ctx"]) == (1, 99)


def test_absent_peers_are_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_peers(ScriptedModel("Hello"), tmp_path / "a.gguf")[1]["llama.cpp"].startswith("not installed")
    assert "GGUF" in find_peers(ScriptedModel("Hello"), None)[1]["llama.cpp"]


def test_the_command_prints_a_table_or_json(monkeypatch):
    monkeypatch.setattr(model, "load", lambda *_, **__: ScriptedModel("Hello!"))
    monkeypatch.setattr(benchmark, "TAKES", TAKES[:1])
    run = CliRunner().invoke
    table = run(cli.app, ["bench", "--quick"])
    assert table.exit_code == 0 and "one reply to a short prompt, tokens/s" in table.stdout
    report = json.loads(run(cli.app, ["bench", "--quick", "--runs", "3", "--json"]).stdout)
    assert len(report["measures"]["decode"]["lines"]["chatlab"]["samples"]) == 3
    assert run(cli.app, ["bench", "--runs", "0"]).exit_code != 0
