import math
import random
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chatlab import SamplingParams, generate, next_token, user
from chatlab.draws import Draws, total_variation, total_variation_by_chance
from chatlab.errors import BadRequestError, ReplyStoppedError
from chatlab.panels import SamplingPanel
from chatlab.sampling import sample, sample_many
from chatlab.testing import ScriptedModel

PAYLOADS = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"'><b onclick='x'>", "</table></div><i>"]


@pytest.fixture
def panel(tiny_model):
    return SamplingPanel("Hello", top=8, model=tiny_model)


def click(panel, name):
    [button] = [each for each in buttons(panel) if each.description == name]
    button.click()


def buttons(panel):
    return [*panel.draw_buttons, panel.reset_button, panel.forget_button, panel.read_button, panel.stop_button]


# The library below the panel


@given(st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=30), st.lists(st.floats(0, 0.999), max_size=9))
def test_many_draws_are_single_draws(logits, numbers):
    logits = torch.tensor(logits)
    for temperature in (0, 1):
        singles = [sample(logits, temperature=temperature, random_number=each) for each in numbers]
        assert sample_many(logits, temperature=temperature, random_numbers=numbers) == singles


def test_the_first_draw_is_the_first_token_of_a_reply_with_that_seed(tiny_model):
    settings = {"temperature": 1.3, "top_k": 40, "top_p": 0.9}
    for seed in (0, 1, -1, 2**40):
        draws = Draws(next_token("Hello", model=tiny_model, **settings), seed=seed)
        draws.draw()
        step = next(generate("Hello", model=tiny_model, seed=seed, **settings))
        assert draws.last == step.token_id and draws.counts == {step.token_id: 1}


def test_draws_go_on_with_the_dice(tiny_model):
    prediction = next_token("Hello", model=tiny_model)
    one, other = Draws(prediction, seed=5), Draws(prediction, seed=5)
    for number in (1, 2, 97):
        one.draw(number)
    other.draw(100)
    assert one.counts == other.counts and one.number == 100
    assert one.counts != {token_id: 100 for token_id in one.counts}, "the same throw again and again"


def test_other_settings_are_those_of_a_new_prediction(tiny_model):
    settings = {"temperature": 0.6, "top_k": 30, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.3}
    new = next_token("Hello", reply=" you", model=tiny_model, top=5, **settings)
    changed = next_token("Hello", reply=" you", model=tiny_model).with_settings(SamplingParams(**settings), top=5)
    assert repr(changed) == repr(new) and torch.equal(changed.after.logits, new.after.logits)


def test_reading_a_prompt_can_be_interrupted(tiny_model):
    asked = []
    with pytest.raises(ReplyStoppedError, match="not read to its end"):
        next_token("x" * 400, interrupted=lambda: not asked.append(1), model=tiny_model)
    assert len(asked) == 1


@given(st.floats(0.001, 0.999), st.integers(1, 60))
def test_difference_by_chance_is_the_mean_over_all_outcomes(probability, draws):
    chances = [math.comb(draws, n) * probability**n * (1 - probability) ** (draws - n) for n in range(draws + 1)]
    distances = [total_variation([n / draws, 1 - n / draws], [probability, 1 - probability]) for n in range(draws + 1)]
    mean = sum(chance * distance for chance, distance in zip(chances, distances, strict=True))
    assert math.isclose(total_variation_by_chance([probability, 1 - probability], draws), mean, rel_tol=1e-6)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_total_variation_is_a_distance(first, second):
    first, second = ([each / (sum(x) or 1) for each in x] + [0] * (5 - len(x)) for x in (first, second))
    assert total_variation(first, first) == 0 and 0 <= total_variation(first, second) <= 1 + 1e-9
    assert total_variation(first, second) == total_variation(second, first)


def test_fair_dice_are_close_and_loaded_ones_are_not(tiny_model):
    draws = Draws(next_token("Hello", model=tiny_model, top=8))
    assert draws.in_words() == "Nothing drawn yet."
    draws.draw(1000)
    assert "as close as one can expect" in draws.in_words()
    assert math.isclose(sum(draws.shares), 1) and math.isclose(sum(draws.expected), 1, abs_tol=1e-6)
    loaded = Draws(draws.prediction)
    loaded.counts[draws.prediction.rows[-1].token_id] = 1000
    assert "further off than chance usually is" in loaded.in_words() and loaded.distance > 0.3
    with pytest.raises(BadRequestError, match="number"):
        draws.draw(0)


def test_ruled_out_tokens_say_by_what(tiny_model):
    draws = Draws(next_token("Hello", model=tiny_model, top_k=3, top=8))
    assert draws.table_html().count("✕ ruled out by top_k 3") == 5 and "✕ all ruled out" in repr(draws)
    greedy = Draws(next_token("Hello", model=tiny_model, temperature=0, top=8))
    assert greedy.table_html().count("✕ ruled out by temperature 0") == 7
    assert "ruled out" not in Draws(next_token("Hello", model=tiny_model, top=8)).table_html()
    assert "3 of 258 tokens may be drawn" in draws.uncertainty()
    assert f"{draws.prediction.before.entropy:.2f} bits" in draws.uncertainty()


