"""The learner's way in: `chatlab.exercise("roles-1")`, then check, hint, solution.

In: the id of an exercise, and what the learner wrote. Out: an outcome, a hint, a solution. Knows nothing of grades.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import Any

from filelock import Timeout

from chatlab.display import escape, view
from chatlab.exercises.case import Case
from chatlab.exercises.exercise import Exercise, ExerciseError, Outcome, judge_answer
from chatlab.exercises.task_files import all_exercises
from chatlab.progress import Progress

__all__ = ["Code", "Task", "answer_in", "cases_of", "exercise"]

MISSING = object()  # no answer was handed in: look for it in the notebook
GIVEN = "import chatlab\nfrom chatlab import assistant, chat_completions, system, user\n"  # what every exercise has


class Code(str):
    """Python code, which shows itself as lines rather than as one long text."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return view(f"<pre>{escape(self)}</pre>")


def cases_of(exercise: Exercise) -> list[Case]:
    """Return the cases by which an exercise is checked, the public ones first.

    They are made anew each time, for a scripted model in them says its replies only once. A function that is named as
    what is to be written, in small letters, makes them.
    """
    module = importlib.import_module(f"chatlab.cases.{exercise.topic.replace('-', '_')}")
    cases: list[Case] = getattr(module, exercise.name.lower())()
    return sorted(cases, key=lambda case: case.hidden)


@functools.cache
def exercise(name: str) -> Task:
    """Return an exercise by its id; raises `ValueError` with the ids there are.

    It is the same task each time, so `exercise("roles-1").hint()` in one cell and again in the next tells more.

    >>> task = exercise("roles-1")
    >>> task.check(None)
    not attempted: there is nothing in build_messages yet
    """
    known = {each.id: each for each in all_exercises()}
    if name not in known:
        raise ValueError(f"There is no exercise {name!r}. There are: {', '.join(known)}.")
    return Task(known[name])


class Task:
    """An exercise in a learner's hands: `check` your answer, ask for a `hint`, look at the `solution`."""

    def __init__(self, exercise: Exercise) -> None:
        self.exercise = exercise
        self._hints = 0

    def check(self, answer: Any = MISSING) -> Outcome:
        """Check an answer by the cases that may be seen.

        `answer` is the function or value that was written; without it, the notebook's own of that name is taken.
        Whether it is correct is recorded: `chatlab progress` counts what is solved.
        """
        outcome = self._judge(answer, hidden=False)
        if outcome.status in ("correct", "incorrect"):
            with contextlib.suppress(OSError, Timeout):  # a disk that refuses must not end the exercise
                Progress().record_exercise(self.exercise, outcome.correct)
        return outcome

    def grade(self, answer: Any = MISSING, *, hidden: bool = False) -> None:
        """Raise `ExerciseError` with the outcome unless the answer is correct, in the hidden cases too if so asked."""
        outcome = self._judge(answer, hidden=hidden)
        if not outcome.correct:
            raise ExerciseError(repr(outcome))

    def hint(self) -> str:
        """Return the next hint, each telling more; the last one stays."""
        hint = self.exercise.hints[min(self._hints, len(self.exercise.hints) - 1)]
        self._hints += 1
        return hint

    def solution(self) -> Code:
        """Return a solution, as code."""
        return Code(self.exercise.solution.rstrip())

    def _judge(self, answer: Any, *, hidden: bool) -> Outcome:
        if answer is MISSING:
            names = _notebook_names()
            if self.exercise.name not in names:
                reason = f"there is no {self.exercise.name} here. Run the cell above in which you write it"
                return Outcome("could not check", reason)
            answer = names[self.exercise.name]
        try:
            cases = [case for case in cases_of(self.exercise) if hidden or not case.hidden]
        except Exception as error:
            return Outcome("could not check", f"{type(error).__name__}: {error}")
        return judge_answer(self.exercise, cases, answer)

    def __repr__(self) -> str:
        return f"{self.exercise!r}\nThen: .check(), .hint(), .solution()"

    def _repr_html_(self) -> str:
        return view(f"{self.exercise.html()}<div>Then: <code>.check()</code>, <code>.hint()</code></div>")


def answer_in(code: str, exercise: Exercise) -> Any:
    """Return what a text of code writes for an exercise; raises whatever the code raises, `KeyError` if it does not.

    >>> answer_in("def build_messages(): return 1", exercise("roles-1").exercise)()
    1
    """
    names: dict[str, Any] = {"__name__": "answer"}
    exec(GIVEN, names)
    exec(compile(code, exercise.id, "exec"), names)  # an author's code, or a learner's in a process of its own
    return names[exercise.name]


def _notebook_names() -> dict[str, Any]:
    """Return the names of the notebook or IPython session; none where there is none."""
    from IPython import get_ipython

    shell = get_ipython()
    return {} if shell is None else shell.user_ns
