"""A room of learners for a few seconds: nobody is starved, no reply is another's. benchmarks/room.py takes longer."""

from __future__ import annotations

import pytest
from benchmarks import room


def test_jains_index():
    assert room.jain([5, 5, 5]) == 1 and room.jain([9, 0, 0]) == pytest.approx(1 / 3)


def test_nobody_is_starved_no_reply_mixed_up_and_a_budget_holds(model):
    outcome = room.run_room(model, learners=9, seconds=5)
    print(outcome)
    outcome.check()  # how fair it is in tokens, the scheduler's own tests say without a clock
