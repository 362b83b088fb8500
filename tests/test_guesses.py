import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatlab.confidence import Calibration
from chatlab.guesses import Guess, LockedError, locked_guesses, predict
from chatlab.panels import GuessPanel

OPTIONS = ["one", "two", "none"]


def test_what_is_locked_in_stays_in_another_notebook_and_after_the_cell_is_run_again(tmp_path):
    Guess("How many?", OPTIONS, folder=tmp_path).lock("b", confidence=70)
    again = Guess("How many?", OPTIONS, folder=tmp_path)
    assert (again.answer, again.confidence) == ("B", 70)
    with pytest.raises(LockedError, match=r"locked in: B, two"):
        again.lock("A")
    assert Guess("How many?", OPTIONS, folder=tmp_path).answer == "B"
    assert Guess("How many, then?", OPTIONS, folder=tmp_path).answer is None


@pytest.mark.parametrize(
    ("happened", "said"),
    [
        ("B", "You predicted: B, two, 70 % sure, and so it is. Because."),
        ("A", "You predicted: B, two, 70 % sure, but it is: A, one. Because."),
    ],
)
def test_reveal_compares_and_records(tmp_path, happened, said):
    guess = Guess("How many?", OPTIONS, folder=tmp_path)
    guess.lock("B", confidence=70)
    assert repr(guess.reveal(happened, "Because.")) == said
    [kept] = locked_guesses(tmp_path)
    assert (kept["answer"], kept["confidence"], kept["right"]) == ("B", 70, happened == "B")


def test_what_was_revealed_cannot_be_predicted_any_more(tmp_path):
    guess = Guess("How many?", OPTIONS, folder=tmp_path)
    assert repr(guess.reveal("B", "Because.")).startswith("No prediction was locked in. What happened: B, two.")
    with pytest.raises(LockedError, match="has been revealed"):
        guess.lock("B")
    assert locked_guesses(tmp_path) == []


def test_a_text_is_locked_in_at_once_and_compared_without_capitals(tmp_path, monkeypatch):
    monkeypatch.setattr("chatlab.guesses.Guess.__init__.__kwdefaults__", {"confidence": None, "folder": tmp_path})
    guess = predict("What is the capital of France?", "paris", confidence=90)
    assert guess.answer == "paris"
    assert guess.reveal("Paris.").right
    assert predict("What is the capital of France?", "Rome").answer == "paris"


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (lambda guess: guess.lock("D"), r"'D' is no option here\. Choose from A, B, C"),
        (lambda guess: guess.lock(""), r"'' is no option"),
        (lambda guess: guess.lock("A", confidence=170), "confidence is in per cent"),
        (lambda guess: guess.reveal("two"), "'two' is no option here"),
        (lambda guess: predict("?", ["one"]), "2 to 8 options"),
    ],
)
def test_what_cannot_be_is_said(tmp_path, action, told):
    guess = Guess("How many?", OPTIONS, folder=tmp_path)
    with pytest.raises(ValueError, match=told):
        action(guess)
    assert guess.answer is None


def test_a_disk_that_refuses_does_not_end_the_lesson(tmp_path):
    (tmp_path / "predictions.json").mkdir()
    guess = Guess("How many?", OPTIONS, folder=tmp_path)
    guess.lock("B")
    assert guess.reveal("B").right


def test_the_file_is_of_the_common_form(tmp_path):
    Guess("How many?", OPTIONS, folder=tmp_path).lock("B")
    assert set(json.loads((tmp_path / "predictions.json").read_text())) == {"format", "predictions"}


def test_markup_is_shown_and_does_nothing(tmp_path):
    payload = '<img src=x onerror="alert(1)">'
    guess = Guess(payload, [payload, "b"], folder=tmp_path)
    shown = [guess.html(), guess.reveal("A", payload).html(), GuessPanel(guess).heading.value]
    assert not [html for html in shown if "<img" in html]


# ---- the panel ----------------------------------------------------------------------------------------------------


def test_the_panel_locks_in_once(tmp_path):
    guess = Guess("How many?", OPTIONS, folder=tmp_path)
    panel = GuessPanel(guess)
    panel.lock_in()
    assert "Choose first" in panel.status.value and guess.answer is None
    panel.choice.value, panel.sure.value = "C", 80
    panel.lock_button.click()
    assert (guess.answer, guess.confidence) == ("C", 80)
    assert panel.choice.disabled and panel.sure.disabled and panel.lock_button.disabled
    assert GuessPanel(Guess("How many?", OPTIONS, folder=tmp_path)).choice.value == "C"


def test_the_panel_shows_what_happened(tmp_path):
    guess = Guess("How many?", OPTIONS, folder=tmp_path)
    panel = guess.panel = GuessPanel(guess)
    guess.reveal("B", "Because.")
    assert "What happened: B, two." in panel.outcome.value and panel.lock_button.disabled


def test_the_panel_takes_a_text_where_there_are_no_options(tmp_path):
    panel = GuessPanel(Guess("What comes next?", folder=tmp_path))
    panel.choice.value = "a comma"
    panel.lock_in()
    assert panel.guess.answer == "a comma"


# ---- calibration --------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), min_size=1, max_size=40))
def test_every_prediction_is_in_one_group_and_the_score_is_the_mean_squared_distance(pairs):
    found = Calibration(pairs)
    assert sum(count for _, count, _, _ in found.groups()) == len(pairs)
    assert all(0 <= sure <= 100 and 0 <= right <= 100 for _, _, sure, right in found.groups())
    distances = [(sure / 100 - (1 if right else 0)) ** 2 for sure, right in pairs]
    assert found.brier_score == pytest.approx(sum(distances) / len(distances))


def test_calibration_is_a_table_and_a_picture():
    shown = Calibration([(90, True), (90, False), (50, True)])._repr_html_()
    assert "80 to 100 %" in shown and "data:image/png" in shown and "Brier score 0.36" in shown
    assert "No prediction is revealed yet" in repr(Calibration([])) and "<p>" in Calibration([])._repr_html_()
