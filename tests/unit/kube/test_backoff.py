from __future__ import annotations

import pytest

from baton.kube.backoff import delay_after


@pytest.mark.parametrize(
    ("failures", "delay"), [(0, 1.0), (1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 10.0), (10**6, 10.0)]
)
def test_a_delay_doubles_up_to_its_cap(failures: int, delay: float) -> None:
    assert delay_after(failures, base=1.0, cap=10.0, jitter=0.0) == delay


def test_jitter_takes_up_to_a_fifth_off() -> None:
    assert delay_after(1, base=1.0, cap=10.0, jitter=0.5) == pytest.approx(0.9)
    assert delay_after(99, base=1.0, cap=10.0, jitter=1.0) == pytest.approx(8.0)
