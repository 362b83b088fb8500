"""Execution: run a notebook to its end, whatever its code does.

In: a notebook. Out: the same with its outputs, and an error where a cell never ends or ends the kernel. Knows nothing
of who wrote it. nbgrader alone gives up a whole submission when its kernel dies or no longer listens.
"""

from __future__ import annotations

import time
from pathlib import Path
from queue import Empty
from typing import Any

import nbformat
from jupyter_core.utils import ensure_async, run_sync
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbgrader.preprocessors import Execute
from nbgrader.utils import is_grade, is_locked, is_solution
from traitlets import Unicode

from chatlab.classroom.forked_kernels import fork_kernels

__all__ = ["ExecuteAll"]

v4: Any = nbformat.v4  # it has no types

SETUP_SECONDS = 600  # for the teacher's own cells: importing a model's library is slow on a busy machine
MEMORY = 4 * 2**30  # bytes that a submission may take: the exercises need one GiB, and a laptop has eight
LIMIT = f"""
try:
    import resource
except ImportError:  # Windows has no such limit
    pass
else:
    resource.setrlimit(resource.RLIMIT_DATA, ({MEMORY}, {MEMORY}))
"""
LISTENS_WITHIN = 5.0  # seconds in which a kernel that was interrupted must answer


class ExecuteAll(Execute):  # type: ignore[misc]
    """nbgrader's step that runs a notebook; it goes on in a new kernel where the old one is lost.

    A kernel may take 4 GiB of memory; what asks for more gets Python's `MemoryError`, and takes nothing from others. A
    new kernel runs again what the notebook wrote so far, but no test. After a test that was stopped, the other tests
    of the same answer fail without being run. What a test prints as a warning costs no points.
    """

    executed = Unicode(
        help="A folder of notebooks that were run elsewhere: <student>/<assignment>/<notebook>.ipynb. "
        "The outputs of one with the same cells are taken instead of running it again."
    ).tag(config=True)

    def preprocess(self, nb: Any, resources: Any = None, km: Any = None) -> Any:
        """Run the notebook, unless that was done elsewhere; `resources` and `km` are nbconvert's."""
        if self.executed and self._take_outputs(nb, **resources["nbgrader"]):
            return nb, resources
        self._wrote: list[Any] = []  # the cells that ran well so far, tests left out
        self._stopped = False
        self.timeout_func = self._seconds
        return super().preprocess(nb, resources, km)

    def create_kernel_manager(self) -> Any:
        """Return a manager whose kernels need not import chatlab or load the model."""
        manager = super().create_kernel_manager()
        fork_kernels(manager)
        return manager

    def start_new_kernel_client(self) -> Any:
        """Connect to a kernel that has just begun, and limit its memory for ever.

        One that ends before it has run any code is no fault of the code: another program may have taken its port.
        """
        try:
            client = super().start_new_kernel_client()
        except RuntimeError:
            self.km = self.create_kernel_manager()
            self.start_new_kernel()
            client = super().start_new_kernel_client()
        self.kc.execute(LIMIT, silent=True)
        return client

    def _take_outputs(self, nb: Any, *, student: str, assignment: str, notebook: str, **_: Any) -> bool:
        path = Path(self.executed, student, assignment, f"{notebook}.ipynb")
        if not path.is_file():
            return False
        done: Any = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
        if [cell.source for cell in done.cells] != [cell.source for cell in nb.cells]:
            return False
        for cell, ran in zip(nb.cells, done.cells, strict=True):
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
        return True

    def preprocess_cell(self, cell: Any, resources: Any, index: int) -> tuple[Any, Any]:
        """Run one cell."""
        if is_solution(cell):
            self._stopped = False
        if is_grade(cell) and self._stopped:
            cell.outputs = [_error("NotRun", "the test before this one was stopped")]
            return cell, resources
        fault = self._run(cell, resources, index)
        if is_grade(cell):
            self._stopped = fault is not None
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
        elif fault is None and cell.cell_type == "code":
            self._wrote.append(cell)
        if fault is not None:
            cell.outputs = [fault]
        return cell, resources

    def _run(self, cell: Any, resources: Any, index: int) -> Any:
        """Run a cell; return the error if it was stopped or ended the kernel, else None."""
        for _ in range(2):  # code that calls exit() ends well, and it is the next cell that meets a dead kernel
            try:
                super().preprocess_cell(cell, resources, index)
            except DeadKernelError:
                self._start_anew()
                continue
            except CellTimeoutError:  # all that it printed is still on its way
                self._start_anew()
            else:
                if not self._was_interrupted(cell):
                    return None
                if not run_sync(self._listens)():
                    self._start_anew()
            return _error("TimeoutError", f"it takes longer than {self.timeout} s")
        return _error("KernelEnded", "this code ends the program that runs it")

    def _seconds(self, cell: Any) -> int:
        own = is_locked(cell) and not is_grade(cell)
        return max(self.timeout, SETUP_SECONDS) if own else int(self.timeout)

    def _was_interrupted(self, cell: Any) -> bool:
        name = self.error_on_timeout["ename"]
        return any(each.get("ename") == name for each in cell.get("outputs", []))

    async def _listens(self) -> bool:
        """Return whether the kernel answers: code that catches every interrupt runs on."""
        asked = await ensure_async(self.kc.kernel_info())
        end = time.monotonic() + LISTENS_WITHIN
        while (left := end - time.monotonic()) > 0:
            try:
                message = await ensure_async(self.kc.shell_channel.get_msg(timeout=left))
            except Empty:
                break
            if message["parent_header"].get("msg_id") == asked:
                return True
        return False

    def _start_anew(self) -> None:
        self.kc.stop_channels()
        run_sync(self.km.restart_kernel)(now=True)
        self.start_new_kernel_client()
        for cell in self._wrote:
            self.wait_for_reply(self.kc.execute(cell.source), cell)


def _error(name: str, text: str) -> Any:
    return v4.new_output("error", ename=name, evalue=text, traceback=[f"{name}: {text}"])
