from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from baton.routing.document import DocumentError, faults_of_config_map, faults_of_file, read_document
from baton.routing.endpoints import static_endpoints_of
from routing_builders import config, selector

GOOD = """
version: v1
routes:
- name: r
  modelName: m
  created: "2026-01-31T12:00:00Z"
  rules:
  - match: {headers: {tier: {regex: "^g"}}, uri: {prefix: /v1/}}
    targets: [{backend: b}]
backends:
- name: b
  endpoints:
  - {address: 10.0.0.1, port: 8000, ranks: 4}
"""


def changed(path: str, value: object) -> str:
    """Return the good document with another value at a path."""
    document = yaml.safe_load(GOOD)
    *parents, last = [int(part) if part.isdigit() else part for part in re.findall(r"\w+", path)]
    place = document
    for part in parents:
        place = place[part]
    place[last] = value
    return yaml.safe_dump(document)


def faults_in(text: str, *, strict: bool = False) -> tuple[str, ...]:
    with pytest.raises(DocumentError) as caught:
        read_document(text, strict=strict)
    return caught.value.faults


def test_a_good_document_is_read() -> None:
    assert read_document(GOOD, strict=True).backends[0].endpoints[0].ranks == 4


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("version", "v2", "version: "),
        ("backends[0].port", 0, "backends[0].port: "),
        ("routes[0].rules", [], "routes[0].rules: "),
        (
            "routes[0].rules[0].targets[0].backend",
            "c",
            "document: route r: no backend is called 'c'; known: b",
        ),
        ("routes[0].modelName", None, "routes[0].modelName: is missing"),
        (
            "routes[0].created",
            "yesterday",
            "routes[0].created: 'yesterday' is no time; write it as 2026-01-31T12:00:00Z",
        ),
        ("routes[0].rules[0].targets[0].weight", 0, "routes[0].rules[0].targets: all weights are 0"),
        (
            "routes[0].rules[0].match.uri",
            {"regex": "("},
            "routes[0].rules[0].match.uri.regex: '(' is no regular expression",
        ),
        ("routes[0].rules[0].match.headers.tier.regex", "[", "routes[0].rules[0].match.headers.tier.regex: '[' is no"),
        (
            "backends[0].endpoints[0].port",
            65533,
            "backends[0].endpoints[0].ranks: 4 ranks from port 65533 on",
        ),
        (
            "backends[0].endpoints",
            [{"address": "a", "port": 1, "ranks": 2}, {"address": "a", "port": 2}],
            "backends[0].endpoints: a:2 is listed 2 times",
        ),
        ("backends", [{"name": "b"}, {"name": "b"}], "backends[0].name: 'b' is used more than once"),
    ],
)
def test_a_fault_is_named_by_its_field(path: str, value: object, fault: str) -> None:
    assert faults_in(changed(path, value))[0].startswith(fault)


def test_the_example_file_is_good() -> None:
    example = Path(__file__).parents[3] / "examples/router-file/router.yaml"
    config = read_document(example.read_text(), strict=True)
    assert faults_of_file(config) == []
    assert sum(len(static_endpoints_of(backend)) for backend in config.backends) == 21


def test_all_faults_are_named_together() -> None:
    assert (
        len(
            faults_in(
                changed(
                    "backends",
                    [{"name": "b"}, {"name": "b", "endpoints": [{"address": "a", "port": 65535, "ranks": 2}]}],
                )
            )
        )
        == 3
    )


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "",
        "- 1",
        "\x00",
        "!!bool x",
        "!!int ''",
        "!!timestamp x",
        "2026-13-45",
        "!!python/object:os.system x",
        "[" * 20000,
        "&a [*a]",
    ],
    ids=["open", "empty", "list", "control", "bool", "int", "timestamp", "date", "python", "deep", "endless"],
)
def test_what_is_no_document_is_refused_in_one_line(text: str) -> None:
    faults = faults_in(text)
    assert all("\n" not in fault and fault.startswith("document: ") for fault in faults)


def test_unknown_fields_are_refused_only_when_strict() -> None:
    text = changed("backends[0].ports", 1)
    assert read_document(text).backends[0].name == "b"
    assert faults_in(text, strict=True)[0].startswith("backends[0].ports: ")


def test_a_file_selects_no_pods() -> None:
    assert faults_of_file(read_document(GOOD)) == []
    (fault,) = faults_of_file(config(backend={"selector": selector()}))
    assert fault.startswith("backends[0].selector: ")


def test_a_config_map_selects_pods_of_its_own_namespace() -> None:
    assert faults_of_config_map(config(backend={"selector": selector("ns")}), namespace="ns") == []


@pytest.mark.parametrize(
    ("backend", "fault"),
    [
        ({"selector": selector("other")}, "backends[0].selector.namespace: "),
        ({}, "backends[0].selector: is missing"),
        ({"selector": selector(), "endpoints": [{"address": "a", "port": 1}]}, "backends[0].endpoints: only a"),
        ({"selector": selector(app="a,b=c")}, "backends[0].selector.matchLabels: app=a,b=c cannot be"),
        ({"selector": selector(**{"a b": "c"})}, "backends[0].selector.matchLabels: a b=c cannot be"),
        ({"selector": selector(**{"x.io/a": "c" * 64})}, "backends[0].selector.matchLabels: "),
    ],
)
def test_a_config_map_reaches_nothing_else(backend: dict[str, object], fault: str) -> None:
    (found,) = faults_of_config_map(config(backend=backend), namespace="ns")
    assert found.startswith(fault)
