"""Threads that share compiled work: each part is done once, and each step after the one before it."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from numba import njit

from chatlab import team
from chatlab.loops.parts import finish, take, wait
from chatlab.team import share, use_threads

STEPS, PARTS = 50, 37


@njit(nogil=True)
def add_up(done, before, room, counts):
    """In each step, each part counts itself, and adds up what all parts of the step before have made."""
    work = counts.ctypes.data
    for step in range(len(done)):
        part = take(work, step)
        while part < done.shape[1]:
            done[step, part] += 1
            before[step, part] = 1 if step == 0 else before[step - 1].sum() % 1009
            finish(work, step)
            part = take(work, step)
        wait(work, step, done.shape[1])


@pytest.fixture(autouse=True)
def one_thread_again():
    yield
    use_threads(1)


def added_up():
    done, before = np.zeros((STEPS, PARTS), np.int64), np.zeros((STEPS, PARTS), np.int64)
    share(add_up, done, before, steps=STEPS)
    return done, before


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_each_part_is_done_once_after_all_of_the_step_before(threads):
    use_threads(1)
    expected = added_up()[1]
    use_threads(threads)
    for _ in range(50):
        done, before = added_up()
        assert (done == 1).all() and np.array_equal(before, expected)


def test_threads_may_share_work_at_the_same_time():
    use_threads(1)
    expected, found = added_up()[1], []
    use_threads(3)
    callers = [threading.Thread(target=lambda: found.extend(added_up()[1] for _ in range(20))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 80 and all(np.array_equal(before, expected) for before in found)


def test_nobody_waits_for_who_does_not_come(monkeypatch):
    """A thread that has something else to do finds everything done when it comes."""

    class Late:
        def __init__(self):
            self.works = self
            self.kept = []

        def put(self, work):
            self.kept.append(work)

    late = Late()
    monkeypatch.setattr(team, "_helpers", [late])
    use_threads(2)
    done, _ = added_up()
    assert (done == 1).all() and len(late.kept) == 1
    late.kept[0]()
    assert (done == 1).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no copies of processes here")
def test_a_copy_of_the_process_has_threads_of_its_own():
    use_threads(3)
    added_up()
    child = os.fork()
    if child == 0:
        fine = not team._helpers and (added_up()[0] == 1).all() and len(team._helpers) == 2
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
