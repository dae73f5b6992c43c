from __future__ import annotations

from collections import Counter

from baton.rendering.resolve import resolve
from baton.rendering.rules import RULES, Group, check
from rendering_builders import example, pair, role, serving


def test_rules_have_ids_of_their_own() -> None:
    assert [count for _, count in Counter(rule.id for rule in RULES).most_common(1)] == [1]


def test_all_problems_of_all_roles_are_reported_at_once() -> None:
    launched = serving(role("one"), role("two", flags={"port": 1}), engine={"image": None})

    assert [problem.path for problem in check(Group(launched, resolve(launched)))] == [
        "spec.template.roles[0].engine.image",
        "spec.template.roles[1].engine.image",
        "spec.template.roles[1].engine.flags",
    ]


def test_what_roles_share_is_reported_once() -> None:
    launched = serving(role("one"), role("two"), engine={"flags": {"port": 1}})

    assert len(check(Group(launched, resolve(launched)))) == 1


def test_what_is_right_has_no_problems() -> None:
    for launched in (example(), pair(), serving(role())):
        assert check(Group(launched, resolve(launched))) == ()
