"""Sweeps: the same table whatever the order, the batches and the interruptions."""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import chatlab
from chatlab import BadRequestError, system, user
from chatlab.experiments import making
from chatlab.experiments.comparing import bootstrap_interval
from chatlab.experiments.grid import plan
from chatlab.experiments.making import identity, key_of
from chatlab.experiments.metrics import agreement, distinct_words, exact_match, normalised
from chatlab.experiments.rows import RowsFile
from chatlab.testing import ScriptedModel

PROMPTS = ["What is the capital of France?", "Tell me a joke."]
REAL = {"temperature": [0, 1.2], "seeds": [3, 1, 2], "max_completion_tokens": 6, "progress": False}
texts = st.text(alphabet="ab .", max_size=12)


def quiet(*args, **options):
    return chatlab.sweep(*args, store=options.pop("store", False), progress=False, **options)


# Metrics


@given(st.lists(texts, max_size=6), st.randoms())
def test_agreement_is_a_share_that_no_order_changes(replies, dice):
    share = agreement(replies)
    shuffled = dice.sample(replies, len(replies))
    if len(replies) < 2:
        assert math.isnan(share)
        return
    pairs = list(itertools.combinations(map(normalised, replies), 2))
    assert share == sum(one == other for one, other in pairs) / len(pairs) == agreement(shuffled)
    assert agreement([replies[0]] * len(replies)) == 1


@given(st.lists(texts, max_size=6), st.integers(1, 3))
def test_distinct_n_counts_different_runs_of_words(replies, n):
    runs = [tuple(words[start : start + n]) for words in map(str.split, replies) for start in range(len(words) - n + 1)]
    share = distinct_words(replies, n=n)
    assert math.isnan(share) if not runs else share == len(set(runs)) / len(runs)


@given(texts, st.lists(texts, max_size=3))
def test_exact_match_ignores_case_and_spaces_and_punctuation_around(reply, others):
    assert exact_match(f"  {reply.upper()} !", [*others, reply])
    assert not exact_match(reply + " x", [reply])
    assert normalised(normalised(reply)) == normalised(reply)


# The grid


def test_the_table_has_a_row_for_each_combination_in_order():
    sweep = quiet(
        PROMPTS, ScriptedModel("Hello!"), temperature=[1, 0], system={"none": None, "sir": "Be polite."}, seeds=2
    )
    assert list(sweep.table.columns[:4]) == ["prompt", "temperature", "system", "seed"]
    expected = list(itertools.product(PROMPTS, [1, 0], ["none", "sir"], [0, 1]))
    assert list(sweep.table.iloc[:, :4].itertuples(index=False, name=None)) == expected
    assert [len(run.messages) for run in sweep.runs[:4]] == [1, 1, 2, 2]
    assert (sweep.table["reply"] == "Hello!").all() and (sweep.table["tokens"] == 7).all()
    assert len(sweep.summary) == 8 and (sweep.summary["replies"] == 2).all()


def test_prompts_are_texts_messages_or_named():
    messages = [system("Be brief."), user("Hi")]
    for prompts, names in [
        ("Hi", ["Hi"]),
        (messages, ["Hi"]),
        (["Hi", [*messages[1:], user("You?")]], ["Hi", "You?"]),
        ({"a": "Hi", "b": messages}, ["a", "b"]),
    ]:
        assert list(quiet(prompts, ScriptedModel("Yes")).table["prompt"]) == names


def test_models_can_be_an_axis():
    sweep = quiet("Hi", {"a": ScriptedModel("Yes"), "b": ScriptedModel("No")}, seeds=2)
    assert list(sweep.table["model"]) == ["a", "a", "b", "b"]
    assert list(sweep.table["reply"]) == ["Yes", "Yes", "No", "No"]
    assert "Sweep of 1 prompt × 2 models × 2 seeds: 4 replies by scripted." in repr(sweep)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": [0, 3]}, "temperature must be between 0 and 2, but is 3"),
        ({"temperature": [0, 0]}, "temperature holds 0 twice"),
        ({"temperature": []}, "temperature is empty"),
        ({"temprature": 1}, "There is no parameter 'temprature'"),
        ({"seed": 1}, "Give seeds="),
        ({"n": 3}, "A row is one reply"),
        ({"stream": True}, "A row is a whole reply"),
        ({"seeds": [1, 1]}, "seeds holds 1 twice"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"expected": ["a", "b"]}, "expected has 2 answers for 1 prompts"),
        ({"expected": {"Bye": "a"}}, "expected names prompts that there are not"),
        ({"stop": ["END", 3]}, "stop must be a string or a list of strings"),
    ],
)
def test_what_is_wrong_is_told_before_any_reply(options, message):
    model = ScriptedModel("Hello!")
    with pytest.raises(BadRequestError, match=message):
        quiet("Hi", model, **options)
    assert not model.prompts


