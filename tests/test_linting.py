import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatlab.linting import lint
from chatlab.messages import assistant, system, user


@pytest.mark.parametrize(
    ("messages", "rules"),
    [
        ([system("s"), user("u")], []),
        ([system("s"), user("u"), assistant("a"), user("u")], []),
        ([user("u")], ["no-system"]),
        ([user("u"), system("s"), user("v")], ["system-not-first"]),
        ([system("s"), system("t"), user("u")], ["several-systems"]),
        ([{"role": "developer", "content": "d"}, user("u")], []),
        ([system("s"), user("u"), user("v")], ["same-role-twice"]),
        ([system("s"), user("u"), assistant("a")], ["last-not-user"]),
        ([system("s"), user(" \n")], ["blank-content"]),
        ([{"content": "Hello!"}], ["missing-required-parameter"]),
        (["Hello"], ["invalid-type"]),
        ([], ["empty-array"]),
    ],
)
def test_rules(messages, rules):
    assert [finding.rule for finding in lint(messages)] == rules


def test_finding_says_where_why_and_what_to_do():
    (finding,) = lint([system("s"), user("u"), user("v")])
    assert (finding.severity, finding.place) == ("warning", "messages[2]")
    assert finding.reason and finding.mend
    assert str(finding) == f"warning at messages[2] (same-role-twice): {finding.reason} {finding.mend}"


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_lint_never_raises(anything):
    lint(anything)
