"""The decode-first hand-over: what decode, metaserver and prefill tell each other. Sends nothing and keeps no state.

The fields are those of vLLM-Ascend's MooncakeLayerwiseConnector. The push moves the prompt's fingerprint, no memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from baton.sim.kv import KVError, KVErrorReason
from baton.sim.transfer import read_block_ids, read_port, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.sim.transfer import TransferSide

PUSH_PATH: Final = "/sim/kv/push"


@dataclass(frozen=True, slots=True)
class Invitation:
    """A decode that is to call the metaserver for its prefill."""

    metaserver: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where a prefill pushes its KV: blocks of a decode."""

    host: str
    port: int
    engine_id: str
    block_ids: tuple[int, ...]
    tensor_size: int | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """KV as it arrives at a decode, named by the id that prefill's request has outside its engine."""

    engine_id: str
    request_id: str
    block_ids: tuple[int, ...]
    fingerprint: str
    terms: Mapping[str, object]


def external_id(request_id: str) -> str:
    """Return the id that both engines share: the engine's own without its random suffix, as the connector cuts it."""
    return request_id.rpartition("-")[0]


def read_target(parameters: Mapping[str, Any]) -> Target:
    """Read what the metaserver was told, which prefill gets unchanged. Raises KVError."""
    return Target(
        host=read_text(parameters, "remote_host"),
        port=read_port(parameters),
        engine_id=read_text(parameters, "remote_engine_id"),
        block_ids=read_block_ids(parameters.get("remote_block_ids")),
        tensor_size=parameters.get("remote_tp_size"),
    )


def describe_blocks(request_id: str, block_ids: tuple[int, ...], side: TransferSide, *, block_size: int) -> bytes:
    """Return what a decode tells the metaserver."""
    told = {
        "token_ids": [],
        "request_id": external_id(request_id),
        "do_remote_prefill": False,
        "do_remote_decode": True,
        "remote_block_ids": [list(block_ids)],
        "remote_block_size": [block_size],
        "remote_engine_id": side.engine_id,
        "remote_host": side.host,
        "remote_port": side.port,
        "remote_tp_size": side.tensor_size,
        "remote_pcp_size": 1,
        "remote_dcp_size": 1,
        "remote_cached_tokens": 0,
    }
    return orjson.dumps(told)


def check_target(side: TransferSide, target: Target) -> None:
    """Compare what a decode says of itself with what its prefill was told of decodes. Raises KVError."""
    if target.engine_id == side.engine_id:
        raise KVError(KVErrorReason.MISMATCH, f"Conflict engine id {side.engine_id}: prefill and decode are one engine")
    expected = side.terms.get("decode.tp_size")
    if expected is not None and target.tensor_size != expected:
        message = f"the decode's remote_tp_size is {target.tensor_size}, but this prefill was told {expected}"
        raise KVError(KVErrorReason.MISMATCH, f"{message}; start both with the same kv_connector_extra_config")


def write_push(push: Push) -> bytes:
    """Write a push."""
    return orjson.dumps(
        {
            "engine_id": push.engine_id,
            "request_id": push.request_id,
            "block_ids": push.block_ids,
            "fingerprint": push.fingerprint,
            "terms": push.terms,
        }
    )


def read_push(raw: bytes) -> Push:
    """Read a push. Raises KVError for anything else."""
    try:
        body = orjson.loads(raw)
        block_ids = tuple(body["block_ids"])
        return Push(body["engine_id"], body["request_id"], block_ids, body["fingerprint"], dict(body["terms"]))
    except (ValueError, TypeError, KeyError) as error:
        raise KVError(KVErrorReason.INVALID, f"not a push: {error}") from error