def test_a_prompt_that_is_too_long_is_told_before_any_reply():
    model = ScriptedModel("Hello!", context_length=100)
    with pytest.raises(chatlab.ContextLengthError):
        quiet(["Hi", "long " * 40], model, max_completion_tokens=10)
    assert not model.prompts


def test_a_second_system_message_and_two_models_of_one_name_are_refused():
    with pytest.raises(BadRequestError, match="system message of its own"):
        quiet([[system("A"), user("Hi")]], ScriptedModel(""), system=["B"])
    with pytest.raises(BadRequestError, match="2 models of 1 name"):
        quiet("Hi", [ScriptedModel("a"), ScriptedModel("b")])


def test_a_value_that_is_a_list_stands_in_a_list():
    sweep = quiet("Hi", ScriptedModel("Hello!"), stop=[["l"], None])
    assert list(sweep.table["reply"]) == ["He", "Hello!"]
    assert list(sweep.table["stop"]) == ['["l"]', "default"]


# Measures


def test_expected_and_judge_are_measured_anew_and_nothing_is_generated_again(tmp_path):
    store = tmp_path / "rows.jsonl"
    model = ScriptedModel("It is Paris.")
    first = quiet(PROMPTS, model, store=store, expected=["Paris", None])
    assert first.table["exact"][0] == 0 and math.isnan(first.table["exact"][1])
    seen = []
    second = quiet(
        PROMPTS,
        model,
        store=store,
        expected={PROMPTS[0]: ["Paris", "it is paris"]},
        judge=lambda row: seen.append(row) or "Paris" in row["reply"],
    )
    assert second.table["exact"][0] == 1 and list(second.table["judge"]) == [1, 1]
    assert seen[0]["prompt"] == PROMPTS[0] and seen[0]["exact"] == 1
    assert len(model.prompts) == 2, "the second sweep made no reply"


# The file


def test_rows_outlive_half_a_line(tmp_path):
    rows = RowsFile(tmp_path / "deep" / "rows.jsonl")
    assert rows.read() == {}
    rows.add({"key": "a", "reply": "é\ud83d \n"})
    with rows.path.open("ab") as file:
        file.write(b'{"key": "b", "rep')
    assert list(rows.read()) == ["a"]
    rows.add({"key": "c", "reply": ""})
    rows.add({"key": "a", "reply": "newer"})
    assert rows.read()["a"]["reply"] == "newer" and list(rows.read()) == ["a", "c"]


@given(st.lists(st.binary(max_size=30), max_size=4))
def test_a_file_of_anything_can_be_read(pieces):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        rows = RowsFile(Path(folder) / "rows.jsonl")
        rows.add({"key": "a"})
        for piece in pieces:
            with rows.path.open("ab") as file:
                file.write(piece)
        rows.add({"key": "z"})
        assert {"a", "z"} <= set(rows.read())


def test_the_key_is_of_all_that_determines_a_reply():
    model = ScriptedModel("Hello!")

    def key(prompt="Hi", model=model, **options):
        [run] = plan(prompt, {"m": model}, options, seeds=options.pop("seeds", [1]), expected=None)
        return key_of(run, identity(model))

    keys = [
        key(),
        key("Ho"),
        key(temperature=0.5),
        key(top_p=0.5),
        key(seeds=[2]),
        key(system="x"),
        key(model=ScriptedModel("Bye!")),
        key(model=ScriptedModel("Hello!", name="other")),
        key(model=model.with_context_length(100)),
        key(model=ScriptedModel("Hello!", chat_template="{{ messages[0].content }}")),
        key(temperature=0),
    ]
    assert len(set(keys)) == len(keys)
    assert key() == key(model=ScriptedModel("Hello!"))
    assert key(temperature=0) == key(temperature=0, seeds=[2]), "no dice, no seed"
    assert key(temperature=np.float64(0.5)) == key(temperature=0.5)


def test_other_weights_have_another_fingerprint(tiny_model, model):
    before = tiny_model.fingerprint()
    assert before == tiny_model.fingerprint() != model.fingerprint()
    weight = next(iter(tiny_model.network.parameters())).data
    weight.add_(1)
    try:
        assert tiny_model.fingerprint() != before
    finally:
        weight.sub_(1)


