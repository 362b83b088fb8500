"""GlassBox without a browser: the state it is a view on, what its controls do, and that no text becomes markup."""

from __future__ import annotations

import html
import json
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_views import PAYLOADS, Markup

import chatlab
from chatlab import user
from chatlab.errors import BadRequestError, LocalModelNeededError, ReplyStoppedError
from chatlab.interruption import interruptible
from chatlab.panels import GlassBox
from chatlab.panels.rooms import ROOMS, origin
from chatlab.panels.token_row import TokenRow
from chatlab.scoring import score_tokens
from chatlab.steps import percent, probability_cell, token_name
from chatlab.streaming import join_chunks
from chatlab.testing import ScriptedModel
from chatlab.turn import Turn

QUESTION = [user("What is the capital of France?")]


def whole(turn):
    while turn.forward():
        pass
    return turn


def finished(box):
    box.wait(20)
    return box


def test_a_turn_is_what_chat_completions_and_its_stream_give(model):
    options = {"temperature": 1.0, "seed": 5, "max_completion_tokens": 15}
    turn = whole(Turn(QUESTION, model=model, **options))
    response = chatlab.chat_completions(QUESTION, model, **options)
    assert turn.response.choices == response.choices
    assert turn.response.usage.completion_tokens == response.usage.completion_tokens
    sent = [chunk for _, chunk in turn.sendings]
    stream = chatlab.chat_completions(QUESTION, model, stream=True, stream_options={"include_usage": True}, **options)
    assert [chunk.choices for chunk in sent] == [chunk.choices for chunk in stream]
    assert join_chunks(sent).choices == response.choices


def test_a_turn_with_a_token_exchanged_is_what_if(model):
    options = {"temperature": 1.0, "seed": 5, "max_completion_tokens": 15, "top_logprobs": 8}
    turn = whole(Turn(QUESTION, model=model, **options))
    trace = chatlab.trace(QUESTION, model=model, **options)
    assert [step.token_id for step in turn.steps] == [step.token_id for step in trace]
    other = list(turn.steps[3].alternatives)[2]
    turn.exchange(3, other)
    assert len(turn.steps) == 3 and turn.response is None
    changed = trace.what_if(3, other)
    assert whole(turn).text == changed.text and turn.forced == changed.forced == (3,)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(["forward", "back", "exchange"]), max_size=25))
def test_any_way_forward_and_back_leads_to_the_same_places(moves):
    """Against the plainest thing that could be true: a list of token ids, and how many of them are shown."""
    script = [*"Hé!".encode(), 257]
    turn = Turn(QUESTION, model=ScriptedModel("Hé!"))
    made, length, exchanged = [], 0, set()
    for move in moves:
        complete = length > 0 and made[length - 1] == 257
        if move == "forward" and not complete:
            turn.forward()
            if length == len(made):
                made.append(script[min(length, len(script) - 1)])
            length += 1
        elif move == "back":
            turn.back()
            length = max(0, length - 1)
        elif move == "exchange" and length:
            turn.exchange(length - 1, ord("x"))
            made[length - 1 :] = [ord("x")]
            exchanged = {each for each in exchanged if each < length - 1} | {length - 1}
            turn.forward()
        assert [step.token_id for step in turn.steps] == made[:length]
        assert set(turn.forced) == {each for each in exchanged if each < length}
        assert turn.tokens.ids == [*turn.prompt_tokens.ids, *made[:length]]


def test_what_cannot_be_exchanged_is_refused():
    turn = Turn(QUESTION, model=ScriptedModel("Hey"))
    turn.forward()
    for number, token_id in [(1, 65), (-1, 65), (0, 258), (0, -1)]:
        with pytest.raises(BadRequestError):
            turn.exchange(number, token_id)
    assert turn.text == "H"