# The panel


def test_settings_change_the_bars_and_never_read_again(panel, tiny_model, monkeypatch):
    monkeypatch.setattr(type(tiny_model), "next_logits_of_many", None)
    monkeypatch.setattr(type(tiny_model), "next_token_logits", None)
    for name, value in {"temperature": 0.5, "top_k": 30, "top_p": 0.95, "min_p": 0.01}.items():
        getattr(panel, f"{name}_field").value = value
        assert getattr(panel.params, name) == value
    params = SamplingParams(temperature=0.5, top_k=30, top_p=0.95, min_p=0.01)
    expected = panel.prediction.with_settings(params).after
    assert torch.equal(panel.prediction.after.logits, expected.logits) and "top_k 30" in panel.view.value
    click(panel, "Reset settings")
    assert panel.params == SamplingParams() and len(panel.prediction.stages) == 1


def test_draw_buttons_count_and_show(panel):
    assert "drawn</th>" not in panel.view.value
    click(panel, "Draw 1")
    assert panel.draws.number == 1 and "Drawn: " in panel.status.value
    click(panel, "Draw 100")
    click(panel, "Draw 1,000")
    assert panel.draws.number == 1101 and "1101 draws" in panel.view.value and "drawn</th>" in panel.view.value
    row = panel.prediction.rows[0]
    assert f">{panel.draws.counts[row.token_id]} (" in panel.view.value
    assert f"<td>{1101 * row.probabilities[-1]:,.1f}</td>" in panel.view.value
    click(panel, "Forget draws")
    assert panel.draws.number == 0 and "1101 draws forgotten" in panel.status.value


def test_a_setting_forgets_and_a_seed_begins_again(panel):
    panel.draw(50)
    counts = panel.draws.counts
    panel.temperature_field.value = 0.7
    assert panel.draws.number == 0 and "50 draws forgotten" in panel.status.value
    panel.reset()
    panel.draw(50)
    assert panel.draws.counts == counts
    panel.seed_field.value = 7
    panel.draw(50)
    dice = random.Random(7)
    numbers = [dice.random() for _ in range(50)]
    logits = panel.prediction.after.logits
    assert sorted(panel.draws.counts.elements()) == sorted(sample_many(logits, temperature=1, random_numbers=numbers))


def test_prompt_is_read_anew_as_text_or_as_message(panel, tiny_model):
    panel.prompt_box.value = "Bye"
    panel.wait(10)
    assert torch.equal(panel.prediction.before.logits, next_token("Bye", model=tiny_model).before.logits)
    assert "The model has read 3 tokens." in panel.status.value
    panel.chat_box.value = True
    panel.wait(10)
    assert torch.equal(panel.prediction.before.logits, next_token([user("Bye")], model=tiny_model).before.logits)
    assert panel.prompt == [user("Bye")]


def test_messages_keep_all_but_the_text_of_the_last(tiny_model):
    panel = SamplingPanel([user("a"), {"role": "assistant", "content": "b"}], top=3, model=tiny_model)
    panel.prompt_box.value = "c"
    panel.wait(10)
    assert panel.prompt == [user("a"), {"role": "assistant", "content": "c"}] and panel.chat_box.value


def test_prompt_that_cannot_be_read_is_told_and_the_bars_stay(panel):
    before = panel.view.value
    panel.prompt_box.value = ""
    panel.wait(10)
    assert "The prompt is empty" in panel.status.value and panel.view.value == before
    assert not panel.read_button.disabled and panel.stop_button.disabled


def test_reading_in_the_background_stops_and_sees_later_changes():
    panel = SamplingPanel("Hi", top=3, model=ScriptedModel("Hello", seconds_per_token=0.2))
    panel.prompt_box.value = "x" * 3000  # 12 pieces
    time.sleep(0.1)
    assert panel.running and panel.draw_buttons[0].disabled and not panel.stop_button.disabled
    click(panel, "Stop")
    panel.wait(0.5)
    assert not panel.running and "Stopped" in panel.status.value and panel.prediction.prompt == "Hi"
    click(panel, "Read the prompt")
    panel.prompt_box.value = "Hey"
    panel.temperature_field.value = 0.0
    panel.wait(10)
    assert panel.prediction.prompt == "Hey" and panel.prediction.after.tokens_left == 1


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markup_is_escaped(payload):
    panel = SamplingPanel(payload, top=4, model=ScriptedModel(payload, name=payload))
    panel.draw(1)
    panel.note(payload)
    html = panel._repr_mimebundle_()["text/html"]
    for text in (html, panel.view.value, panel.status.value):
        assert payload not in text and "<script" not in text and "<img" not in text
    assert "&lt;" in html


def test_static_forms(panel):
    panel.top_k_field.value = 2
    panel.draw(10)
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == "SamplingPanel(temperature=1, top_k=2, top_p=1, min_p=0, 10 draws)"
    assert "✕ ruled out by top_k 2" in bundle["text/html"] and "10 draws: " in bundle["text/html"]