# Interruption


def test_an_interrupted_sweep_keeps_its_rows_and_goes_on(tmp_path, monkeypatch):
    whole = quiet(PROMPTS, ScriptedModel("Hello!"), temperature=[0.5, 1], seeds=3)
    store, real = tmp_path / "rows.jsonl", making._made
    calls = itertools.count(1)

    def interrupting(*args):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(making, "_made", interrupting)
    model = ScriptedModel("Hello!")
    partial = quiet(PROMPTS, model, temperature=[0.5, 1], seeds=3, store=store)
    assert len(partial) == 4 and partial.missing == 8
    assert "Interrupted: 8 more are missing; the same call goes on." in repr(partial)
    assert len(pd.read_json(store, lines=True)) == 4
    resumed = quiet(PROMPTS, model, temperature=[0.5, 1], seeds=3, store=store)
    pd.testing.assert_frame_equal(resumed.table, whole.table)
    assert len(store.read_text().splitlines()) == 12, "no reply was made twice"


def test_interrupted_at_once_there_is_an_empty_table(monkeypatch):
    monkeypatch.setattr(making, "_made", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    sweep = quiet("Hi", ScriptedModel("Hello!"), temperature=[0, 1])
    assert len(sweep) == 0 and sweep.missing == 2 and len(sweep.summary) == 0
    assert "0 replies by nobody" in repr(sweep) and "Interrupted" in sweep._repr_html_()


KILLED = """
import sys, chatlab
chatlab.sweep({prompts!r}, store={store!r}, **{options!r})
"""


def test_a_killed_sweep_goes_on_and_ends_in_the_same_table(model, tmp_path):
    """SIGKILL in the middle, on the real model; then the same call. And once more in another order, undisturbed."""
    store, seeds = tmp_path / "rows.jsonl", list(range(1, 25))
    options = REAL | {"seeds": seeds}
    code = KILLED.format(prompts=PROMPTS, store=str(store), options=options)
    process = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 120
    while not (store.exists() and store.stat().st_size) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was in the middle"
    there = len(RowsFile(store).read())
    made = len(PROMPTS) * (1 + len(seeds))  # of the greedy rows one for each prompt
    assert 0 < there < made
    resumed = chatlab.sweep(PROMPTS, store=store, **options)
    assert resumed.missing == 0 and len(RowsFile(store).read()) == made
    again = chatlab.sweep(
        PROMPTS[::-1], model, store=False, **(options | {"seeds": seeds[::-1], "temperature": [1.2, 0]})
    )
    by = ["prompt", "temperature", "seed"]
    tables = [each.table.astype({"temperature": float}).sort_values(by, ignore_index=True) for each in (resumed, again)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


# Real models


def test_each_row_is_the_reply_that_its_request_gets_alone(model):
    """To the last bit: alone means without what was read before, which is rounded differently."""
    sweep = chatlab.sweep(PROMPTS, model, store=False, **REAL)
    for row in sweep.table.to_dict("records"):
        model.prefixes.clear()
        alone = chatlab.chat_completions(
            [user(row["prompt"])], model, temperature=row["temperature"], seed=row["seed"], max_completion_tokens=6
        )
        assert row["reply"] == alone.choices[0].message.content
        assert (row["prompt_tokens"], row["tokens"]) == (alone.usage.prompt_tokens, alone.usage.completion_tokens)
        model.prefixes.clear()
        steps = list(
            chatlab.generate(
                [user(row["prompt"])],
                model=model,
                temperature=row["temperature"],
                seed=row["seed"],
                max_completion_tokens=6,
            )
        )
        assert row["entropy"] == sum(step.entropy for step in steps) / len(steps)
    assert (sweep.summary.query("temperature == 0")["agreement"] == 1).all()
    assert sweep.table.query("temperature > 1")["reply"].nunique() > 3, "or the seeds do nothing"


def test_batches_change_nothing_to_the_last_bit(model, monkeypatch):
    together = chatlab.sweep(PROMPTS, model, store=False, **REAL)
    monkeypatch.setattr(making, "SIDE_BY_SIDE", 1)
    alone = chatlab.sweep(PROMPTS, model, store=False, **REAL)
    pd.testing.assert_frame_equal(together.table, alone.table, check_exact=True)


def test_a_model_of_another_kind(tiny_model):
    options = {"temperature": [0, 1], "seeds": 2, "max_completion_tokens": 5}
    one, other = (quiet("Hi", tiny_model, **options) for _ in range(2))
    pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)


def test_a_model_on_a_server_gives_the_same_replies_and_is_not_asked_twice(model, tmp_path):
    options = {**REAL, "store": tmp_path / "rows.jsonl"}
    forgetful = model.with_context_length(model.context_length)
    forgetful.prefixes = None  # what was read before is rounded differently
    here = chatlab.sweep(PROMPTS, model, **{**options, "store": False})
    with chatlab.serve(forgetful) as server:
        there = chatlab.sweep(PROMPTS, chatlab.connect(server.base_url), **options)
    assert list(here.table["reply"]) == list(there.table["reply"])
    assert there.table["entropy"].isna().all()
    pd.testing.assert_frame_equal(
        chatlab.sweep(PROMPTS, chatlab.connect(server.base_url, model=model.name), **options).table, there.table
    )


def test_a_server_that_fails_midway_loses_no_reply(tmp_path, monkeypatch):
    store, real = tmp_path / "rows.jsonl", making._made
    calls = itertools.count(1)

    def failing(*args):
        if next(calls) == 4:
            raise chatlab.RateLimitError("The server is busy.")
        return real(*args)

    with chatlab.serve(ScriptedModel("Hello!")) as server:
        remote = chatlab.connect(server.base_url)
        monkeypatch.setattr(making, "_made", failing)
        with pytest.raises(chatlab.RateLimitError):
            quiet("Hi", remote, seeds=20, store=store)
        before = len(RowsFile(store).read())
        assert 3 <= before < 20, "those that were asked for beside the one that failed are kept too"
        monkeypatch.setattr(making, "_made", real)
        assert len(quiet("Hi", remote, seeds=20, store=store)) == 20
    assert len(store.read_text().splitlines()) == 20


# Comparing


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=20), st.integers(0, 3), st.sampled_from([0.5, 0.9, 0.95]))
def test_the_bootstrap_is_scipys(values, seed, confidence):
    """To the last bit: it draws the same numbers from the same generator."""
    options = {"n_resamples": 200, "confidence_level": confidence, "method": "percentile"}
    expected = scipy.stats.bootstrap(
        (values,), np.mean, vectorized=True, rng=np.random.default_rng(seed), **options
    ).confidence_interval
    low, high = bootstrap_interval(values, confidence=confidence, resamples=200, seed=seed)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert (low, high) == bootstrap_interval(values, confidence=confidence, resamples=200, seed=seed)


