"""The published schemas and the models take the same objects, and the checks take whatever the schemas take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator

from baton.api.admission import check_route, check_server, check_serving
from baton.api.crd import DEFINITIONS, Definition, schema_of
from baton.api.documents import DocumentError, read_document
from baton.api.route import ModelRoute
from baton.api.server import ModelServer
from baton.api.serving import ModelServing

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from baton.api.meta import JsonObject, Kind
    from baton.api.problems import Problem

FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2)
)
# The checks compile regular expressions, of which Python warns of some that it may read differently one day.
words = st.text("ab1(-./ é", max_size=6)


def values(schema: JsonObject) -> SearchStrategy[Any]:
    """Make values that a structural schema allows."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(0, 2**31) | st.from_regex(schema["pattern"], fullmatch=True)
    match schema.get("type"):
        case "string":
            return _strings(schema)
        case "integer":
            return st.integers(schema.get("minimum", -9), schema.get("maximum", 2**31 - 1))
        case "number":
            lower, upper = schema.get("minimum", -9), schema.get("maximum", 9)
            return st.floats(lower, upper, exclude_min=schema.get("exclusiveMinimum", False))
        case "boolean":
            return st.booleans()
        case "array":
            return _arrays(schema)
        case "object":
            return _objects(schema)
        case _:
            return anything


def _strings(schema: JsonObject) -> SearchStrategy[str]:
    pattern: str | None = schema.get("pattern")
    if schema.get("format") == "date-time":
        return st.datetimes().map(lambda time: f"{time.isoformat()}Z")
    if pattern:
        return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= schema.get("maxLength", 64))
    return words.filter(lambda text: schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", 64))


def _arrays(schema: JsonObject) -> SearchStrategy[list[Any]]:
    keys = schema.get("x-kubernetes-list-map-keys")
    unique = (lambda item: tuple(item[key] for key in keys)) if keys else None
    most = min(3, schema.get("maxItems", 3))
    return st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=most, unique_by=unique)


def _objects(schema: JsonObject) -> SearchStrategy[JsonObject]:
    properties = schema.get("properties", {})
    if not properties:
        inner = values(schema.get("additionalProperties", {}))
        return st.dictionaries(words, inner, min_size=schema.get("minProperties", 0), max_size=2)
    needed = {name: values(properties[name]) for name in schema.get("required", [])}
    others = sorted(properties.keys() - needed)
    chosen = st.lists(st.sampled_from(others), max_size=4, unique=True) if others else st.just([])
    return chosen.flatmap(
        lambda names: st.fixed_dictionaries({**needed, **{name: values(properties[name]) for name in names}})
    )


def documents(definition: Definition) -> SearchStrategy[JsonObject]:
    properties = schema_of(definition.model)["properties"]
    parts = {
        "apiVersion": st.just(definition.api_version),
        "kind": st.just(definition.kind),
        "metadata": st.fixed_dictionaries({"name": words}),
        "spec": values(properties["spec"]),
    }
    return st.fixed_dictionaries(parts, optional={"status": values(properties["status"])})


def check(found: Kind) -> list[Problem]:
    match found:
        case ModelServing():
            return [*check_serving(found), *check_serving(found, found)]
        case ModelRoute():
            return [*check_route(found), *check_route(found, found)]
        case ModelServer():
            return check_server(found)
        case _:
            raise AssertionError(found)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.kind)
def test_what_a_schema_takes_its_model_takes_and_gives_back_as_the_schema_wants_it(definition: Definition) -> None:
    properties = schema_of(definition.model)["properties"]
    validator = Draft4Validator({"properties": {name: properties[name] for name in ("spec", "status")}})

    @FEW
    @given(documents(definition))
    def holds(document: JsonObject) -> None:
        validator.validate(document)

        found = read_document(document, strict=True)

        written = found.document()
        validator.validate(written)
        assert read_document(written, strict=True) == found
        assert all(problem.path and problem.message for problem in check(found))

    holds()


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.kind)
def test_any_other_document_is_refused_with_the_field_and_the_reason(definition: Definition) -> None:
    heads = {"apiVersion": st.just(definition.api_version), "kind": st.just(definition.kind)}

    @FEW
    @given(anything | st.fixed_dictionaries({**heads, "spec": anything}), st.booleans())
    def holds(document: Any, strict: bool) -> None:
        with pytest.raises(DocumentError) as refused:
            read_document(document, strict=strict)
        assert all(problem.path and problem.message for problem in refused.value.problems)

    holds()
