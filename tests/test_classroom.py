"""The classroom, with the real nbgrader: handed out, handed in, graded, and seen by nobody who should not."""

from __future__ import annotations

import csv
import html
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from textwrap import dedent

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.utils import get_username, temp_attrs
from ray_cluster import two_nodes, when, working
from test_rebuilding import TAMPERING, answer_cells
from typer.testing import CliRunner

from chatlab import cli
from chatlab.classroom.classroom import Classroom, ClassroomError, make_course
from chatlab.classroom.execution import ExecuteAll
from chatlab.classroom.forked_kernels import ForkedProvisioner
from chatlab.course import packaged_course
from chatlab.exercises.task_files import exercises_of

run = CliRunner().invoke
ROLES, TOKENS, CAPSTONE = "02-roles/roles.ipynb", "05-tokens/tokens.ipynb", "12-capstone/capstone.ipynb"
SOLUTIONS = {each.id: each.solution for topic in ("roles", "tokens", "capstone") for each in exercises_of(topic)}

# ---- what a cell can do to the kernel that runs it ----------------------------------------------------------------

FLOOD = "while True: print('again')"
DEAF = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
ENDS = "import os; os._exit(1)"


def test_code(source, *, answer=False):
    kind = {"solution": True, "grade": False} if answer else {"solution": False, "grade": True, "points": 1}
    return new_code_cell(source, metadata={"nbgrader": {"grade_id": "x", **kind}})


test_code.__test__ = False


def executed(*cells):
    """Return the name of the error of each cell, or what it printed, or nothing."""
    notebook = new_notebook(cells=list(cells))
    ExecuteAll(timeout=2, iopub_timeout=1).preprocess(notebook, {})
    found = [cell.outputs for cell in notebook.cells]
    return [outputs[-1].get("ename", outputs[-1].get("text")) if outputs else "" for outputs in found]


