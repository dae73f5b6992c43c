from __future__ import annotations

import io

import pytest

from baton.dev.progress import ConsoleReport, Stopwatch, format_seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s")]
)
def test_durations_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_a_stopwatch_begins_at_nothing() -> None:
    assert Stopwatch().seconds >= 0
    assert str(Stopwatch()).endswith(" s")


def test_a_terminal_shows_passing_lines_in_place() -> None:
    stream = Terminal()
    report = ConsoleReport(stream)
    report("wait 1", passing=True)
    report("wait 2", passing=True)
    report("done")
    report("next")
    assert stream.getvalue() == "wait 1\r\x1b[2Kwait 2\r\x1b[2Kdone\nnext\n"


def test_a_passing_line_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    stream = Terminal()
    ConsoleReport(stream)("0123456789abc", passing=True)
    assert stream.getvalue() == "012345678"


def test_a_log_gets_lasting_lines_and_few_passing_ones() -> None:
    stream = io.StringIO()
    report = ConsoleReport(stream)
    for number in range(100):
        report(f"wait {number}", passing=True)
    report("done")
    assert stream.getvalue() == "done\n"
