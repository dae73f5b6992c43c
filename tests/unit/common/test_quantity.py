from __future__ import annotations

import pytest

from baton.common.quantity import resolve, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("300s", 300.0),
        ("150ms", 0.15),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("2h5m", 7500.0),
        ("10us", 1e-5),
        ("7ns", 7e-9),
    ],
)
def test_durations_become_seconds(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "5d", "1m30", "5s!", "1..5s"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; write for example 300s"):
        seconds(text)


@pytest.mark.parametrize(
    ("amount", "total", "down", "up"),
    [
        (None, 10, 0, 0),
        (0, 10, 0, 0),
        (3, 10, 3, 3),
        (12, 10, 12, 12),
        ("0%", 10, 0, 0),
        ("25%", 10, 2, 3),
        ("50%", 10, 5, 5),
        ("1%", 10, 0, 1),
        ("100%", 7, 7, 7),
        ("50%", 0, 0, 0),
    ],
)
def test_amounts_are_counts_or_percentages_rounded_as_asked(
    amount: int | str | None, total: int, down: int, up: int
) -> None:
    assert resolve(amount, total=total) == down
    assert resolve(amount, total=total, round_up=True) == up


@pytest.mark.parametrize("amount", ["", "ten", "10", "-10%", "1.5%", "%", "10 %"])
def test_other_amounts_are_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="is neither a number nor a percentage"):
        resolve(amount, total=10)