@pytest.mark.parametrize(
    ("fault", "name"),
    [("while True: pass", "TimeoutError"), (FLOOD, "TimeoutError"), (DEAF, "TimeoutError"), (ENDS, "KernelEnded")],
    ids=["loop", "flood", "deaf", "ends"],
)
def test_a_cell_that_stops_the_kernel_costs_its_own_answer_and_no_other(fault, name):
    body = fault.replace("\n", "\n    ")
    found = executed(
        new_code_cell("given = 'given'"),
        test_code(f"def first():\n    {body}", answer=True),
        test_code("first()"),
        test_code("print('hidden test')"),
        test_code("def second(): return given", answer=True),
        test_code("print(second())"),
    )
    assert found == ["", "", name, "NotRun", "", "given\n"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold a process to its limit of memory")
@pytest.mark.parametrize("code", ["bytearray(6 * 2**30)", "[0] * 800_000_000"])
def test_code_that_takes_all_memory_costs_its_own_answer_and_no_other(code):
    found = executed(
        test_code(f"def first(): return {code}", answer=True),
        test_code("first()"),
        test_code("def second(): return 5", answer=True),
        test_code("print(second())"),
    )
    assert found == ["", "MemoryError", "", "5\n"]


def test_code_that_leaves_by_exit_does_not_take_the_next_cell_along():
    found = executed(new_code_cell("given = 1"), new_code_cell("exit()"), test_code("print(given)"))
    assert found[-1] == "1\n"


def test_a_warning_costs_no_points():
    assert executed(test_code("import warnings; warnings.warn('old')")) == [""]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each kernel is a new process")
def test_kernels_are_copies_of_one_process_and_what_one_does_no_other_sees():
    look = """
        import multiprocessing, os, sys, numpy as np
        loaded = "torch" in sys.modules and len(sys.modules["chatlab.model"]._loaded)
        threads = len(os.listdir(f"/proc/{os.getppid()}/task"))
        mine = getattr(chatlab.load(), "mine", None)
        print(os.getppid(), threads, __name__, os.getcwd(), loaded, mine, np.random.rand())
        multiprocessing.get_context("fork").Process(target=os.getpid).start()
        chatlab.load().mine = "changed"
    """
    first, second = (executed(new_code_cell("import chatlab"), new_code_cell(dedent(look)))[1].split() for _ in "12")
    assert first[:-1] == second[:-1] and first[2:-1] == ["__main__", os.getcwd(), "1", "None"]
    assert first[1] == "1", "a copy of a process has only one of its threads, and waits for the others for ever"
    assert first[-1] != second[-1], "each draws numbers of its own"


LATE = """
from chatlab.classroom.forked_kernels import _Copy
class Late:
    def __reduce__(self):
        return eval, ("__import__('time').sleep(5) or '/tmp'",)
print(_Copy([], Late(), {}).pid, flush=True)
input()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each kernel is a new process")
def test_a_kernel_ends_whose_creator_was_killed_before_it_began():
    """Its parent had ended too, so it waited for the end of the one that all orphans have."""
    with subprocess.Popen([sys.executable, "-c", LATE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as creator:
        kernel = psutil.Process(int(creator.stdout.readline()))
        creator.kill()
    assert kernel.is_running(), "it has not begun"
    psutil.wait_procs([kernel], timeout=60)
    assert not kernel.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each kernel is a new process")
def test_a_kernel_that_ends_what_it_was_copied_from_costs_no_other_submission():
    kill = new_code_cell("import os, signal; os.kill(os.getppid(), signal.SIGKILL); import time; time.sleep(60)")
    assert executed(kill, new_code_cell("print(1)")) == ["KernelEnded", "1\n"]
    assert executed(new_code_cell("print(2)")) == ["2\n"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each kernel is a new process")
def test_a_kernel_that_ends_as_it_begins_is_started_again(monkeypatch):
    """Another program may have taken its port, of which no learner is to know."""
    real, ended = ForkedProvisioner.launch_kernel, []

    async def launch_kernel(self, cmd, **kwargs):
        info = await real(self, cmd, **kwargs)
        if not ended:
            os.kill(self.pid, signal.SIGKILL)
            ended.append(self.pid)
        return info

    monkeypatch.setattr(ForkedProvisioner, "launch_kernel", launch_kernel)
    assert executed(new_code_cell("1 + 1"), new_code_cell("print(2)"))[1] == "2\n" and len(ended) == 1


# ---- a course -----------------------------------------------------------------------------------------------------


def solve(notebook, **instead):
    """Write solutions into a learner's notebook, or for some exercises something else."""
    for cell in answer_cells(notebook).values():
        name = cell.id.removesuffix("-answer")
        cell.source = instead.get(name.replace("-", "_"), SOLUTIONS[name])


def read(path):
    return nbformat.read(path, as_version=4)


def write(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def hand_in(course, student, change, file=ROLES):
    notebook = read(course / "release" / file)
    change(notebook)
    write(notebook, course / "submitted" / student / file)


NOISY = """
def with_system(messages, instructions):
    print("I was called with", messages)
    rest = messages[1:] if messages[0]["role"] == "system" else messages
    return [system(instructions), *rest]
"""
UNHANDLED = "import nonsense\n" + SOLUTIONS["roles-1"]
LEAVES = "def with_system(messages, instructions):\n    raise SystemExit"
ENDLESS = "def with_system(messages, instructions):\n    while True: pass"


def tampered(notebook):
    solve(notebook)
    for change in TAMPERING:
        if change.__name__ in ("edit_tests", "copy_every_cell", "delete_tests", "wipe"):
            change(notebook)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course with six kinds of submissions and two that nobody can grade; one came by way of nbgrader's exchange.

    `untouched` beside it is the same but for the capstone, and is never graded.
    """
    folder = tmp_path_factory.mktemp("class") / "course"
    assert run(cli.app, ["classroom", "init", str(folder)]).exit_code == 0
    exchange = folder.parent / "exchange"
    exchange.mkdir(mode=0o777)
    exchange.chmod(0o777)
    with (folder / "nbgrader_config.py").open("a") as settings:
        settings.write(f"c.Exchange.root = {str(exchange)!r}\n")
    result = run(cli.app, ["classroom", "release", "02-roles", "12-capstone", "--folder", str(folder)])
    assert result.stdout == "release/02-roles\nrelease/12-capstone\n"
    by_nbgrader = [sys.executable, "-m", "nbgrader", "generate_assignment", "05-tokens"]
    subprocess.run(by_nbgrader, cwd=folder, check=True, capture_output=True)
    hand_in(folder, "aaron", solve)
    (folder / "submitted/aaron" / ROLES).write_text("{nonsense")
    hand_in(folder, "abel", solve, ROLES)
    (folder / "submitted/abel" / ROLES).rename(folder / "submitted/abel/02-roles/roles (1).ipynb")
    hand_in(folder, "empty", lambda notebook: None)
    hand_in(folder, "partly", lambda notebook: solve(notebook, roles_2=NOISY, roles_3="def mend(message): ..."))
    hand_in(folder, "crashing", lambda notebook: solve(notebook, roles_1=UNHANDLED, roles_2=LEAVES))
    hand_in(folder, "endless", lambda notebook: solve(notebook, roles_2=ENDLESS))
    hand_in(folder, "tampered", tampered)
    hand_in(folder, "tokens", solve, TOKENS)
    through_the_exchange(folder)
    shutil.copytree(folder, folder.parent / "untouched")
    hand_in(folder, "tutor", solve, CAPSTONE)
    hand_in(folder, "untaught", lambda notebook: None, CAPSTONE)
    return folder


def through_the_exchange(folder):
    """Release, fetch, solve, submit and collect, as on a JupyterHub: this is the perfect submission."""
    nbgrader = Classroom(folder).nbgrader
    assert nbgrader.release_assignment("02-roles")["success"]
    home = folder.parent / "home"
    home.mkdir()
    step = {"coursedir": nbgrader.coursedir, "authenticator": nbgrader.authenticator, "parent": nbgrader}
    with pytest.MonkeyPatch.context() as patch, temp_attrs(nbgrader.coursedir, assignment_id="02-roles"):
        patch.chdir(home)
        nbgrader.exchange.FetchAssignment(**step).start()
        notebook = read(home / ROLES)
        solve(notebook)
        write(notebook, home / ROLES)
        nbgrader.exchange.Submit(**step).start()
    assert nbgrader.collect("02-roles")["success"]


@pytest.fixture(scope="module")
def graded(course):
    """What `chatlab classroom grade` prints about each student."""
    return graded_in(course, 11)


def graded_in(folder, number, *options):
    result = run(cli.app, ["classroom", "grade", "--folder", str(folder), "--seconds", "20", *options])
    assert result.exit_code == 1, "two could not be graded"
    *lines, summary = result.stdout.splitlines()
    assert summary.startswith(f"{number - 2} graded, 2 not")
    assert f"/{number} [" in result.stderr, (
        "the bar, whose last step may come too soon after the one before to be drawn"
    )
    return dict(line.split(", ", 1) for line in lines)


def test_each_kind_of_submission_gets_the_points_that_it_earned(graded):
    unreadable = "nbformat.reader.NotJSONError: Notebook does not appear to be JSON: '{nonsense'"
    assert graded == {
        get_username(): "02-roles: 7 of 7",
        "empty": "02-roles: 0 of 7",
        "partly": "02-roles: 3 of 7",
        "crashing": "02-roles: 3 of 7",
        "endless": "02-roles: 5 of 7",
        "tampered": "02-roles: 7 of 7",
        "tokens": "05-tokens: 5 of 5",  # with the real model, as the capstone
        "tutor": "12-capstone: 15 of 15",
        "untaught": "12-capstone: 0 of 15",
        "aaron": "02-roles: 0 of 7, not graded: " + unreadable,
        "abel": "02-roles: 0 of 7, not graded: it has no roles.ipynb, but roles (1).ipynb. Rename it",
    }


def test_the_scores_are_exported(course, graded, tmp_path):
    path = tmp_path / "scores.csv"
    assert run(cli.app, ["classroom", "export", str(path), "--folder", str(course)]).exit_code == 0
    with path.open(newline="") as file:
        rows = {(row["student_id"], row["assignment"]): row for row in csv.DictReader(file)}
    for student, line in graded.items():
        assignment, score, out_of = re.match(r"(\S+): (\d+) of (\d+)", line).groups()
        row = rows[student, assignment]
        assert (float(row["score"]), float(row["max_score"])) == (float(score), float(out_of))


def test_learners_see_what_came_of_each_test_and_no_hidden_one(course, graded):
    files = {path.parts[-3]: path.read_text() for path in course.glob("feedback/*/02-roles/roles.html")}
    pages = {student: html.unescape(re.sub("<[^>]+>", "", file)) for student, file in files.items()}
    assert set(pages) == {student for student, line in graded.items() if re.fullmatch(r"02-roles: \d of 7", line)}
    for page in pages.values():
        assert "hidden=True" not in page and "HIDDEN" not in page
    assert "in a case that is not shown" in pages["partly"]
    assert "I was called with" in pages["partly"], "what the test that one may see prints"
    assert "Late." not in pages["partly"], "a message of a hidden case"
    assert "it takes longer than 20 s" in pages["endless"]
    assert "No module named 'nonsense'" in pages["crashing"] and "SystemExit: " in pages["crashing"]


def test_learners_copies_hold_no_secret(course):
    copies = [path.read_text() for path in course.glob("release/*/*.ipynb")]
    assert len(copies) == 3
    for text in copies:
        for secret in ("hidden=True", "HIDDEN", "SOLUTION", "return [*messages, user(question)]", str(course.parent)):
            assert secret not in text


def test_a_submission_is_never_changed(course, graded):
    assert (course / "submitted/aaron" / ROLES).read_text() == "{nonsense"
    notebook = read(course / "submitted/tampered" / ROLES)
    assert not any(cell.id.endswith("-public") for cell in notebook.cells)


# ---- on a cluster -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture
def untouched(course, tmp_path):
    return shutil.copytree(course.parent / "untouched", tmp_path / "course")


def outcomes(course):
    """Return what came of each cell of each submission."""
    return {
        path.relative_to(course): [
            [(each.get("ename"), each.get("evalue"), each.get("text")) for each in cell.get("outputs", [])]
            for cell in read(path).cells
        ]
        for path in sorted(course.glob("autograded/*/*/*.ipynb"))
    }


def kernels_of(processes):
    """Return the kernels of some processes, each of which copies them from a child of its own."""
    return [kernel for each in processes for child in each.children() for kernel in child.children()]


@pytest.fixture
def nothing_is_run_here(monkeypatch):
    """Running a cell in this process is an error; the workers know nothing of that."""
    monkeypatch.delattr(ExecuteAll, "_run")


def test_a_cluster_gives_the_same_scores_and_feedback(course, graded, cluster, untouched, nothing_is_run_here):
    there = graded_in(untouched, 9, "--cluster", cluster.address)
    assert there == {student: graded[student] for student in there}
    found = outcomes(untouched)
    assert len(found) == 7 and found == {path: outcomes(course)[path] for path in found}
    assert len(list(untouched.glob("feedback/*/*/*.html"))) == 7


def test_a_worker_that_is_killed_while_it_grades_loses_nothing(graded, cluster, untouched, nothing_is_run_here):
    killed = []

    def kill(found):
        killed.extend([found[0], *kernels_of(found)])
        found[0].kill()

    killer = when(lambda: [each for each in working("_run") if kernels_of([each])][:1], kill)
    students = ["partly", "tampered"]
    found = Classroom(untouched, seconds=20).grade(students=students, cluster=cluster.address)
    killer.join()
    assert {each.student: repr(each) for each in found} == {name: f"{name}, {graded[name]}" for name in students}
    psutil.wait_procs(killed, timeout=60)
    assert len(killed) == 2 and not any(each.is_running() for each in killed), "the worker and the kernel"


def test_code_that_ends_each_worker_costs_no_other_submission(graded, cluster, untouched, nothing_is_run_here):
    ends = "import psutil\npsutil.Process().parent().parent().kill()\n" + SOLUTIONS["roles-1"]
    hand_in(untouched, "killer", lambda notebook: solve(notebook, roles_1=ends))
    found = Classroom(untouched, seconds=20).grade(students=["killer", "partly"], cluster=cluster.address)
    assert [repr(each) for each in found] == [
        "killer, 02-roles: 0 of 7, not graded: the worker that ran it ended, 4 times",
        f"partly, {graded['partly']}",
    ]


@pytest.mark.parametrize("on_cluster", [False, True], ids=["here", "on a cluster"])
def test_grading_can_be_interrupted(untouched, on_cluster, request):
    options = ["--cluster", request.getfixturevalue("cluster").address] if on_cluster else []
    command = [sys.executable, "-m", "chatlab", "classroom", "grade", "--folder", str(untouched), "--seconds", "600"]
    who = ["--student", "endless", "--student", "partly"]
    with subprocess.Popen([*command, *who, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        kernels = []

        def interrupt(found):
            kernels.extend(found)
            time.sleep(5)
            process.send_signal(signal.SIGINT)

        def kernels_of_its():
            return kernels_of(working("_run") if on_cluster else [psutil.Process(process.pid)])

        interrupter = when(kernels_of_its, interrupt)
        out, _ = process.communicate(timeout=300)
        interrupter.join()
    assert process.returncode == 130 and not out
    psutil.wait_procs(kernels, timeout=60)
    assert kernels and not any(each.is_running() for each in kernels)
    assert not list(untouched.glob("feedback/endless"))


# ---- around it ----------------------------------------------------------------------------------------------------


def test_a_course_folder_holds_no_path_and_what_the_teacher_changed_stays(tmp_path):
    course = tmp_path / "course"
    make_course(course)
    for path in course.rglob("*.py"):
        assert str(packaged_course()) not in path.read_text() and str(tmp_path) not in path.read_text()
    mine = course / "source" / ROLES
    mine.write_text("mine")
    assert make_course(course).kept == [f"source/{ROLES}"]
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["release"], r"has no nbgrader_config\.py\. Make a course folder with `chatlab classroom init"),
        (["release", "99"], r"no assignment 99 in source/\. There is: 00-start, "),
        (["grade"], r"no assignment in release/\. Make the learners' copies first: `chatlab classroom release`"),
    ],
)
def test_a_teacher_is_told_what_to_do(tmp_path, command, told):
    folder = tmp_path / "course"
    if command != ["release"]:
        make_course(folder)
    result = run(cli.app, ["classroom", *command, "--folder", str(folder)])
    assert isinstance(result.exception, ClassroomError)
    assert re.search(told, str(result.exception))


def test_without_nbgrader_one_is_told_how_to_get_it():
    code = "import sys; sys.modules['nbgrader'] = None; from chatlab.cli import main; main()"
    command = [sys.executable, "-c", code, "classroom", "init", "course"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "chatlab-classroom[classroom]" in result.stderr


# ---- handed out with nbgitpuller ----------------------------------------------------------------------------------


def git(folder, *arguments):
    who = ["-c", "user.name=Teacher", "-c", "user.email=teacher@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def pull(release, home):
    command = [sys.executable, "-m", "nbgitpuller.pull", str(release), "main", str(home)]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="nbgitpuller needs git")
def test_an_update_by_nbgitpuller_never_overwrites_a_learners_work(course, tmp_path):
    folder, home = tmp_path / "course", tmp_path / "home"
    shutil.copytree(course, folder)
    room, release = Classroom(folder), folder / "release"
    git(release, "init", "-q", "-b", "main")
    git(release, "add", ".")
    git(release, "commit", "-qm", "The first exercises")
    pull(release, home)

    notebook = read(home / ROLES)
    solve(notebook)
    notebook.cells.insert(2, new_code_cell("my_own = 1"))
    write(notebook, home / ROLES)

    source = read(folder / "source" / ROLES)
    source.cells[0].source = "# A new title"
    answer_cells(source)["roles-1-answer"].source = "def build_messages():\n    ... # a new starter"
    source.cells[-1].source += "\n# a change to a test"
    write(source, folder / "source" / ROLES)
    room.release(["00-start", "02-roles"])
    git(release, "add", ".")
    git(release, "commit", "-qm", "An update")
    pull(release, home)

    merged = read(home / ROLES)
    assert [cell.source for cell in answer_cells(merged).values()] == [SOLUTIONS[f"roles-{n}"] for n in (1, 2, 3)]
    assert any(cell.source == "my_own = 1" for cell in merged.cells)
    assert merged.cells[0].source == "# A new title"
    assert (home / "00-start/start.ipynb").is_file()
