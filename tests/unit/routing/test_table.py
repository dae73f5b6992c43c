from __future__ import annotations

import pytest

from baton.api.router_config import RouterConfig
from baton.routing.table import RoutingTable
from baton.routing.types import RequestFacts
from routing_builders import config

CHAT = "/v1/chat/completions"


def facts(model: str = "m", path: str = CHAT, **headers: str) -> RequestFacts:
    return RequestFacts(model, path, {name.replace("_", "-"): value for name, value in headers.items()})


def route_of(table: RoutingTable, request: RequestFacts, roll: float = 0.0) -> str | None:
    match = table.match(request, roll)
    return None if match is None else match.route


def rule(match: dict[str, object] | None = None, **weights: int) -> dict[str, object]:
    targets = [{"backend": name, "weight": weight} for name, weight in (weights or {"b": 100}).items()]
    return {"match": match, "targets": targets}


def table_of(*rules: dict[str, object], backends: tuple[str, ...] = ("b",)) -> RoutingTable:
    document = {
        "routes": [{"name": "r", "modelName": "m", "rules": list(rules)}],
        "backends": [{"name": name} for name in backends],
    }
    return RoutingTable.build([RouterConfig.model_validate(document)])


def test_a_request_goes_to_the_route_of_its_model() -> None:
    table = RoutingTable.build([config("a", name="ns/a"), config("b", name="ns/b")])
    assert route_of(table, facts("b")) == "ns/b"
    assert route_of(table, facts("c")) is None


def test_a_model_name_wins_over_an_adapter_of_that_name() -> None:
    table = RoutingTable.build(
        [config("base", name="ns/adapter", loraAdapters=["x"]), config("x", name="ns/model", created="2026-01-01")]
    )
    assert route_of(table, facts("x")) == "ns/model"


def test_adapters_do_not_stand_in_for_a_model_whose_rules_all_refuse() -> None:
    refusing = [rule({"uri": {"exact": "/nowhere"}})]
    table = RoutingTable.build([config("x", rules=refusing), config("base", name="ns/adapter", loraAdapters=["x"])])
    assert table.match(facts("x"), 0.0) is None


def test_the_model_is_rewritten_unless_an_adapter_was_asked_for() -> None:
    table = RoutingTable.build([config("m", backend={"model": "engine-name"}, loraAdapters=["lora"])])
    by_name, by_adapter = table.match(facts("m"), 0.0), table.match(facts("lora"), 0.0)
    assert by_name is not None
    assert by_adapter is not None
    assert (by_name.model, by_adapter.model) == ("engine-name", None)
    assert by_name.backend == by_adapter.backend


def test_a_backend_without_a_model_leaves_the_name() -> None:
    match = RoutingTable.build([config("m")]).match(facts("m"), 0.0)
    assert match is not None
    assert match.model is None


def test_the_names_of_models_and_adapters_are_listed_once_and_sorted() -> None:
    table = RoutingTable.build([config("b", loraAdapters=["c", "a"]), config("a", name="ns/other")])
    assert table.models() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z"),
        ("2026-01-01T08:30:00+08:00", "2026-01-01T00:45:00Z"),
        ("2026-01-01T00:00:00Z", ""),
        ("2026-01-01T00:00:00Z", "yesterday"),
        ("2026-01-01", "2026-01-01T00:00:01Z"),
    ],
)
def test_the_oldest_route_is_asked_first(first: str, second: str) -> None:
    older, younger = config(name="ns/z", created=first), config(name="ns/a", created=second)
    assert route_of(RoutingTable.build([younger, older]), facts()) == "ns/z"


def test_routes_of_one_age_are_asked_by_name() -> None:
    table = RoutingTable.build([config(name="ns/b"), config(name="ns/a")])
    assert route_of(table, facts()) == "ns/a"


def test_the_order_of_equal_routes_does_not_depend_on_what_was_read_first() -> None:
    one, other = config(backend={"model": "one"}), config(backend={"model": "other"})
    matches = [RoutingTable.build(order).match(facts(), 0.0) for order in ([one, other], [other, one])]
    assert matches[0] == matches[1]


def test_a_route_without_a_fitting_rule_leaves_the_request_to_the_next() -> None:
    choosy = config(name="ns/a", rules=[rule({"headers": {"tier": {"exact": "gold"}}})])
    table = RoutingTable.build([choosy, config(name="ns/b")])
    assert route_of(table, facts(tier="gold")) == "ns/a"
    assert route_of(table, facts()) == "ns/b"


