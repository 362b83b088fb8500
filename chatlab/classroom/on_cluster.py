"""On a cluster: notebooks run by several processes, which Ray starts again where one dies.

In: folders, each with the notebooks of one submission, and a Ray cluster. Out: the same notebooks with their outputs.
Knows nothing of scores.

A worker loads the model once. Each submission runs in a copy of what was loaded: were the model itself shared, one
learner's code could change it for the next.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from traitlets.config import Config

from chatlab.classroom.execution import ExecuteAll
from chatlab.cluster import connect_ray

__all__ = ["run_on"]

Submission = tuple[str, str]  # student, assignment
RETRIES = 3  # code that ends its worker each time would otherwise be run for ever


def run_on(
    cluster: str | bool, folders: Iterable[tuple[Submission, Path]], settings: Config
) -> Iterator[tuple[Submission, dict[str, str], str]]:
    """Yield each submission as soon as a worker has run it: its notebooks by file name, or what went wrong.

    `settings` are nbgrader's. A worker has one core, and gets all files of the folder. Raises `ClusterError` where Ray
    is not installed or no cluster is found.
    """
    ray = connect_ray(cluster)
    run = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_run)
    own = Config({name: settings[name] for name in (each.__name__ for each in ExecuteAll.mro()) if name in settings})
    running: dict[Any, Submission] = {}
    try:
        for submission, folder in folders:
            files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            running[run.remote(files, own)] = submission
        while running:
            [done], _ = ray.wait(list(running), num_returns=1)
            submission = running.pop(done)
            try:
                notebooks, fault = ray.get(done), ""
            except ray.exceptions.RayTaskError as error:
                notebooks, fault = {}, f"a worker could not run it: {error.cause}"
            except ray.exceptions.RayError:
                notebooks, fault = {}, f"the worker that ran it ended, {RETRIES + 1} times"
            yield submission, notebooks, fault
    finally:
        for reference in running:
            ray.cancel(reference)


def _run(files: dict[str, bytes], settings: Config) -> dict[str, str]:
    """Run the notebooks among some files, in a worker, and return them by file name."""
    os.environ.update(CHATLAB_RECORDS="off", NBGRADER_EXECUTION="autograde")
    with TemporaryDirectory() as place:
        for name, content in files.items():
            path = Path(place, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return {path.name: _executed(path, settings) for path in sorted(Path(place).glob("*.ipynb"))}


def _executed(path: Path, settings: Config) -> str:
    notebook: Any = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
    ExecuteAll(config=settings).preprocess(notebook, {"metadata": {"path": str(path.parent)}})
    return str(nbformat.writes(notebook))  # type: ignore[no-untyped-call]