def test_buttons_make_the_reply_one_token_forward_and_back():
    box = GlassBox("Hi", model=ScriptedModel("Hey!"))
    box.step_button.click()
    assert finished(box).turn.text == "H" and "reply token 0" in box.status.value
    box.step_button.click()
    assert finished(box).turn.text == "He" and box.reply_row.value == box.picked == len(box.turn.tokens) - 1
    box.back_button.click()
    assert box.turn.text == "H" and "One token back" in box.status.value
    box.run_button.click()
    assert finished(box).turn.text == "Hey!" and "finish_reason stop" in box.status.value
    assert [name for name, _ in box.reply_row.options] == ["H", "e", "y", "!", "<|im_end|>"]
    for _ in range(6):
        box.back_button.click()
    assert box.turn.text == "" and "where it begins" in box.status.value
    assert repr(box) == "GlassBox(21 tokens of prompt, 0 of reply, token 20 picked)"


def test_the_limit_is_told():
    box = GlassBox("Hi", max_completion_tokens=2, model=ScriptedModel("Hey!"))
    box.finish()
    assert "finish_reason length, the limit is reached" in finished(box).status.value


def test_picking_tells_where_a_token_came_from():
    box = GlassBox("Hi", system="Be brief.", model=ScriptedModel("Hey!"))
    before = len(box.turn.prompt_tokens)
    found = [origin(box.turn, position) for position in range(before)]
    assert found[0] == "a control token, which the chat template writes at the edge of messages[0] (system)"
    assert sum("text of messages[0] (system)" in each for each in found) == len("Be brief.")
    assert sum("text of messages[1] (user)" in each for each in found) == len("Hi")
    assert found[-1] == "the chat template writes it to begin the reply"
    box.prompt_row.value = found.index("it comes from the text of messages[1] (user)")
    assert box.reply_row.value is None and "it comes from the text of messages[1]" in box.facts.value
    assert "was given, not chosen" in box.facts.value
    finished(box).exchange_button.click()
    assert "Pick a token of the reply first" in box.status.value
    box.finish()
    finished(box).reply_row.value = before + 1
    assert box.prompt_row.value is None and "reply token 1, “e”" in box.facts.value


def test_a_token_of_the_prompt_shows_what_the_model_expected(model):
    box = GlassBox("What is the capital of France?", model=model)
    assert "Pick a token of the prompt" in box.facts.value and box.turn.prompt_scores is None
    scores = score_tokens(box.turn.prompt, model=model)
    place = len(box.turn.prompt_tokens) - 6
    box.prompt_row.value = place
    for position in (place, place - 1):  # the second one is known at once
        box.pick(position)
        score = scores[position - 1]
        shown = finished(box).facts.value
        chance = f"Probability {percent(score.probability).strip()}, entropy {score.entropy:.2f} bits"
        assert chance in shown and "was given, not chosen" in shown and box.other_box.options == ()
        for token_id, probability in score.alternatives.items():
            name = html.escape(token_name(token_id, model=model))
            assert f"{name}</code></th><td>{token_id}</td>{probability_cell(probability)}" in shown
        assert shown.count("in the prompt") == 1 and "Picked: prompt token" in box.status.value
    box.pick(0)
    assert "Nothing stands before it" in finished(box).facts.value


def test_scoring_the_prompt_stops_and_can_be_asked_for_again():
    class Slow(ScriptedModel):
        def next_token_logits(self, input_ids, past_key_values=None):
            time.sleep(0.001)
            return super().next_token_logits(input_ids, past_key_values)

    box = GlassBox("word " * 200, model=Slow("Hey!"))
    box.pick(5)
    assert "reads the prompt" in box.status.value
    box.stop()
    assert "Stopped: how probable" in finished(box).status.value and box.turn.prompt_scores is None
    box.pick(6)
    assert "Probability" in finished(box).facts.value


