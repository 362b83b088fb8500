import json
import re

import nbformat
import pytest
from refresh_exercises import texts

from chatlab.authoring import CourseFileError
from chatlab.exercises.case import Case, equals
from chatlab.exercises.exercise import Exercise, ExerciseError, judge_answer
from chatlab.exercises.exercises import GIVEN, answer_in, cases_of, exercise
from chatlab.exercises.notebooks import learners_copy, source_notebook
from chatlab.exercises.task_files import all_exercises, read_exercises
from chatlab.testing import ScriptedModel

ALL = all_exercises()
every_exercise = pytest.mark.parametrize("each", ALL, ids=lambda each: each.id)
DOUBLE = Exercise("x-1", "x", "01", "Double", 1, "double", "Double **it**.", "", ("a", "b"), "", ())
CASES = [Case((2,), equals(4)), Case((3,), equals(6)), Case((10,), equals(20), hidden=True)]


def graded(each, code):
    """Return the outcome of a text of code, in the hidden cases too."""
    return judge_answer(each, cases_of(each), answer_in(code, each))


def test_ids_and_titles_are_each_used_once():
    assert len({each.id for each in ALL}) == len({each.title for each in ALL}) == len(ALL)


@every_exercise
def test_there_are_public_and_hidden_cases(each):
    cases = cases_of(each)
    assert sum(not case.hidden for case in cases) >= 2
    assert sum(case.hidden for case in cases) >= 1


@every_exercise
def test_the_solution_is_correct(each):
    assert repr(graded(each, each.solution)) == "correct"


@every_exercise
def test_the_starter_is_not_attempted(each):
    assert graded(each, each.starter).status == "not attempted"


@every_exercise
def test_typical_wrong_answers_fail_each_with_a_message_of_its_own(each):
    said = [repr(graded(each, wrong.answer)) for wrong in each.wrong]
    for wrong, outcome in zip(each.wrong, said, strict=True):
        assert outcome.startswith("incorrect"), outcome
        assert wrong.says in outcome
    assert len(set(said)) == len(said)


@every_exercise
def test_hints_tell_more_and_the_last_one_stays(each):
    exercise.cache_clear()
    hints = [exercise(each.id).hint() for _ in range(len(each.hints) + 1)]  # as in one cell after another
    assert hints == [*each.hints, each.hints[-1]]
    assert str(exercise(each.id).solution()) == each.solution.rstrip()


@every_exercise
def test_the_view_keeps_the_solution_to_itself(each):
    task = exercise(each.id)
    for shown in (repr(task), task._repr_html_()):
        assert each.title in shown.replace("&#x27;", "'")
        assert each.solution not in shown


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (lambda number: 2 * number, "correct"),
        (lambda number: number + 2, "incorrect for 3: it should be 6, but is 5"),
        (lambda number: {2: 4, 3: 6}[number], "incorrect in a case that is not shown"),
        (lambda number: None, "not attempted: double returns nothing yet"),
        (None, "not attempted: there is nothing in double yet"),
        (lambda: 4, r"incorrect for 2: TypeError: .*takes 0 positional arguments"),
        ("4", "incorrect because double must be a function, but is str"),
        (lambda number: len, "incorrect for 2: it should be 4, but is <built-in function len>"),
        (lambda number: number / 0, "incorrect for 2: ZeroDivisionError: division by zero"),
    ],
)
def test_outcomes(answer, outcome):
    assert re.match(outcome, repr(judge_answer(DOUBLE, CASES, answer)))


def test_a_function_that_raises_is_not_the_checks_fault_and_a_judge_that_raises_is():
    def broken(found):
        raise RuntimeError("no model")

    assert repr(judge_answer(DOUBLE, [Case((2,), broken)], abs)) == "could not check: RuntimeError: no model"


def test_what_was_passed_in_must_stay_and_each_case_gets_a_fresh_copy():
    def append(numbers):
        numbers.append(4)
        return numbers

    judge = equals([1, 2, 4])
    given = [1, 2]
    assert "changed what was passed in" in repr(judge_answer(DOUBLE, [Case((given,), judge)], append))
    assert judge_answer(DOUBLE, [Case((given,), judge, may_change=True)] * 2, append).correct
    assert given == [1, 2]


