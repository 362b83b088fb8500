"""A submission, whatever became of its cells, as the notebook that is graded."""

from __future__ import annotations

import copy

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from chatlab.classroom.rebuilding import rebuilt
from chatlab.exercises.notebooks import learners_copy, source_notebook
from chatlab.exercises.task_files import exercises_of

SOURCE = source_notebook("roles")
ROLES = exercises_of("roles")
STARTERS = {each.id: each.starter.strip() for each in ROLES}
SOLUTIONS = {each.id: each.solution.strip() for each in ROLES}


def answer_cells(notebook):
    return {cell.id: cell for cell in notebook.cells if cell.id.endswith("-answer")}


def solved():
    """Return a learner's notebook in which every exercise is solved."""
    notebook = learners_copy(SOURCE)
    for name, cell in answer_cells(notebook).items():
        cell.source = SOLUTIONS[name.removesuffix("-answer")]
    return notebook


def answers(notebook):
    """Return what is to be graded for each exercise."""
    return {name.removesuffix("-answer"): cell.source.strip() for name, cell in answer_cells(notebook).items()}


def code(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def wipe(notebook):
    """Take away all metadata and ids, as another editor may do."""
    for number, cell in enumerate(notebook.cells):
        cell.metadata, cell.id = {}, f"cell-{number}"


def delete_tests(notebook):
    notebook.cells = [cell for cell in notebook.cells if not cell.id.endswith(("-public", "-hidden", "-check"))]


def edit_tests(notebook):
    for cell in notebook.cells:
        if cell.id.endswith(("-public", "-hidden")):
            cell.source = "pass"
            cell.metadata["nbgrader"] |= {"points": 100, "locked": False, "solution": True}


def copy_every_cell(notebook):
    """Copy and paste each cell below itself, with its metadata as JupyterLab does; answers as they were handed out."""
    cells = []
    for cell, handed_out in zip(notebook.cells, learners_copy(SOURCE).cells, strict=True):
        handed_out.id = f"{cell.id}-copy"
        cells += [cell, handed_out]
    notebook.cells = cells


def answers_alone(notebook):
    notebook.cells = list(answer_cells(notebook).values())
    wipe(notebook)


def turn_upside_down(notebook):
    notebook.cells.reverse()


def all_answers_in_one_cell(notebook):
    first, *others = answer_cells(notebook).values()
    first.source = "\n\n".join(cell.source for cell in (*others, first))
    notebook.cells = [cell for cell in notebook.cells if cell not in others]


def make_answers_markdown(notebook):
    for cell in answer_cells(notebook).values():
        cell.cell_type = "markdown"


def spoil_metadata(notebook):
    for cell in notebook.cells:
        cell.metadata["nbgrader"] = ["nonsense"]


TAMPERING = [
    wipe,
    delete_tests,
    edit_tests,
    copy_every_cell,
    answers_alone,
    turn_upside_down,
    make_answers_markdown,
    spoil_metadata,
]


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda each: each.__name__)
def test_answers_are_found_whatever_became_of_the_other_cells(tamper):
    notebook = solved()
    tamper(notebook)
    graded = rebuilt(SOURCE, notebook)
    assert answers(graded) == SOLUTIONS
    given = [cell for cell in graded.cells if cell.metadata.get("nbgrader")]
    wanted = [cell for cell in SOURCE.cells if cell.metadata.get("nbgrader")]
    assert [cell.metadata for cell in given] == [cell.metadata for cell in wanted]
    tests = [cell.source for cell in given if cell.metadata["nbgrader"]["grade"]]
    assert tests == [cell.source for cell in wanted if cell.metadata["nbgrader"]["grade"]]
    assert len({cell.id for cell in graded.cells}) == len(graded.cells)


def test_answers_in_one_cell_come_before_all_tests_and_no_starter_undoes_them():
    notebook = solved()
    all_answers_in_one_cell(notebook)
    found = answers(rebuilt(SOURCE, notebook))
    assert all(solution in found["roles-1"] for solution in SOLUTIONS.values())
    assert found["roles-2"] == found["roles-3"] == ""


def test_an_untouched_copy_is_graded_as_it_was_handed_out():
    assert answers(rebuilt(SOURCE, learners_copy(SOURCE))) == STARTERS


def test_an_empty_notebook_is_graded_as_one_that_was_not_touched():
    notebook = learners_copy(SOURCE)
    notebook.cells = []
    assert answers(rebuilt(SOURCE, notebook)) == STARTERS


def test_rebuilding_leaves_both_notebooks_as_they_were():
    source, notebook = copy.deepcopy(SOURCE), solved()
    before = copy.deepcopy(notebook)
    rebuilt(source, notebook)
    assert (source, notebook) == (SOURCE, before)


def test_the_last_of_several_answers_counts_and_those_before_it_are_kept():
    notebook = solved()
    again = copy.deepcopy(notebook.cells[3])
    again.source = again.source.replace("messages +=", "messages  +=")
    notebook.cells.insert(4, again)
    graded = rebuilt(SOURCE, notebook)
    assert answers(graded)["roles-1"] == again.source
    assert code(graded).index(SOLUTIONS["roles-1"]) < code(graded).index(again.source)


def test_a_later_experiment_with_the_same_name_does_not_take_the_answers_place():
    notebook = solved()
    notebook.cells.append(new_code_cell("build_messages = None"))
    notebook.cells.append(new_code_cell("def build_messages(): ..."))
    graded = rebuilt(SOURCE, notebook)
    assert answers(graded) == SOLUTIONS
    assert code(graded)[-2:] == ["build_messages = None", "def build_messages(): ..."]


def test_a_helper_of_the_learners_own_comes_before_the_tests_that_need_it():
    notebook = solved()
    helper = new_code_cell("def helper(): return 1")
    notebook.cells.insert(4, helper)
    wipe(notebook)
    graded = code(rebuilt(SOURCE, notebook))
    assert graded.index(helper.source) < graded.index('chatlab.exercise("roles-1").grade(build_messages)')


def test_a_note_is_kept_and_a_cell_that_only_asks_for_help_is_not():
    notebook = solved()
    notebook.cells += [new_markdown_cell("My *note*."), new_code_cell('chatlab.exercise("roles-1").hint()')]
    graded = rebuilt(SOURCE, notebook)
    assert graded.cells[-1].source == "My *note*." and graded.cells[-1].cell_type == "markdown"
    assert not any(".hint()" in source or ".check()" in source for source in code(graded))


def test_code_that_is_no_python_is_found_by_its_name_all_the_same():
    notebook = learners_copy(SOURCE)
    notebook.cells = [new_code_cell("def mend(message)\n    return message")]
    assert answers(rebuilt(SOURCE, notebook))["roles-3"] == notebook.cells[0].source


@pytest.mark.parametrize("kept", ["id", "metadata"])
def test_an_answer_that_writes_no_name_is_found_by_either_mark_of_its_cell(kept):
    notebook = solved()
    cell = answer_cells(notebook)["roles-1-answer"]
    cell.source = "from mine import build_messages"
    cell.id, cell.metadata = (cell.id, {}) if kept == "id" else ("other", cell.metadata)
    assert answers(rebuilt(SOURCE, notebook))["roles-1"] == cell.source
