from __future__ import annotations

from typing import Any

import click
import pytest

from baton.cli.assignments import Assignment


def _changed(text: str, document: dict[str, Any]) -> dict[str, Any]:
    Assignment.parse(text).apply(document)
    return document


@pytest.mark.parametrize(
    ("text", "document", "changed"),
    [
        ("a=1", {"a": 0}, {"a": 1}),
        ("a.b=x: 1", {}, {"a": {"b": {"x": 1}}}),
        ("a.b={c: [1]}", {"a": None}, {"a": {"b": {"c": [1]}}}),
        ("r[1].n=true", {"r": [{}, {"n": 1}]}, {"r": [{}, {"n": True}]}),
        ("r[b].n='2'", {"r": [{"name": "a"}, {"name": "b"}]}, {"r": [{"name": "a"}, {"name": "b", "n": "2"}]}),
        ("e[A.B]=c=d", {"e": {}}, {"e": {"A.B": "c=d"}}),
        ("a.b=null", {"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}),
        ("r[0]=3", {"r": [1]}, {"r": [3]}),
    ],
)
def test_a_field_is_changed(text: str, document: dict[str, Any], changed: dict[str, Any]) -> None:
    assert _changed(text, document) == changed


@pytest.mark.parametrize("text", ["", "a", "=1", "a..b=1", "a[=1", "a]=1", "a[]=1", "a={"])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Assignment.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r[c].n=1", "r[c].n: there is no item c; there are a, b"),
        ("r[2].n=1", "r[2].n: there is no item 2; there are a, b"),
        ("n.x=1", "n.x: x lies inside a plain value"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_ends(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        _changed(text, {"r": [{"name": "a"}, {"name": "b"}], "n": 1})

    assert caught.value.message == message
