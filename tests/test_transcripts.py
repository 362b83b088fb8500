"""Lines that people write, and the messages they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatlab import BadRequestError, assistant, system, user
from chatlab.transcripts import parse_messages


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("user: a\n\n\nb\n\n", [user("a\n\n\nb")]),
        ("user:\n  def f():\n      pass\n", [user("def f():\n    pass")]),
        ("user: see\nhttps://example.org", [user("see\nhttps://example.org")]),
        ("user: at\n12:30", [user("at\n12:30")]),
        ("\n\nuser:    spaced  \nassistant:", [user("spaced  "), assistant("")]),
        ("user: x\n  note: indented", [user("x\nnote: indented")]),
        ("developer: d\nuser: user: u", [{"role": "developer", "content": "d"}, user("user: u")]),
    ],
)
def test_lines_and_the_messages_they_write(text, messages):
    assert parse_messages(text) == messages


@pytest.mark.parametrize("line", ["User: Hi", "bot: Hi", "über: Hi", "note:"])
def test_roles_that_do_not_exist(line):
    with pytest.raises(BadRequestError, match=f"Line 2 begins with '{line.split(':')[0]}:', which is no role"):
        parse_messages(f"user: Hi\n{line}")


CONTENTS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Zs"]), min_size=1)


@given(st.lists(st.tuples(st.sampled_from([system, user, assistant]), CONTENTS), min_size=1))
def test_written_messages_are_read_back(turns):
    messages = [make(content) for make, content in turns]
    assert parse_messages("\n".join(f"{each['role']}: {each['content']}" for each in messages)) == messages
