from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Literal

import pytest

from baton.telemetry.logs import configure, event

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("baton.test")


class Costly:
    """Counts how often it was turned into text."""

    def __init__(self) -> None:
        self.times = 0

    def __str__(self) -> str:
        self.times += 1
        return "costly"


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(format_: Literal["text", "json"] = "text", level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure(level, format_, stream=stream)
    return stream


def test_a_text_entry_is_one_line_with_the_message_first_and_then_the_fields() -> None:
    stream = written()
    event(logger, logging.INFO, "pod %s created", "a-0", serving="ns/a", count=3)
    time, rest = stream.getvalue().split(" ", 1)
    assert rest == "INFO baton.test pod a-0 created serving=ns/a count=3\n"
    assert time.endswith("Z")
    assert len(time) == len("2026-01-31T00:00:00.000Z")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two words", '"two words"'),
        ("", '""'),
        ('say "a"', '"say \\"a\\""'),
        ("a=b", '"a=b"'),
        ("a\nb", '"a\\nb"'),
        (None, "None"),
    ],
)
def test_a_value_is_quoted_where_it_needs_it(value: object, shown: str) -> None:
    stream = written()
    event(logger, logging.INFO, "m", value=value)
    assert stream.getvalue().endswith(f" m value={shown}\n")


def test_a_message_of_several_lines_stays_one_entry() -> None:
    stream = written()
    logger.warning("first\nsecond\r\n")
    assert stream.getvalue().count("\n") == 1
    assert "first\\nsecond\\r\\n" in stream.getvalue()


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_stack_trace_stays_in_its_line(format_: Literal["text", "json"]) -> None:
    stream = written(format_)
    with pytest.raises(ValueError, match="broken") as caught:
        int("broken")
    event(logger, logging.ERROR, "failed", exc_info=caught.value)
    assert stream.getvalue().count("\n") == 1
    assert "Traceback" in stream.getvalue()
    assert "ValueError: invalid literal" in stream.getvalue()


def test_a_json_entry_is_an_object_with_the_fields_in_it() -> None:
    stream = written("json")
    event(logger, logging.INFO, "pod %s", "a-0", key=("ns", "a"), error=ValueError("x"), seconds=0.5)
    entry = json.loads(stream.getvalue())
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "INFO",
        "logger": "baton.test",
        "message": "pod a-0",
        "key": ["ns", "a"],
        "error": "x",
        "seconds": 0.5,
    }


def test_a_field_cannot_replace_what_every_entry_has() -> None:
    stream = written("json")
    event(logger, logging.INFO, "m", logger_="kept", time="never", stack="mine")
    entry = json.loads(stream.getvalue())
    assert entry["time"] != "never"
    assert (entry["time_"], entry["stack_"], entry["logger_"]) == ("never", "mine", "kept")


def test_nothing_is_formatted_below_the_level() -> None:
    stream = written(level="WARNING")
    costly = Costly()
    event(logger, logging.INFO, "%s", costly, field=costly)
    assert (stream.getvalue(), costly.times) == ("", 0)


def test_an_entry_names_the_caller_not_this_module(caplog: pytest.LogCaptureFixture) -> None:
    event(logger, logging.ERROR, "m")
    assert caplog.records[0].filename == "test_logs.py"


def test_configuring_again_replaces_the_first_handler() -> None:
    first, second = written(), written()
    logger.info("m")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure("loud")
