from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from baton.sim.kv import HeldKV, KVError, KVErrorReason
from baton.sim.transfer import (
    Demand,
    Kind,
    KVSource,
    TransferSide,
    check_demand,
    check_source,
    describe_held,
    format_refusal,
    read_demand,
    read_transfer,
)

SIDE = TransferSide(
    engine_id="e", host="127.64.0.1", port=30004, tensor_size=4, terms={"prefill.tp_size": 4, "block_size": 128}
)
HELD = HeldKV("cmpl-a-0-12345678", "prompt", (3, 4), 480.0)


def describe() -> dict[str, Any]:
    return describe_held(HELD, SIDE, last_token=1030)


def test_a_prefill_answers_with_every_field_of_the_hybrid_connector() -> None:
    assert describe() == {
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "remote_block_ids": [[3, 4]],
        "remote_engine_id": "e",
        "remote_request_id": "cmpl-a-0-12345678",
        "remote_host": "127.64.0.1",
        "remote_port": 30004,
        "remote_ptp_size": 4,
        "remote_multi_nodes_meta_mapping": {},
        "num_prompt_blocks": 2,
        "last_token_id": 1030,
    }


def test_what_a_prefill_answers_makes_a_decode() -> None:
    source = KVSource("127.64.0.1", 30004, "e", "cmpl-a-0-12345678", (3, 4), 4)
    assert read_transfer(describe()) == (Kind.DECODE, source)


def test_some_kv_groups_may_be_empty() -> None:
    _, source = read_transfer(describe() | {"remote_block_ids": [[], [3], [4]]})
    assert source is not None
    assert source.block_ids == (3, 4)


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [
        (None, Kind.AGGREGATED),
        ({}, Kind.AGGREGATED),
        ({"do_remote_decode": False, "do_remote_prefill": False}, Kind.AGGREGATED),
        ({"do_remote_decode": True}, Kind.PREFILL),
        ({"do_remote_decode": True, "do_remote_prefill": False, "remote_host": None}, Kind.PREFILL),
    ],
)
def test_without_a_source_a_request_is_prefill_or_aggregated(parameters: object, kind: Kind) -> None:
    assert read_transfer(parameters) == (kind, None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"remote_host": None}, "remote_host"),
        ({"remote_engine_id": ""}, "remote_engine_id"),
        ({"remote_request_id": 7}, "remote_request_id"),
        ({"remote_port": None}, "remote_port"),
        ({"remote_port": "7100"}, "remote_port"),
        ({"remote_block_ids": None}, "remote_block_ids"),
        ({"remote_block_ids": [[]]}, "remote_block_ids"),
        ({"remote_block_ids": [["x"]]}, "remote_block_ids"),
        ({"do_remote_decode": True}, "both"),
    ],
)
def test_incomplete_parameters_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(KVError, match=message) as refusal:
        read_transfer(describe() | wrong)
    assert refusal.value.reason is KVErrorReason.INVALID


def test_parameters_must_be_an_object() -> None:
    with pytest.raises(KVError, match="must be an object"):
        read_transfer("do_remote_decode")


PULL = b'{"engine_id":"e","request_id":"r","block_ids":[3],"fingerprint":"f"}'


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"engine_id":"e","request_id":"r","block_ids":3}', PULL[:-1] + b',"terms":3}']
)
def test_a_pull_that_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(KVError, match="not a pull"):
        read_demand(raw)


def test_a_refusal_tells_its_reason() -> None:
    status, body = format_refusal(KVError(KVErrorReason.REUSED, "pulled before"))
    assert status == 409
    assert orjson.loads(body) == {"reason": "reused", "message": "pulled before"}


def test_a_decode_compares_its_prefill_with_what_it_was_told() -> None:
    told = TransferSide(engine_id="d", host="127.64.0.2", port=30100, terms=SIDE.terms)
    _, source = read_transfer(describe())
    assert source is not None
    check_source(told, source)
    check_source(TransferSide(engine_id="d", host="h", port=1), source)
    with pytest.raises(KVError, match=r"remote_ptp_size is 2, but this decode was told prefill\.tp_size 4"):
        check_source(told, replace(source, tensor_size=2))
    with pytest.raises(KVError, match="Conflict engine id e"):
        check_source(SIDE, source)


def test_a_prefill_compares_its_decode_with_what_it_was_told() -> None:
    source = KVSource("", 0, "e", "r", (3,))
    check_demand(SIDE, Demand(source, "f", SIDE.terms))
    with pytest.raises(KVError, match="block_size is 128 at the prefill and 64 at the decode; start both") as refusal:
        check_demand(SIDE, Demand(source, "f", {**SIDE.terms, "block_size": 64}))
    assert refusal.value.reason is KVErrorReason.MISMATCH
    with pytest.raises(KVError, match=r"prefill\.tp_size is 4 at the prefill and None at the decode"):
        check_demand(SIDE, Demand(source, "f", {"block_size": 128}))
    with pytest.raises(KVError, match="x is not the engine at this address"):
        check_demand(SIDE, Demand(replace(source, engine_id="x"), "f", SIDE.terms))