def test_the_picked_token_is_marked_in_every_room():
    box = GlassBox("Hi é", model=ScriptedModel('He said "é\\n"'))
    box.finish()
    before = len(finished(box).turn.prompt_tokens)
    quote = [step.token for step in box.turn.steps].index('"')
    box.pick(before + quote)
    for name in ROOMS:
        box.show_room(name)
        html = box.room.value.rpartition("</style>")[2]
        assert f"{name}. Picked: reply token {quote}, “&quot;”" in html, name
        assert html.count("chatlab-picked") == 1, name
    place = box.turn.prompt.index("é")
    box.pick(next(number for number, token in enumerate(box.turn.tokens) if token.start == place))
    box.show_room("Messages")
    assert '<mark class="chatlab-picked">é</mark>' in box.room.value


def test_the_rooms_of_json_hold_json():
    text = 'He said "é\n" </b>'
    turn = whole(Turn([user('a "b"\n')], model=ScriptedModel(text)))
    response = "".join(Markup(ROOMS["Response"](turn, len(turn.prompt_tokens) + 3)).texts)
    assert json.loads(response) == turn.response.model_dump(exclude_unset=True)
    texts = Markup(ROOMS["Messages"](turn, 20)).texts
    messages, reply = "".join(texts).split(
        "The reply so far: the next request would send it along as one more message."
    )
    assert json.loads(messages) == turn.messages and json.loads(reply)["content"] == text


def test_half_a_character_sends_no_chunk_of_its_own():
    turn = whole(Turn(QUESTION, model=ScriptedModel("é")))
    assert [number for number, _ in turn.sendings] == [None, 1, 2, None]
    assert "sends no chunk" in ROOMS["Chunks"](turn, len(turn.prompt_tokens))
    assert "sends no chunk" not in ROOMS["Chunks"](turn, len(turn.prompt_tokens) + 1)


def test_choosing_another_token():
    box = GlassBox("Hi", model=ScriptedModel("Hey!"))
    box.finish()
    before = len(finished(box).turn.prompt_tokens)
    box.pick(before + 2)
    assert len(box.other_box.options) == 7 and ord("y") not in [token_id for _, token_id in box.other_box.options]
    other = box.other_box.value
    box.exchange_button.click()
    assert finished(box).turn.steps[2].token_id == other and box.picked == before + 2 and box.turn.complete
    assert "exchanged by hand" in box.facts.value
    box.exchange(ord("x"))
    assert finished(box).turn.text == "Hex!"


def test_stop_and_going_on():
    box = GlassBox("Hi", max_completion_tokens=1000, model=ScriptedModel("x" * 500, seconds_per_token=0.01))
    box.finish()
    time.sleep(0.5)
    started = time.monotonic()
    box.stop_button.click()
    finished(box)
    assert time.monotonic() - started < 0.5
    made = len(box.turn.steps)
    assert 0 < made < 200 and f"Stopped after {made} tokens" in box.status.value
    box.step()
    assert len(finished(box).turn.steps) == made + 1


def test_stop_also_while_a_long_prompt_is_read():
    class Slow(ScriptedModel):
        def next_token_logits(self, input_ids, past_key_values=None):
            time.sleep(0.1)
            return super().next_token_logits(input_ids, past_key_values)

    box = GlassBox("word " * 1000, model=Slow("Hey!"))
    box.finish()
    time.sleep(0.2)
    box.stop()
    started = time.monotonic()
    assert not finished(box).turn.steps and time.monotonic() - started < 0.5
    box.step()
    assert finished(box).turn.text == "H"


def test_what_was_interrupted_is_begun_again(model):
    """Before the first token, where another was exchanged, and later: the reply is the one it would have been."""
    options = {"temperature": 1.0, "seed": 5, "max_completion_tokens": 6}
    turn, undisturbed = (Turn(QUESTION, model=model, **options) for _ in range(2))
    for _ in range(3):
        with interruptible(lambda: True), pytest.raises(ReplyStoppedError):
            whole(turn)
        turn.forward()
    assert whole(turn).steps == whole(undisturbed).steps
    other = list(turn.steps[2].alternatives)[1]
    for each in (turn, undisturbed):
        each.exchange(2, other)
    with interruptible(lambda: True), pytest.raises(ReplyStoppedError):
        whole(turn)
    assert whole(turn).steps == whole(undisturbed).steps and turn.steps[2].token_id == other


