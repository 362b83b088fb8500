"""Write the notebooks of all exercises anew: `python tests/refresh_exercises.py`

In: `exercises/tasks/*.yaml`. Out: `exercises/source` for teachers, `exercises/release` for learners.
"""

from __future__ import annotations

from pathlib import Path

import nbformat

from chatlab.exercises.notebooks import file_of, learners_copy, source_notebook
from chatlab.exercises.task_files import task_topics

EXERCISES = Path(__file__).resolve().parent.parent / "exercises"


def texts() -> dict[Path, str]:
    """Return every notebook of the exercises, as it should be."""
    found = {}
    for topic in task_topics():
        source = source_notebook(topic)
        for folder, notebook in (("source", source), ("release", learners_copy(source))):
            found[EXERCISES / folder / file_of(topic)] = nbformat.writes(notebook) + "\n"
    return found


if __name__ == "__main__":
    for path, text in texts().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(EXERCISES))