def test_a_model_is_handed_on_as_it_is():
    model = ScriptedModel("Hi")
    assert judge_answer(
        DOUBLE, [Case((model,), lambda found: None if found is model else "a copy")], lambda m: m
    ).correct


def test_a_variable_is_judged_itself():
    cases = [Case(None, equals(4), "the number")]
    assert judge_answer(DOUBLE, cases, 4).correct
    assert repr(judge_answer(DOUBLE, cases, 5)) == "incorrect the number: it should be 4, but is 5"
    assert judge_answer(DOUBLE, cases, ...).status == "not attempted"


def test_a_class_or_a_generator_is_used_as_its_case_says():
    def total(made, numbers):
        counter = made()
        return [counter.add(number) for number in numbers][-1]

    class Counter:
        total = 0

        def add(self, number):
            self.total += number
            return self.total

    class Starter:
        def add(self, number): ...

    class Broken:
        pass

    cases = [Case(([1, 2],), equals(3), "1 and 2", use=total)]
    assert judge_answer(DOUBLE, cases, Counter).correct
    assert repr(judge_answer(DOUBLE, cases, Starter)) == "not attempted: double does nothing yet"
    assert repr(judge_answer(DOUBLE, cases, Broken)).startswith("incorrect 1 and 2: AttributeError: 'Broken' object")


def test_check_finds_the_function_in_the_notebook_by_its_name():
    from IPython.testing.globalipapp import start_ipython

    shell = start_ipython() or __import__("IPython").get_ipython()
    task = exercise("roles-1")
    shell.user_ns.pop("build_messages", None)
    assert repr(task.check()).startswith("could not check: there is no build_messages here")
    shell.run_cell(GIVEN + task.exercise.solution)
    assert repr(task.check()) == "correct"


def test_grade_raises_what_came_of_it():
    task = exercise("roles-1")
    task.grade(answer_in(task.exercise.solution, task.exercise), hidden=True)
    with pytest.raises(ExerciseError, match="not attempted"):
        task.grade(None)


def test_an_unknown_exercise_is_told_which_there_are():
    with pytest.raises(ValueError, match=r"no exercise 'roles-99'\. There are: .*roles-1, roles-2"):
        exercise("roles-99")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("points: 2", "points: two"), r"exercise 'roles-1', field 'points' is str 'two'\. Write a whole number"),
        (("id: roles-2", "id: roles-1"), r"field 'id' is used 2 times"),
        (("id: roles-2", "id: other-2"), r"'id' must begin with the topic: roles-1"),
        (("name: with_system", "name: 3"), r"field 'name' is int 3"),
        (
            ("    title: Build the messages\n", ""),
            r"exercise 'roles-1', field 'title' is missing\. Write a short title",
        ),
        (("topic: roles", "topic: rules"), r"field 'topic' is 'rules', but the file is called 'roles'"),
        (("def with_system(messages, instructions):", "def with_system(messages"), r"is no Python: line 1"),
    ],
)
def test_an_author_is_told_what_to_mend(tmp_path, change, told):
    from chatlab.authoring import course_folder

    text = (course_folder("tasks") / "roles.yaml").read_text()
    assert change[0] in text
    (tmp_path / "roles.yaml").write_text(text.replace(*change))
    with pytest.raises(CourseFileError, match=told):
        read_exercises(tmp_path / "roles.yaml")


# ---- the notebooks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "text"), texts().items(), ids=lambda each: getattr(each, "name", ""))
def test_the_notebooks_are_those_that_the_exercises_make(path, text):
    assert path.read_text(encoding="utf-8") == text, "run: python tests/refresh_exercises.py"
    nbformat.validate(nbformat.reads(text, as_version=4))


@every_exercise
def test_a_learners_copy_holds_no_solution_and_no_hidden_test(each):
    source = nbformat.writes(source_notebook(each.topic))
    copy = nbformat.writes(learners_copy(source_notebook(each.topic)))
    body = json.dumps(each.solution.rstrip()).strip('"').rpartition("\\n")[2]
    assert body in source and "hidden=True" in source
    assert "SOLUTION" not in copy and "hidden=True" not in copy


@every_exercise
def test_the_points_of_the_tests_are_those_of_the_exercise(each):
    cells = [cell for cell in source_notebook(each.topic).cells if cell.id.startswith(f"{each.id}-")]
    assert sum(cell.metadata.get("nbgrader", {}).get("points", 0) for cell in cells) == each.points