def test_another_question_begins_another_turn():
    box = GlassBox("Hi", model=ScriptedModel("x" * 500, seconds_per_token=0.01))
    box.finish()
    time.sleep(0.1)
    box.message_box.value = "Ciao"
    assert not box.running and not box.turn.steps and box.turn.messages == [user("Ciao")]
    box.temperature_field.value, box.seed_field.value, box.limit_field.value = 0, 3, 4
    box.system_box.value = "Be brief."
    request = box.turn.request
    assert (request.sampling.temperature, request.seed, request.max_tokens) == (0, 3, 4)
    assert [message["role"] for message in request.messages] == ["system", "user"]


def test_what_is_refused_is_told_and_can_be_mended():
    box = GlassBox("Hi", model=ScriptedModel("Hey", context_length=100))
    box.message_box.value = "x" * 200
    assert "ContextLengthError" in box.status.value and repr(box) == "GlassBox(no turn)"
    box.step()
    assert "refused" in finished(box).status.value and "refused" in box.static_html()
    box.back()
    box.exchange()
    box.pick(0)
    box.show_room("Chunks")
    box.message_box.value = "Hi"
    box.step()
    assert finished(box).turn.text == "H"


def test_a_model_on_a_server_is_refused():
    with pytest.raises(LocalModelNeededError):
        GlassBox(model=chatlab.connect("http://127.0.0.1:9", model="x"))


def test_a_row_keeps_its_buttons_where_nothing_changed_and_holds_the_last_of_many():
    row, seen = TokenRow("Tokens"), []
    row.fill(list(b"Hey"), model=ScriptedModel(""), picked=0)
    row.observe(lambda change: seen.append(change), "options")
    row.fill(list(b"Hey"), model=ScriptedModel(""), picked=2)
    assert not seen and row.value == 2
    row.fill(list(b"x" * 1000), model=ScriptedModel(""), picked=5, first=7)
    assert len(row.options) == 400 and row.options[-1] == ("x", 1006) and row.value is None


def test_a_learner_may_pick_while_a_row_is_filled():
    row, picked = TokenRow("Tokens"), []
    row.on_pick(picked.append)

    def pick(_):  # as a click does: in another thread than the one that fills the row
        click = threading.Thread(target=lambda: row.set_trait("value", 2))
        click.start()
        click.join()

    row.observe(pick, "options")
    row.fill(list(b"Hey"), model=ScriptedModel(""), picked=1)
    assert picked == [2] and row.value == 1


def pages(payload):
    box = GlassBox(payload, system=payload, model=ScriptedModel(payload, name=payload))
    box.finish()
    finished(box)
    box.note(payload)
    yield box.static_html()
    yield box.status.value
    for position in (3, 25, len(box.turn.prompt_tokens) + 1):
        box.pick(position)
        yield box.facts.value
        for name in ROOMS:
            box.show_room(name)
            yield box.room.value


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_becomes_markup(payload):
    allowed = {tag for text in ("Hi <|im_end|> you, dear friend of mine", "a\nb  c") for page in pages(text)
               for tag in Markup(page).tags}  # fmt: skip
    for page in pages(payload):
        found = Markup(page)
        assert found.tags <= allowed and not found.odd


def test_static_form_and_text():
    box = GlassBox("Hi", model=ScriptedModel("Hey!"))
    box.finish()
    bundle = finished(box)._repr_mimebundle_()
    assert "Hey!" in bundle["text/html"] and "Hi" in bundle["text/html"] and "likeliest" in bundle["text/html"]
    assert bundle["text/plain"] == repr(box) and "0x" not in repr(box)
