"""Forked kernels: each kernel begins as a copy of one process that has chatlab imported and the model loaded.

In: what Jupyter would run to start a kernel. Out: the kernel, in less than a second in place of several. Knows
nothing of notebooks.

What code does in one copy, to the model as well, no other copy sees: the system keeps the memory of two processes
apart, and copies a page of it once one of them writes there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

__all__ = ["fork_kernels"]

LAUNCHER = [sys.executable, "-m", "ipykernel_launcher"]


def fork_kernels(manager: KernelManager) -> None:
    """Let a manager start its kernels as such copies, on a system that can do it."""
    if sys.platform == "linux":
        kernel = {"kernel_id": manager.kernel_id, "kernel_spec": manager.kernel_spec}
        manager.provisioner = ForkedProvisioner(**kernel, parent=manager)


class ForkedProvisioner(LocalProvisioner):
    """Jupyter's way to start a kernel on this machine, but by copying where the kernel is one of this Python."""

    process: Any

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start the kernel; return how it is reached."""
        if cmd[:3] != LAUNCHER:
            return await super().launch_kernel(cmd, **kwargs)
        place = kwargs.get("cwd") or os.getcwd()
        self.process = _Copy(cmd[3:], place, kwargs["env"])
        self.pid = self.pgid = self.process.pid
        self.cwd = Path(place)
        return self.connection_info


class _Copy:
    """A process that runs a kernel, with what Jupyter asks of a `Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], cwd: str, env: dict[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["chatlab.classroom.preloaded"])
        self._process = context.Process(target=_run_kernel, args=(arguments, cwd, env), daemon=True)
        with mock.patch.dict(sys.modules, __main__=ModuleType("__main__")):  # else the copy runs this program's file
            self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.pid is not None and self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run_kernel(arguments: list[str], cwd: str, env: dict[str, str]) -> None:
    """Be a kernel, in the copy, which ends when its parent does: the process that is copied, which its creator ends."""
    parent, creator = os.getppid(), multiprocessing.parent_process()
    if creator is None or not creator.is_alive():
        return  # and the parent is the system, which never ends
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    multiprocessing.current_process().daemon = False  # which may not start processes of its own
    sys.path[0] = ""
    sys.argv[1:] = arguments
    np.random.seed()  # else each copy draws what the others draw
    IPKernelApp.launch_instance(arguments, parent_handle=parent)
