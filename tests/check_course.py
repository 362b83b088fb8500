"""Check what an author wrote: `python tests/check_course.py [TOPIC...]`

In: the files of the course. Out: what to mend, a line for each fault, or that all is well. Every answer of the topics
(without any: of all) is proven on the real model, and every exercise is tried with its solution and its wrong answers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from course_matrix import COVERAGE, faults
from refresh_exercises import EXERCISES, texts

import chatlab
from chatlab.errors import ChatlabError
from chatlab.exercises.exercise import Exercise, judge_answer
from chatlab.exercises.exercises import answer_in, cases_of
from chatlab.exercises.task_files import exercises_of, task_topics
from chatlab.questions.evidence import prove
from chatlab.questions.placements import placement_questions
from chatlab.questions.question_files import topic_names, topic_of


def course_faults(topics: list[str]) -> Iterator[str]:
    """Yield what is wrong with these topics, and with what all of them share."""
    model = chatlab.load()
    for name in topics:
        topic = topic_of(name)
        for item in (*topic.questions, *topic.facts):
            try:
                prove(item, model)
            except ChatlabError as error:
                yield f"{name}.yaml, {error}"
            except Exception as error:
                yield f"{name}.yaml, {item.id}: its evidence raises {type(error).__name__}: {error}"
        for exercise in exercises_of(name) if name in task_topics() else ():
            yield from (f"{name}.yaml, exercise {exercise.id!r}: {fault}" for fault in exercise_faults(exercise))
    placement_questions()
    for path in COVERAGE:
        yield from (f"coverage/{path.name}, {fault}" for fault in faults(path))
    for path, text in texts().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            yield f"{path.relative_to(EXERCISES)} is out of date. Run: python tests/refresh_exercises.py"


def exercise_faults(exercise: Exercise) -> Iterator[str]:
    """Yield what is wrong with an exercise: its cases, solution, starter, or typical wrong answers."""
    try:
        cases = cases_of(exercise)
    except (ImportError, AttributeError) as error:
        yield f"{error}. Write the function {exercise.name}() in chatlab/cases; it returns the cases."
        return
    if sum(not case.hidden for case in cases) < 2 or not any(case.hidden for case in cases):
        yield "it needs two cases that are shown, and one that is hidden."

    tried = [("the solution", exercise.solution, "correct", ""), ("the starter", exercise.starter, "not attempted", "")]
    for number, wrong in enumerate(exercise.wrong, start=1):
        tried.append((f"wrong answer {number}", wrong.answer, "incorrect", wrong.says))
    for what, code, wanted, says in tried:
        try:
            said = repr(judge_answer(exercise, cases_of(exercise), answer_in(code, exercise)))
        except Exception as error:
            yield f"{what} does not run: {type(error).__name__}: {error}"
            continue
        if not said.startswith(wanted):
            yield f"{what} should be {wanted}, but the check says: {said}"
        elif says not in said:
            yield f"the check says to {what}: {said!r}. Its 'says' must be a part of that, and is {says!r}."


def main(topics: list[str]) -> int:
    """Print what is wrong; return how many faults there are."""
    count = 0
    try:
        for fault in course_faults(topics or topic_names()):
            print(fault, flush=True)
            count += 1
    except (ChatlabError, ValueError) as error:  # a file that cannot be read says all that is wrong in it
        print(error)
        count += len(str(error).splitlines())
    print(f"{count} to mend." if count else f"All is well: {', '.join(topics) or 'the whole course'}.")
    return count


if __name__ == "__main__":
    raise SystemExit(bool(main(sys.argv[1:])))