def test_the_first_rule_that_fits_decides() -> None:
    table = table_of(
        {**rule({"headers": {"tier": {"prefix": "g"}}}), "name": "gold"}, rule({"uri": {"prefix": "/v1/chat"}}), rule()
    )
    matches = [table.match(request, 0.0) for request in (facts(tier="gold"), facts(), facts(path="/v1/completions"))]
    assert [match.rule for match in matches if match is not None] == ["gold", "rules[1]", "rules[2]"]


@pytest.mark.parametrize(
    ("test", "text", "fits"),
    [
        ({"exact": "abc"}, "abc", True),
        ({"exact": "abc"}, "abcd", False),
        ({"prefix": "ab"}, "abc", True),
        ({"prefix": "bc"}, "abc", False),
        ({"regex": "b."}, "abc", True),
        ({"regex": "^b"}, "abc", False),
        ({"exact": "abc", "prefix": "x", "regex": "x"}, "abc", True),
        ({"exact": "x", "prefix": "a", "regex": "a"}, "abc", False),
        ({"prefix": "a", "regex": "x"}, "abc", True),
        ({"exact": ""}, "", True),
        ({"exact": ""}, "abc", False),
        ({}, "abc", True),
    ],
)
def test_exact_is_looked_at_before_prefix_and_prefix_before_regex(test: dict[str, str], text: str, fits: bool) -> None:
    by_path, by_header = table_of(rule({"uri": test})), table_of(rule({"headers": {"X-Tier": test}}))
    assert (by_path.match(facts(path=text), 0.0) is not None) is fits
    assert (by_header.match(facts(x_tier=text), 0.0) is not None) is fits


def test_a_missing_header_is_an_empty_string() -> None:
    table = table_of(rule({"headers": {"a": {"exact": ""}, "b": {"regex": "^$"}}}))
    assert table.match(facts(), 0.0) is not None
    assert table.match(facts(b="x"), 0.0) is None


def test_all_conditions_must_hold_together() -> None:
    table = table_of(rule({"headers": {"tier": {"exact": "gold"}}, "uri": {"prefix": "/v1/"}, "body": {"model": "m"}}))
    assert table.match(facts(tier="gold"), 0.0) is not None
    assert table.match(facts(tier="gold", path="/v2/"), 0.0) is None
    assert table.match(facts(), 0.0) is None


def test_a_rule_can_ask_for_one_of_the_routes_names() -> None:
    rules = [rule({"body": {"model": "lora"}})]
    table = RoutingTable.build([config("m", loraAdapters=["lora"], rules=rules)])
    assert table.match(facts("lora"), 0.0) is not None
    assert table.match(facts("m"), 0.0) is None


@pytest.mark.parametrize(("roll", "backend"), [(0.0, "x"), (0.624, "x"), (0.625, "z"), (0.999, "z"), (1 - 2**-53, "z")])
def test_targets_share_by_weight(roll: float, backend: str) -> None:
    match = table_of(rule(x=50, y=0, z=30), backends=("x", "y", "z")).match(facts(), roll)
    assert match is not None
    assert match.backend.name == backend


def test_weights_beyond_what_a_float_can_count_still_share() -> None:
    table = table_of(rule(x=10**400, y=10**400), backends=("x", "y"))
    names = [match.backend.name for roll in (0.49, 0.5) if (match := table.match(facts(), roll)) is not None]
    assert names == ["x", "y"]


@pytest.mark.parametrize("pattern", ["(", "a{99999999999999999999}", "(" * 5000])
def test_a_rule_that_cannot_be_applied_takes_no_requests(pattern: str) -> None:
    table = table_of(rule({"uri": {"regex": pattern}}), rule(b=0), rule({"body": {"model": "m"}}))
    match = table.match(facts(), 0.5)
    assert match is not None
    assert match.rule == "rules[2]"


def test_a_backend_name_means_the_one_of_its_own_document() -> None:
    table = RoutingTable.build([config("one", backend={"model": "first"}), config("two", backend={"model": "second"})])
    models = [match.model for name in ("one", "two") if (match := table.match(facts(name), 0.0)) is not None]
    assert models == ["first", "second"]
