"""Turn: one turn of a chat in all its rooms, made one token at a time, forwards and back.

In: messages and settings. Out: a `Turn`: the prompt, its tokens, the steps of the reply so far, the chunks that they
send, the response they add up to; another one with a token exchanged. Knows nothing of widgets or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from openai.types.chat import ChatCompletion, ChatCompletionChunk

from chatlab.chat_model import ChatModel
from chatlab.checks import check_integer
from chatlab.choices import Part
from chatlab.chunks import ChunkMaker
from chatlab.display import count_of
from chatlab.generation import draw_tokens, read_prompt, steps_of
from chatlab.messages import Message
from chatlab.model import resolve
from chatlab.reading import drive, prefill_chunks
from chatlab.requests import check_request
from chatlab.scoring import Score, score_tokens
from chatlab.steps import Step
from chatlab.streaming import join_chunks
from chatlab.templating import Prompt, render
from chatlab.token_table import Token, TokenTable
from chatlab.tokens import token_bytes, tokenize

__all__ = ["Turn"]


class Turn:
    """One turn: messages → prompt → tokens → steps → chunks → response, each of which can be looked at.

    `forward` makes one token, `back` takes it away again, `exchange` puts another one in its place. `steps` are those
    of the reply as it stands. `prompt_scores` are how probable the model finds each token of the prompt (None for the
    first, which nothing precedes), once `score_prompt` has found out. Raises what `chat_completions` does for messages
    and settings that are wrong.

    >>> from chatlab.testing import ScriptedModel
    >>> turn = Turn([{"role": "user", "content": "Hi"}], seed=1, model=ScriptedModel("Hey"))
    >>> turn.forward().token, turn.forward().token, turn.text
    ('H', 'e', 'He')
    >>> turn.back()
    >>> turn.text, turn.response, turn
    ('H', None, Turn(21 tokens of prompt, 1 of reply, to go on))
    """

    def __init__(
        self,
        messages: Sequence[Message],
        *,
        temperature: float = 1.0,
        seed: int = 1,
        max_completion_tokens: int | None = None,
        top_logprobs: int = 8,
        model: ChatModel | str | Path | None = None,
    ) -> None:
        self.model = resolve(model)
        self.request = check_request(
            messages,
            temperature=temperature,
            seed=seed,
            max_completion_tokens=max_completion_tokens,
            stream=True,
            stream_options={"include_usage": True},
        )
        self.prompt: Prompt = render(self.request.messages, model=self.model)
        self.prompt_tokens: TokenTable = tokenize(self.prompt, model=self.model)
        self.prompt_scores: tuple[Score | None, ...] | None = None
        self._input_ids = read_prompt(self.prompt, model=self.model)
        self._top_logprobs = check_integer("top_logprobs", top_logprobs, minimum=1, maximum=self.model.vocab_size)
        self._maker = ChunkMaker(self.request, self.model)
        self._made: list[Step] = []
        self._length = 0
        self._exchanged: tuple[int, ...] = ()
        self._forced: list[int] = []
        self._cached_tokens = 0
        self._work = self._make([])

    @property
    def messages(self) -> list[Message]:
        """The messages that the prompt is made of."""
        return self.request.messages

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the reply so far."""
        return tuple(self._made[: self._length])

    @property
    def forced(self) -> tuple[int, ...]:
        """The numbers of the steps whose token was not drawn but exchanged."""
        return tuple(number for number in self._exchanged if number < self._length)

    @property
    def text(self) -> str:
        """The reply so far."""
        return "".join(step.text for step in self.steps)

    @property
    def complete(self) -> bool:
        """Whether the reply has ended."""
        return self._length > 0 and self._made[self._length - 1].finish_reason is not None

    @property
    def tokens(self) -> TokenTable:
        """The tokens of the prompt, then those of the reply so far: all that the model goes on from."""
        reply = []
        for step in self.steps:
            start = len(self.prompt) + step.offset
            spelled = token_bytes(step.token_id, self.model.tokenizer)
            reply.append(Token(step.token_id, step.token, spelled, start, start + len(step.text)))
        return TokenTable((*self.prompt_tokens, *reply), self.prompt_tokens.encoding)

    @property
    def sendings(self) -> list[tuple[int | None, ChatCompletionChunk]]:
        """The chunks that a stream of this reply sends, each with the number of the step that sends it.

        A token may send none (a character that is half done) or two (the one that ends the reply at its limit). The
        opening and the usage belong to no step.
        """
        sent: list[tuple[int | None, ChatCompletionChunk]] = [(None, self._maker.opening(0))]
        for number, step in enumerate(self.steps):
            sent += [(number, each) for each in self._maker.of_part(0, Part(step.text, [], None, step.finish_reason))]
        if self.complete:
            usage = self._maker.usage(
                prompt_tokens=len(self._input_ids),
                completion_tokens=self._length,
                cached_tokens=self._cached_tokens,
            )
            sent.append((None, usage))
        return sent

    @property
    def response(self) -> ChatCompletion | None:
        """The response that the chunks add up to; None until the reply is complete."""
        return join_chunks(chunk for _, chunk in self.sendings) if self.complete else None

    def forward(self) -> Step | None:
        """Make the next token and return its step; None where the reply has ended."""
        while not self.complete:
            step = self.advance()
            if step is not None:
                return step
        return None

    def advance(self) -> Step | None:
        """Do one piece of work: read a piece of the prompt, or make one token and return its step.

        Between two pieces whoever drives the turn may stop, and in the middle of one an interruption: it is begun again
        by the next call. A step that was taken back is made again, not another.
        """
        if self.complete:
            return None
        while self._length == len(self._made):
            try:
                step = next(self._work)
            except BaseException:  # stopped in the middle: the same work can be begun again
                self._work = self._make([*(step.token_id for step in self._made), *self._forced[len(self._made) :]])
                raise
            if step is None:
                return None
            self._made.append(step)
        self._length += 1
        return self._made[self._length - 1]

    def score_prompt(self, *, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Find out how probable the model finds each token of the prompt, unless that is known already.

        `interrupted` is asked between two pieces of a long prompt. Raises `ReplyStoppedError` when interrupted.
        """
        if self.prompt_scores is None:
            scores = score_tokens(
                self.prompt, top_logprobs=self._top_logprobs, interrupted=interrupted, model=self.model
            )
            self.prompt_scores = (None, *scores)

    def back(self) -> None:
        """Take the last token away; at the beginning there is none."""
        self._length = max(0, self._length - 1)

    def exchange(self, number: int, token_id: int) -> None:
        """Let step number `number` take another token; what came after it is gone, and `forward` goes on from there.

        Each later step throws the same dice as before. Raises `BadRequestError` for a step or token that is not there.
        """
        check_integer("number", number, minimum=0, maximum=self._length - 1)
        check_integer("token_id", token_id, minimum=0, maximum=self.model.vocab_size - 1)
        self._exchanged = (*(each for each in self._exchanged if each < number), number)
        del self._made[number:]
        self._length = number
        self._forced = [*(step.token_id for step in self._made), token_id]
        self._work = self._make(self._forced)

    def _make(self, forced: list[int]) -> Iterator[Step | None]:
        """Yield each new step, and None after each piece of other work: of reading, of repeating what is known."""
        known = len(self._made)
        reading = prefill_chunks(self.model, self._input_ids)
        read = next(reading)
        yield None
        for further in reading:
            read = further
            yield None
        if not forced:  # to repeat what is known costs nothing in a real request, which asks once
            self._cached_tokens = read.cached_tokens
        drawn = draw_tokens(
            self.model,
            read,
            params=self.request.sampling,
            max_tokens=self.request.max_tokens,
            seed=self.request.seed,
            forced=forced,
        )
        work = steps_of(drawn, top_logprobs=self._top_logprobs, model=self.model)
        for number, step in enumerate(drive(self.model, work)):
            yield None if number < known else step

    def __repr__(self) -> str:
        state = "complete" if self.complete else "to go on"
        tokens = f"{count_of(len(self.prompt_tokens), 'token')} of prompt, {len(self.steps)} of reply"
        return f"Turn({tokens}, {state})"
