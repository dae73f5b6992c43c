from __future__ import annotations

import pytest

from baton.api.endpoints import Phase
from baton.api.traffic import KVConnectorType, Protocol
from baton.routing.document import faults_of_config_map, faults_of_file, read_document
from baton.routing.endpoints import ranks_of
from baton.routing.engine_list import document_of, name_of, read_engine
from baton.routing.table import RoutingTable
from baton.routing.types import RequestFacts


@pytest.mark.parametrize(
    ("text", "address", "ports", "name"),
    [
        ("http://10.0.0.1:8000", "10.0.0.1", [8000], "10.0.0.1:8000"),
        (" h:7100-7102/ ", "h", [7100, 7101, 7102], "h:7100-7102"),
        ("https://h.example", "h.example", [443], "h.example:443"),
        ("http://[fd00::1]:8000", "fd00::1", [8000], "[fd00::1]:8000"),
    ],
)
def test_an_engine_is_read_from_what_people_write(text: str, address: str, ports: list[int], name: str) -> None:
    engine = read_engine(text, Phase.DECODE)
    ranks = ranks_of(engine)

    assert ([rank.address for rank in ranks], [rank.port for rank in ranks]) == ([address] * len(ports), ports)
    assert {rank.phase for rank in ranks} == {Phase.DECODE}
    assert {rank.protocol for rank in ranks} == {Protocol("https" if "https" in text else "http")}
    assert name_of(engine) == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no engine"),
        ("h", "has no port"),
        ("fd00::1:8000", "names no engine"),
        ("ftp://h:1", "names no engine"),
        ("http://h:1/v1", "names no engine"),
        ("http://user@h:1", "names no engine"),
        ("h:0", "port"),
        ("h:5-4", "the first one first"),
        ("h:65530-65536", "up to 65535"),
    ],
)
def test_anything_else_is_refused_with_the_cure(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_engine(text, Phase.PREFILL)


def test_any_model_goes_to_the_engines_and_the_discovered_ones_are_listed() -> None:
    engines = [read_engine("p:1", Phase.PREFILL), read_engine("d:1", Phase.DECODE)]
    document = document_of(engines, connector=KVConnectorType.NIXL, models=(), discovered={"b", "a"})
    table = RoutingTable.build([document])

    assert table.models() == ["a", "b"]
    for model in ("a", "anything"):
        match = table.match(RequestFacts(model, "/"), 0.5)
        assert match is not None
        assert (match.model, match.backend.connector) == (None, KVConnectorType.NIXL)


def test_given_models_are_the_only_ones() -> None:
    document = document_of([], connector=KVConnectorType.HTTP, models=("m", "n"), discovered={"x"})
    table = RoutingTable.build([document])

    assert table.models() == ["m", "n"]
    assert table.match(RequestFacts("x", "/"), 0.5) is None


def test_the_document_can_be_read_from_a_file_but_not_from_a_config_map() -> None:
    document = document_of([read_engine("a:1", Phase.AGGREGATED)], connector=KVConnectorType.HTTP, models=())
    read = read_document(document.model_dump_json(by_alias=True), strict=True)

    assert read == document
    assert faults_of_file(read) == []
    assert any("routes[0].anyModel: only a configuration file" in x for x in faults_of_config_map(read, namespace="ns"))


def test_routes_for_any_model_come_after_those_that_name_it() -> None:
    anything = document_of([], connector=KVConnectorType.HTTP, models=())
    named = document_of([], connector=KVConnectorType.NIXL, models=("m",))
    match = RoutingTable.build([anything, named]).match(RequestFacts("m", "/"), 0.0)

    assert match is not None
    assert match.backend.connector is KVConnectorType.NIXL
