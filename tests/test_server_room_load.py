"""A room of learners for a few seconds: nobody is starved, no reply is another's. benchmarks/room.py takes longer."""

from __future__ import annotations

import pytest
from benchmarks import room


def test_jains_index():
    assert room.jain([5, 5, 5]) == 1 and room.jain([9, 0, 0]) == pytest.approx(1 / 3)


def test_a_room_is_fair_and_keeps_replies_apart(model):
    outcome = room.run_room(model, learners=8, seconds=5)
    print(outcome)
    assert not any(learner.mixed_up or learner.errors for learner in outcome.learners)
    assert all(learner.replies for learner in outcome.learners), "somebody was starved"
    assert outcome.fairness > 0.85
    thrifty = outcome.kind("thrifty")[0]
    assert thrifty.replies <= room.SMALL_BUDGET
    for learner in outcome.learners:
        assert int(outcome.table[learner.name]["requests"]) == learner.replies
