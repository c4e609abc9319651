"""A user's PromQL sees one namespace, or is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_operator.domain.promql import Unreadable, confined

NS = 'namespace="team"'
CONFINED = {
    "a bare metric": ("up", f"up {{{NS}}}"),
    "its own matchers stay": ('up{job="x"}', f'up {{{NS},job="x"}}'),
    "a namespace of one's own widens nothing": (
        'up{namespace=~".+"}',
        f'up {{{NS},namespace=~".+"}}',
    ),
    "a selector without a name": ('{__name__="up"}', f'{{{NS},__name__="up"}}'),
    "a quoted name": ('{"my.metric"}', f'{{{NS},"my.metric"}}'),
    "a rate": ("rate(a_total[5m])", f"rate ( a_total {{{NS}}} [5m] )"),
    "an aggregation by labels": (
        "sum by (pod) (rate(a[1m]))",
        f"sum by (pod) ( rate ( a {{{NS}}} [1m] ) )",
    ),
    "labels after it": ("sum(a) without (pod)", f"sum ( a {{{NS}}} ) without (pod)"),
    "a matching of vectors": (
        "a / on (pod) group_left (x) b",
        f"a {{{NS}}} / on (pod) group_left (x) b {{{NS}}}",
    ),
    "a comparison": ("a > bool b", f"a {{{NS}}} > bool b {{{NS}}}"),
    "set operators": ("a and b or c unless d", None),
    "an offset": ("a offset 5m", f"a {{{NS}}} offset 5m"),
    "a time": ("a @ start()", f"a {{{NS}}} @ start ( )"),
    "a subquery": ("max_over_time(a[5m:1m])", f"max_over_time ( a {{{NS}}} [5m:1m] )"),
    "a number": ("vector(1e-3) + Inf", "vector ( 1e-3 ) + Inf"),
    "a metric that is called like an operator": ("sum + by", f"sum {{{NS}}} + by {{{NS}}}"),
    "a string with a brace": ('up{a="}b{"}', f'up {{{NS},a="}}b{{"}}'),
    "a comment": ("up # {", f"up {{{NS}}}"),
}
REFUSED = {
    "or between matchers, which some servers know": '{a="b" or c="d"}',
    "a string without an end": 'up{a="b}',
    "a brace without an end": "up{",
    "a brace without a beginning": "up}",
    "a matcher without a value": "up{a}",
    "an unknown mark": "up ; down",
    "two metrics side by side": "up down",
    "a template, which some servers know": "WITH (x = up) x{a=~b}",
    "labels that are none": "sum by (up{}) (a)",
}


@pytest.mark.parametrize(("query", "wanted"), CONFINED.values(), ids=CONFINED)
def test_it_is_confined(query: str, wanted: str | None) -> None:
    found = confined(query, "team")
    assert wanted is None or "".join(found.split()) == "".join(wanted.split())


def test_every_vector_of_a_set_operator_is_confined() -> None:
    assert confined("a and b or c unless d", "team").count(NS) == 4


@pytest.mark.parametrize("query", REFUSED.values(), ids=REFUSED)
def test_it_is_refused(query: str) -> None:
    with pytest.raises(Unreadable):
        confined(query, "team")


@given(st.text("ab{}()\"'=~!, by[]5m#\n", max_size=30))
def test_nothing_is_a_surprise(query: str) -> None:
    try:
        found = confined(query, "team")
    except Unreadable:
        return
    ours = found.replace(
        NS, "OURS"
    )  # first, or the end of one string and the start of the next look like one
    without_strings = re.sub(r"(\"[^\"\n]*\"|'[^'\n]*')", "", ours)
    for part in without_strings.split("{")[1:]:
        assert part.startswith("OURS")
