from __future__ import annotations

from typing import Any

import pytest

from baton.api.admission import check_serving
from baton.api.problems import Severity
from builders import JsonObject, serving


def faults(*plugins: JsonObject) -> list[tuple[str, str, Severity]]:
    checked = serving().role("decode").with_spec(plugins=list(plugins)).build()
    return [(problem.path, problem.message, problem.severity) for problem in check_serving(checked)]


def test_known_plugins_are_accepted() -> None:
    tweaks = {"runtimeClassName": "r", "annotations": {"a": "b"}, "env": [{"name": "A", "valueFrom": {}}], "more": 1}
    scope = {"roles": ["decode"], "target": "Entry"}
    assert faults({"name": "demo-pod-tweaks", "config": tweaks, "scope": scope}, {"name": "lws-standard-labels"}) == []


def test_an_unknown_plugin_is_refused_with_those_there_are() -> None:
    message = "there is no plugin 'gpu-magic'; plugins are demo-pod-tweaks and lws-standard-labels"
    assert faults({"name": "gpu-magic"}) == [("spec.plugins[0].name", message, Severity.ERROR)]


@pytest.mark.parametrize(
    ("config", "path", "words"),
    [
        ({"annotations": {"a": 1}}, "config.annotations.a", "should be a valid string"),
        ({"env": [{"value": "x"}]}, "config.env", "each of env needs a name"),
        ({"env": "A=1"}, "config.env", "should be a valid list"),
        ({"runtimeClassName": {}}, "config.runtimeClassName", "should be a valid string"),
        ("tweak", "config", "should be"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_refused(config: Any, path: str, words: str) -> None:
    ((where, message, severity),) = faults({"name": "demo-pod-tweaks", "config": config})
    assert (where, severity) == (f"spec.plugins[0].{path}", Severity.ERROR)
    assert words in message


def test_a_scope_that_means_nothing_is_told() -> None:
    scope = {"roles": ["prefill"], "target": "Leader"}
    assert faults({"name": "lws-standard-labels", "scope": scope}) == [
        ("spec.plugins[0].scope.target", "'Leader' should be All, Entry, Worker or absent", Severity.ERROR),
        ("spec.plugins[0].scope.roles", "there is no role 'prefill'; roles are decode", Severity.WARNING),
    ]