def test_two_conditions_are_compared_prompt_by_prompt():
    prompts = [f"Question {number}" for number in range(6)]
    sweep = quiet(
        prompts,
        ScriptedModel("Hello!"),
        temperature=[0, 1],
        system={"none": None, "long": "Be polite."},
        seeds=3,
        judge=lambda row: 10 * (row["system"] == "long") + int(row["prompt"][-1]) * (row["temperature"] == 1),
    )
    by_system = sweep.compare({"system": "none"}, {"system": "long"}, "judge")
    assert (by_system.difference, by_system.low, by_system.high) == (10, 10, 10) and by_system.clear
    by_temperature = sweep.compare({"temperature": 0}, {"temperature": 1}, "judge")
    assert by_temperature.difference == 2.5 and 0 < by_temperature.low < 2.5 < by_temperature.high < 5
    assert (by_temperature.unit, by_temperature.units) == ("prompt", 6)
    assert by_temperature == sweep.compare({"temperature": 0}, {"temperature": 1}, "judge")
    few = [sweep.compare({"temperature": 0}, {"temperature": 1}, "judge", resamples=20, seed=seed) for seed in (0, 1)]
    assert few[0] != few[1]
    same = sweep.compare({"system": "none"}, {"system": "long"}, "agreement")
    assert (same.mean_a, same.mean_b, same.clear) == (1, 1, False)
    by_seed = sweep.compare({"temperature": 0}, {"temperature": 1}, "tokens", by="seed")
    assert (by_seed.unit, by_seed.units, by_seed.difference) == ("seed", 3, 0)
    assert "bootstrap over 6 prompts" in by_system._repr_html_()


