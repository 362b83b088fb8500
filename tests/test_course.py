import json

import pytest

from chatlab import course


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    for name in ("notebooks/a.ipynb", "notebooks/b.ipynb", "exercises/c.ipynb", "exercises/d.ipynb"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"first {name}")
    return folder


def test_first_copy_writes_everything(source, tmp_path):
    copied = course.copy_course(tmp_path / "mine", source=source)
    assert len(copied.written) == 4 and copied.kept == []
    assert (tmp_path / "mine/notebooks/a.ipynb").read_text() == "first notebooks/a.ipynb"


def test_second_copy_writes_nothing(source, tmp_path):
    course.copy_course(tmp_path / "mine", source=source)
    copied = course.copy_course(tmp_path / "mine", source=source)
    assert (copied.written, copied.kept) == ([], [])


def test_a_changed_file_is_never_overwritten_and_an_unchanged_one_is_updated(source, tmp_path):
    course.copy_course(tmp_path / "mine", source=source)
    (tmp_path / "mine/notebooks/a.ipynb").write_text("my work")
    for name in ("a", "b"):
        (source / f"notebooks/{name}.ipynb").write_text("second edition")
    for _ in range(2):
        copied = course.copy_course(tmp_path / "mine", source=source)
        assert copied.kept == ["notebooks/a.ipynb"]
    assert (tmp_path / "mine/notebooks/a.ipynb").read_text() == "my work"
    assert (tmp_path / "mine/notebooks/b.ipynb").read_text() == "second edition"


def test_a_file_the_learner_had_before_is_kept(source, tmp_path):
    (tmp_path / "mine/notebooks").mkdir(parents=True)
    (tmp_path / "mine/notebooks/a.ipynb").write_text("my own notebook")
    assert course.copy_course(tmp_path / "mine", source=source).kept == ["notebooks/a.ipynb"]


def test_a_deleted_file_comes_back(source, tmp_path):
    course.copy_course(tmp_path / "mine", source=source)
    (tmp_path / "mine/notebooks/a.ipynb").unlink()
    assert course.copy_course(tmp_path / "mine", source=source).written == ["notebooks/a.ipynb"]


@pytest.mark.parametrize("damage", ["", "{", "[]", json.dumps({"notebooks/a.ipynb": "nonsense"})])
def test_a_damaged_record_overwrites_nothing(source, tmp_path, damage):
    course.copy_course(tmp_path / "mine", source=source)
    (tmp_path / "mine" / course.RECORD).write_text(damage)
    (tmp_path / "mine/notebooks/a.ipynb").write_text("my work")
    course.copy_course(tmp_path / "mine", source=source)
    assert (tmp_path / "mine/notebooks/a.ipynb").read_text() == "my work"


def test_checkout_is_found_from_inside_and_nothing_else_counts(tmp_path):
    (tmp_path / "chatlab/notebooks/deep").mkdir(parents=True)
    assert course.checkout(tmp_path / "chatlab") is None
    (tmp_path / "chatlab/pyproject.toml").write_text('[project]\nname = "chatlab-classroom"\n')
    assert course.checkout(tmp_path / "chatlab/notebooks/deep") == tmp_path / "chatlab"
    (tmp_path / "chatlab/pyproject.toml").write_text('[project]\nname = "something-else"\n')
    assert course.checkout(tmp_path / "chatlab/notebooks/deep") is None


def test_the_course_is_there():
    folder = course.packaged_course()
    assert (folder / "notebooks/00-start-here.ipynb").is_file() and any((folder / "exercises").iterdir())
