"""As many threads as cores are free: on made-up machines, and on this one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatlab import linear, threads
from chatlab.threads import FORGET, MANY, MOST, SECONDS, TRIALS, Threads

LONG_ENOUGH = 1.01 * SECONDS


class Machine:
    """A machine of so many cores, on which time passes when it is told to."""

    def __init__(self, cores, allowed=None):
        self.cores, self.allowed = cores, allowed or cores
        self.now = self.user = self.idle = self.own = 0.0
        self.others = self.self_use = 0.0  # cores in use
        self.threads = self.team = 1

    def pass_time(self, seconds):
        self.now += seconds
        self.user += (self.others + self.self_use) * seconds
        self.own += self.self_use * seconds
        self.idle += max(0.0, self.cores - self.others - self.self_use) * seconds

    def install(self, patch):
        times = psutil.cpu_times()
        patch.setattr(os, "sched_getaffinity", lambda pid: set(range(self.allowed)), raising=False)
        patch.setattr(psutil, "cpu_count", lambda: self.cores)
        patch.setattr(
            psutil,
            "cpu_times",
            lambda: type(times)(**{**dict.fromkeys(times._fields, 0.0), "user": self.user, "idle": self.idle}),
        )
        patch.setattr(os, "times", lambda: SimpleNamespace(user=self.own, system=0.0))
        patch.setattr(threads, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.pass_time))
        patch.setattr(torch, "get_num_threads", lambda: self.threads)
        patch.setattr(torch, "set_num_threads", lambda number: setattr(self, "threads", number))
        patch.setattr(threads, "use_threads", lambda number: setattr(self, "team", number))
        return self


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", 4), ("200000 100000", 2), ("150000 100000", 1), ("10000 100000", 1), ("", 4)]
)
def test_a_containers_limit_holds(monkeypatch, tmp_path, limit, cores):
    (tmp_path / "cpu.max").write_text(limit)
    monkeypatch.setattr(threads, "CGROUP", tmp_path / "cpu.max")
    Machine(4).install(monkeypatch)
    assert Threads().adapt() == cores


def test_a_quiet_machine_gives_all_its_cores(monkeypatch):
    machine = Machine(4).install(monkeypatch)
    assert Threads().adapt() == machine.threads == 4


def test_never_more_than_a_small_model_can_use(monkeypatch):
    Machine(64).install(monkeypatch)
    assert Threads().adapt() == MOST < 64


def test_it_adapts_when_others_come_and_go_but_not_to_its_own_work(monkeypatch):
    machine = Machine(4).install(monkeypatch)
    chosen = Threads()
    machine.self_use = 4.0
    machine.pass_time(2 * LONG_ENOUGH)
    assert chosen.adapt() == 4, "its own work takes nothing from it"
    machine.self_use, machine.others = 2.0, 2.0
    machine.pass_time(LONG_ENOUGH)
    assert chosen.adapt() == machine.threads == 2
    machine.others = 10.0
    machine.pass_time(LONG_ENOUGH)
    assert chosen.adapt() == 1
    machine.others = 0.1
    machine.pass_time(SECONDS / 2)
    assert chosen.adapt() == 1, "it does not look all the time"
    machine.pass_time(2 * LONG_ENOUGH)
    assert chosen.adapt() == machine.threads >= 1
    machine.pass_time(LONG_ENOUGH)
    assert chosen.adapt() == 4


def test_a_number_that_was_set_holds(monkeypatch):
    machine = Machine(4).install(monkeypatch)
    chosen = Threads(2)
    machine.others = 4.0
    machine.pass_time(LONG_ENOUGH)
    assert chosen.adapt() == machine.threads == 2
    chosen.number = None
    assert chosen.adapt() == machine.threads == 1


def test_other_cores_of_the_machine_do_not_matter_where_only_some_may_be_used(monkeypatch):
    machine = Machine(64, allowed=2).install(monkeypatch)
    machine.others = 30.0
    chosen = Threads()
    machine.pass_time(LONG_ENOUGH)
    assert chosen.adapt() == 2
    machine.others = 63.0
    machine.pass_time(LONG_ENOUGH)
    assert chosen.adapt() == 1


@pytest.mark.parametrize("fastest", [1, 2, 4])
def test_a_single_token_gets_the_number_of_threads_that_has_shown_to_be_fastest(monkeypatch, fastest):
    machine = Machine(4).install(monkeypatch)
    chosen, used = Threads(), []
    for _ in range(5 * TRIALS):
        with chosen.reading(tokens=1):
            used.append(machine.team)
            machine.now += 0.01 if machine.team == fastest else 0.02  # too short for another look at the machine
    assert {number: used[: 3 * TRIALS].count(number) for number in (1, 2, 4)} == {1: TRIALS, 2: TRIALS, 4: TRIALS}
    assert used[3 * TRIALS :] == [fastest] * 2 * TRIALS
    with chosen.reading(tokens=MANY):
        assert machine.team == 4, "a long prompt is shared out among all"
    chosen.number = 3
    with chosen.reading(tokens=1):
        assert machine.team == 3


def test_several_tokens_get_all_free_cores_until_single_ones_have_told_more(monkeypatch):
    machine = Machine(2).install(monkeypatch)
    chosen, used = Threads(), []
    for tokens in [8] * 3 + [1] * 2 * TRIALS + [8]:
        with chosen.reading(tokens):
            used.append(machine.team)
            machine.now += 0.01 * machine.team
    assert used[:3] == [2] * 3 and used[-1] == 1


@pytest.mark.parametrize("before", range(2, 2 * TRIALS + 1))
def test_a_long_text_tells_nothing_of_a_short_one(monkeypatch, before):
    """After it, two threads seemed slower than one had been before it."""
    machine = Machine(2).install(monkeypatch)
    chosen, used = Threads(), []
    for length in [1] * before + [4] * 2 * TRIALS + [1] * 2 * TRIALS:
        with chosen.reading(tokens=1):
            used.append(machine.team)
            machine.now += 0.02 * length / machine.team
    assert set(used[2 * TRIALS :]) == {2}


@pytest.mark.parametrize(("tokens", "pytorchs"), [(1, 1), (linear.MANY - 1, 1), (linear.MANY, 3)])
def test_pytorch_has_one_thread_where_the_compiled_loops_read(monkeypatch, tokens, pytorchs):
    machine = Machine(3).install(monkeypatch)
    chosen = Threads(3)
    with chosen.reading(tokens):
        assert (machine.team, machine.threads) == (3, pytorchs)


def test_a_bad_moment_does_not_count_for_ever(monkeypatch):
    machine = Machine(2).install(monkeypatch)
    chosen, used = Threads(), []
    for token in range(3 * FORGET):
        with chosen.reading(tokens=1):
            used.append(machine.team)
            machine.now += 0.02 if machine.team == 1 else 0.03 if token < 2 * TRIALS else 0.01
    assert set(used[2 * TRIALS : FORGET]) == {1}, "two seemed slow"
    assert used[FORGET:].count(1) < 3 * TRIALS, "but they are not"


def test_fewer_free_cores_are_tried_anew_and_remembered(monkeypatch):
    machine = Machine(2).install(monkeypatch)
    chosen, used = Threads(), []
    for others in [0.0] * (3 * TRIALS) + [1.0] * (2 * TRIALS) + [0.0]:
        machine.others = others
        machine.pass_time(LONG_ENOUGH)
        machine.pass_time(LONG_ENOUGH)
        with chosen.reading(tokens=1):
            used.append(machine.team)
            machine.now += 0.01 * machine.team
    assert used[2 * TRIALS : 3 * TRIALS] == [1] * TRIALS and set(used[3 * TRIALS :]) == {1}


@given(st.integers(1, 32), st.lists(st.tuples(st.floats(0, 40), st.floats(0, 3)), max_size=10))
@settings(max_examples=100, deadline=None)
def test_never_more_than_are_free_and_never_none(cores, story):
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(cores).install(patch)
        chosen = Threads()
        for others, seconds in story:
            machine.others = min(others, float(cores))
            machine.pass_time(seconds)
            looked = seconds >= LONG_ENOUGH
            wanted = chosen.adapt()
            assert 1 <= wanted <= min(cores, MOST) and machine.threads == wanted
            if looked:
                machine.pass_time(LONG_ENOUGH)
                assert chosen.adapt() <= max(1, cores - machine.others + 0.21)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core cannot be shared out")
def test_a_process_that_takes_a_core_of_this_machine_costs_a_thread():
    before = torch.get_num_threads()
    chosen = Threads()
    most = min(chosen.cores, MOST)
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        if most == MOST:
            pytest.skip("more cores than are used anyway")
        deadline = time.monotonic() + 20
        while chosen.adapt() >= most and time.monotonic() < deadline:
            time.sleep(0.1)
        assert chosen.adapt() < most
    finally:
        child.kill()
        child.wait()
        torch.set_num_threads(before)