def test_agreement_is_that_of_each_condition_not_of_several_together():
    """Two wordings with replies of their own, each the same for all seeds: both agree with themselves."""
    models = {"a": ScriptedModel("Yes"), "b": ScriptedModel("No")}
    sweep = quiet(["Hi", "Ho"], models, temperature=[0, 1], seeds=2)
    assert sweep.compare({"temperature": 0}, {"temperature": 1}, "agreement").mean_a == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda sweep: sweep.compare({"temperature": 2}, {"temperature": 1}, "tokens"), "no replies of a with temp"),
        (lambda sweep: sweep.compare({"temperature": 0}, {"top_p": 1}, "tokens"), "no replies of b with top_p=1"),
        (lambda sweep: sweep.compare({"temperature": 0}, {"temperature": 1}, "length"), "metric must be one of tokens"),
        (lambda sweep: sweep.compare({"temperature": 0}, {"temperature": 1}, "exact"), "was not measured"),
        (lambda sweep: sweep.compare({"prompt": "Hi"}, {"prompt": "Ho"}, "tokens"), "different prompts"),
        (lambda sweep: sweep.compare({"temperature": 0}, {"temperature": 1}, "tokens", by="seed"), "at least two"),
        (lambda sweep: sweep.plot("length"), "metric must be one of"),
        (lambda sweep: sweep.plot(x="top_p"), "x is 'top_p', but the axes are prompt, temperature"),
    ],
)
def test_what_cannot_be_compared_or_drawn_is_told(call, message):
    sweep = quiet(["Hi", "Ho"], ScriptedModel("Hello!"), temperature=[0, 1])
    with pytest.raises(BadRequestError, match=message):
        call(sweep)


# What it looks like


def test_the_plot_has_a_panel_for_each_prompt_and_a_line_for_each_wording():
    sweep = quiet(
        {"a": "Hi", "b": "Ho"}, ScriptedModel("A $5 😀"), temperature=[1.5, 0, 0.5], system=["X", "Y"], seeds=2
    )
    plot = sweep.plot("tokens")
    panels = [axes for axes in plot.figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["a", "b"]
    assert plot.alt_text.startswith("tokens over temperature. a, system X: 10 at 0, 10 at 0.5, 10 at 1.5.")
    lines = [line for line in panels[0].lines if line.get_linestyle() != "None"]
    assert [list(line.get_xdata()) for line in lines] == [[0, 0.5, 1.5]] * 2
    dots = [line for line in panels[0].lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in dots) == 12
    assert plot.png().startswith(b"\x89PNG")
    assert "a, temperature 1.5: 1 at X, 1 at Y" in sweep.plot(x="system").alt_text
    assert quiet("Hi", ScriptedModel("Yes"), seeds=2).plot().alt_text == "agreement over prompt. 1 at Hi."


def test_too_many_panels_are_refused():
    sweep = quiet("Hi", ScriptedModel("Hello!"), max_completion_tokens=list(range(1, 15)), temperature=[0, 1])
    with pytest.raises(BadRequestError, match="14 values of max_completion_tokens are too many panels"):
        sweep.plot("tokens", x="temperature", facet="max_completion_tokens")


def test_it_shows_itself_and_escapes_what_a_model_wrote():
    sweep = quiet({"a<b>": "Hi"}, ScriptedModel("<script>alert(1)</script>"), temperature=[0, 0.7])
    assert repr(sweep).startswith(
        "Sweep of 1 prompt × 2 values of temperature × 1 seed: 2 replies by scripted.\nprompt"
    )
    html = sweep._repr_html_()
    assert "<script>" not in html and "a<b>" not in html and "&lt;script&gt;" in html


def test_many_conditions_are_cut_and_told():
    sweep = quiet("Hi", ScriptedModel("Hello!"), max_completion_tokens=list(range(1, 41)))
    assert repr(sweep).endswith("... and 10 more conditions: .summary has all, .table every reply.")


def test_the_file_is_plain_json_lines(tmp_path):
    store = tmp_path / "rows.jsonl"
    quiet("Hi", ScriptedModel("Hello!"), store=store, temperature=[0.5])
    [row] = map(json.loads, store.read_text().splitlines())
    assert row["messages"] == [user("Hi")] and row["reply"] == "Hello!" and row["options"]["temperature"] == 0.5


def test_without_a_store_rows_are_in_the_cache_folder_by_model(monkeypatch, tmp_path):
    monkeypatch.setenv("CHATLAB_HOME", str(tmp_path))
    for _ in range(2):
        chatlab.sweep("Hi", ScriptedModel("Hello!", name="a/b"), progress=False)
    [path] = (tmp_path / "sweeps").glob("*.jsonl")
    assert path.name.startswith("a-b-") and len(path.read_text().splitlines()) == 1
    chatlab.sweep("Hi", ScriptedModel("Hello!", name="a/b"), progress=False, again=True)
    assert len(path.read_text().splitlines()) == 2
