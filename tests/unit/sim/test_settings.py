from __future__ import annotations

import pytest

from baton.sim.settings import SimSettings, format_ports, parse_ports


@pytest.mark.parametrize(
    ("text", "ports"),
    [("8000", (8000,)), ("7100-7102, 8000", (7100, 7101, 7102, 8000)), ("7100,7100-7101", (7100, 7101)), ("0", (0,))],
)
def test_ports_are_read_as_numbers_and_ranges(text: str, ports: tuple[int, ...]) -> None:
    assert parse_ports(text) == ports


@pytest.mark.parametrize("text", ["", "80x", "7100-", "-7100", "65536", "7100-7099", "1-2-3", "²"])
def test_what_is_no_port_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"no port|ends before"):
        parse_ports(text)


def test_ports_are_written_as_they_are_read() -> None:
    assert format_ports((7100, 7101, 7102, 8000)) == "7100-7102,8000"


def test_any_model_is_served_unless_models_are_named() -> None:
    assert SimSettings().has_model("anything")
    assert SimSettings().listed_models == ()
    named = SimSettings(models=("one", "two"))
    assert named.has_model("two")
    assert not named.has_model("three")
    assert named.listed_models == ("one", "two")
