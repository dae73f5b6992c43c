from __future__ import annotations

from typing import Any

import pytest

from baton.sim.kv import KVError, KVErrorReason
from baton.sim.layerwise import Invitation, Target, external_id
from baton.sim.requests import Bootstrap, Endpoint, GenerationRequest
from baton.sim.rooms import Meeting
from baton.sim.transfer import Kind, TransferSide
from baton.sim.transfers import read_hand_over

CALL = {"do_remote_prefill": True, "do_remote_decode": False, "metaserver": "http://router/v1/metaserver"}
BLOCKS = {
    "do_remote_decode": True,
    "remote_block_ids": [[1], [2]],
    "remote_engine_id": "d",
    "remote_host": "127.0.0.2",
    "remote_port": 30100,
    "remote_tp_size": 1,
}
HELD = {"do_remote_decode": True, "remote_block_ids": None}


def read(parameters: object = None, bootstrap: Bootstrap | None = None, **side: Any) -> object:
    request = GenerationRequest(
        endpoint=Endpoint.CHAT, model="m", prompt=[1], kv_transfer_params=parameters, bootstrap=bootstrap
    )
    own = TransferSide(engine_id="e", host="127.0.0.1", port=1, **side)
    return read_hand_over(request, own, address="127.0.0.1", port=8000)


def test_each_way_is_told_by_its_parameters() -> None:
    assert read(CALL) == (Kind.DECODE, Invitation("http://router/v1/metaserver"))
    assert read(BLOCKS) == (Kind.PREFILL, Target("127.0.0.2", 30100, "d", (1, 2), 1))
    assert read(HELD) == (Kind.PREFILL, None)
    assert read() == (Kind.AGGREGATED, None)
    assert read(bootstrap=Bootstrap("127.0.0.1", None, 5)) == (Kind.PREFILL, Meeting("127.0.0.1", 8000, 5))
    assert read(bootstrap=Bootstrap("127.0.0.9", 8998, 5)) == (Kind.DECODE, Meeting("127.0.0.9", 8998, 5))


@pytest.mark.parametrize(
    ("parameters", "side", "reason"),
    [
        (CALL, {"is_layerwise": False}, KVErrorReason.INVALID),
        (BLOCKS, {"is_layerwise": False}, KVErrorReason.INVALID),
        (HELD, {"is_layerwise": True}, KVErrorReason.INVALID),
        (CALL, {"is_layerwise": True, "is_consumer": False}, KVErrorReason.ROLE),
        (BLOCKS, {"is_layerwise": True, "is_producer": False}, KVErrorReason.ROLE),
        (CALL | {"metaserver": None}, {}, KVErrorReason.INVALID),
        (BLOCKS | {"remote_port": None}, {}, KVErrorReason.INVALID),
        (BLOCKS | {"remote_host": ""}, {}, KVErrorReason.INVALID),
        (BLOCKS | {"remote_block_ids": []}, {}, KVErrorReason.INVALID),
    ],
)
def test_a_request_for_another_engine_is_refused(
    parameters: dict[str, Any], side: dict[str, Any], reason: KVErrorReason
) -> None:
    with pytest.raises(KVError) as refused:
        read(parameters, **side)

    assert refused.value.reason is reason


def test_the_shared_id_is_the_engines_without_its_random_suffix() -> None:
    assert external_id("cmpl-a-b-0-1234abcd") == "cmpl-a-b-0"
