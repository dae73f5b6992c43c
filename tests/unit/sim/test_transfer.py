from __future__ import annotations

from typing import Any

import orjson
import pytest

from baton.sim.kv import HeldKV, KVError, KVErrorReason
from baton.sim.transfer import Kind, KVSource, describe_held, format_refusal, read_demand, read_transfer

HELD = HeldKV("cmpl-a-0-12345678", "prompt", (3, 4), 480.0)


def describe() -> dict[str, Any]:
    return describe_held(HELD, host="127.64.0.1", port=7100, engine_id="e", last_token=1030)


def test_a_prefill_answers_with_every_field_of_the_hybrid_connector() -> None:
    assert describe() == {
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "remote_block_ids": [[3, 4]],
        "remote_engine_id": "e",
        "remote_request_id": "cmpl-a-0-12345678",
        "remote_host": "127.64.0.1",
        "remote_port": 7100,
        "remote_ptp_size": 1,
        "remote_multi_nodes_meta_mapping": {},
        "num_prompt_blocks": 2,
        "last_token_id": 1030,
    }


def test_what_a_prefill_answers_makes_a_decode() -> None:
    source = KVSource("127.64.0.1", 7100, "e", "cmpl-a-0-12345678", (3, 4))
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


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"engine_id":"e","request_id":"r","block_ids":3}'])
def test_a_pull_that_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(KVError, match="not a pull"):
        read_demand(raw)


def test_a_refusal_tells_its_reason() -> None:
    status, body = format_refusal(KVError(KVErrorReason.REUSED, "pulled before"))
    assert status == 409
    assert orjson.loads(body) == {"reason": "reused", "message": "pulled before"}
