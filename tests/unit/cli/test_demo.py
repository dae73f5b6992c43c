from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from baton.cli.demo import demo
from baton.dev.demo import NAME
from baton.dev.record import find_directory, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without Go, on which nothing was ever built or started."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("keep", ["", "0", "1"])
def test_what_is_missing_is_said_in_one_message_and_nothing_is_left_running(keep: str) -> None:
    result = CliRunner().invoke(demo, [], env={"KEEP": keep})
    assert result.exit_code == 1
    assert "Error: " in result.output
    assert "Install Go" in result.output
    assert "Traceback" not in result.output
    assert read_record(find_directory(NAME)) is None


def test_a_value_that_is_neither_yes_nor_no_is_a_usage_error() -> None:
    result = CliRunner().invoke(demo, [], env={"KEEP": "perhaps"})
    assert result.exit_code == 2
    assert "not a valid boolean" in result.output
