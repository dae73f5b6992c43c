from __future__ import annotations

from decimal import Decimal

import pytest

from baton.common.quantity import amount, quantity_of, resolve, seconds


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


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        ("0", "0"),
        (8, "8"),
        (0.5, "0.5"),
        ("1.", "1"),
        (".5", "0.5"),
        ("500m", "0.5"),
        ("250u", "0.00025"),
        ("3n", "0.000000003"),
        ("1k", "1000"),
        ("2M", "2000000"),
        ("1.5Gi", "1610612736"),
        ("64Ki", "65536"),
        ("1E", "1000000000000000000"),
        ("1e3", "1000"),
        ("12E2", "1200"),
    ],
)
def test_an_amount_is_the_number_a_quantity_stands_for(quantity: float | str, number: str) -> None:
    assert amount(quantity) == Decimal(number)


@pytest.mark.parametrize("text", ["", "many", "1g", "1 Gi", "Gi", "1e", "--1", True, "0x10"])
def test_what_is_no_quantity_has_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity; write for example 8"):
        amount(text)


@pytest.mark.parametrize(
    ("number", "quantity"), [("0", "0"), ("1.5", "1500m"), ("0.0004", "1m"), ("1E+3", "1000"), ("8", "8")]
)
def test_an_amount_becomes_a_quantity_that_is_no_smaller(number: str, quantity: str) -> None:
    assert quantity_of(Decimal(number)) == quantity
