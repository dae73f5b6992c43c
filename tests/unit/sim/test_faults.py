from __future__ import annotations

import orjson
import pytest

from baton.sim.faults import Fault, FaultKind, read_faults
from baton.sim.generation import Generation
from baton.sim.requests import Endpoint, GenerationRequest, RequestError
from baton.sim.tokens import History
from baton.sim.transfer import Kind


def generation(number: int = 0, *, kind: Kind = Kind.DECODE, name: str = "r") -> Generation:
    request = GenerationRequest(endpoint=Endpoint.CHAT, model="m", prompt=[1])
    return Generation(
        request=request,
        request_id=name,
        kind=kind,
        source=None,
        history=History(seed=0, model="m", prompt=[1]),
        fingerprint="",
        limit=9,
        blocks=1,
        arrived_at=0.0,
        tokens=[1024] * number,
    )


def test_a_fault_strikes_at_its_token_as_often_as_told() -> None:
    fault = Fault(kind=FaultKind.CUT, phase=Kind.DECODE, after=2, times=1)

    assert not fault.strikes(generation(1))
    assert not fault.strikes(generation(2, kind=Kind.PREFILL))
    assert fault.strikes(generation(2))
    assert not fault.strikes(generation(2))


def test_a_rate_is_a_chance_for_each_token() -> None:
    fault = Fault(kind=FaultKind.RECOMPUTE, rate=0.25)

    struck = sum(fault.strikes(generation(number, name=f"r{name}")) for name in range(40) for number in range(50))

    assert 400 < struck < 600


def test_faults_are_read_from_json() -> None:
    raw = orjson.dumps([{"kind": "stall", "after": 3}, {"kind": "cut", "phase": "prefill", "times": 2}])

    assert read_faults(raw) == [
        Fault(kind=FaultKind.STALL, after=3),
        Fault(kind=FaultKind.CUT, phase=Kind.PREFILL, times=2),
    ]


@pytest.mark.parametrize("raw", [b"{", b"[{}]", b'[{"kind":"none"}]', b'[{"kind":"cut","odd":1}]', b"3"])
def test_anything_else_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestError, match="not a list of faults"):
        read_faults(raw)
