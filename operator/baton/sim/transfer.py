"""The prefill-first hand-over: kv_transfer_params in and out, and the pull of a decode from its prefill over a socket.

The fields are those of vLLM-Ascend's MooncakeHybridConnector. The pull moves the prompt's fingerprint, no memory.
Keeps no state: what is held is the business of baton.sim.kv. baton.sim.layerwise has the decode-first way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson
from yarl import URL

from baton.sim.kv import KVError, KVErrorReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.sim.kv import HeldKV

PULL_PATH: Final = "/sim/kv/pull"

# The real connector gives the prefill three attempts of one second. A second attempt here could not tell a lost answer
# from reused KV, so this is one attempt of the same length.
_PULL_TIMEOUT: Final = aiohttp.ClientTimeout(total=3.0)

_CURE: Final = "pass the prefill's kv_transfer_params on unchanged"

_PULL_STATUS: Final = {
    KVErrorReason.INVALID: 400,
    KVErrorReason.ROLE: 403,
    KVErrorReason.UNKNOWN: 404,
    KVErrorReason.REUSED: 409,
    KVErrorReason.EXPIRED: 410,
    KVErrorReason.MISMATCH: 422,
}


class Kind(StrEnum):
    """What a request is to its engine."""

    PREFILL = "prefill"
    DECODE = "decode"
    AGGREGATED = "aggregated"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSide:
    """How an engine takes part in hand-overs.

    Attributes:
        engine_id: the name by which a decode tells engines apart.
        host, port: where decodes pull this engine's KV.
        tensor_size: tensor parallel size of this engine.
        is_producer, is_consumer: whether it holds KV for others, and whether it pulls.
        is_layerwise: whether decode is asked first; None takes both ways.
        recomputes: whether it computes a prompt itself when its KV does not arrive, instead of failing the request.
        terms: what both sides must have been started with alike, by name.
    """

    engine_id: str
    host: str
    port: int
    tensor_size: int = 1
    is_producer: bool = True
    is_consumer: bool = True
    is_layerwise: bool | None = None
    recomputes: bool = False
    terms: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KVSource:
    """Where the KV of a prompt waits, as the prefill's answer names it; tensor_size is None if it does not say."""

    host: str
    port: int
    engine_id: str
    request_id: str
    block_ids: tuple[int, ...]
    tensor_size: int | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What a decode asks a prefill for (the source without host and port), with the terms it was started with."""

    source: KVSource
    fingerprint: str
    terms: Mapping[str, object]


def read_transfer(parameters: object) -> tuple[Kind, KVSource | None]:
    """Tell what a request's kv_transfer_params of the prefill-first way make of it; only a decode has a source.

    Raises:
        KVError: they are incomplete. The real engine hangs or dies on these; a simulation had better say so.
    """
    if parameters is None:
        return Kind.AGGREGATED, None
    if not isinstance(parameters, dict):
        raise _invalid("kv_transfer_params must be an object")
    is_prefill, is_decode = parameters.get("do_remote_decode"), parameters.get("do_remote_prefill")
    if is_prefill and is_decode:
        raise _invalid("kv_transfer_params sets both do_remote_decode and do_remote_prefill; a request is one of them")
    if is_prefill:
        return Kind.PREFILL, None
    return (Kind.DECODE, _read_source(parameters)) if is_decode else (Kind.AGGREGATED, None)


def check_kind(side: TransferSide, kind: Kind) -> None:
    """Refuse a request that this side of a hand-over never gets.

    Raises:
        KVError: a prefill or decode of an engine that is not configured for it.
    """
    if (kind is Kind.PREFILL and not side.is_producer) or (kind is Kind.DECODE and not side.is_consumer):
        role = "kv_producer" if kind is Kind.PREFILL else "kv_consumer"
        raise KVError(
            KVErrorReason.ROLE, f"the {kind} of a request came to an engine that is no {role}; send it to one that is"
        )


def check_source(side: TransferSide, source: KVSource) -> None:
    """Compare what a prefill says of itself with what its decode was told of prefills.

    Raises:
        KVError: they are one engine, or the prefill has other sizes.
    """
    if source.engine_id == side.engine_id:
        raise KVError(KVErrorReason.MISMATCH, f"Conflict engine id {side.engine_id}: prefill and decode are one engine")
    expected = side.terms.get("prefill.tp_size")
    if expected is not None and source.tensor_size != expected:
        raise KVError(
            KVErrorReason.MISMATCH,
            f"the prefill's remote_ptp_size is {source.tensor_size}, but this decode was told prefill.tp_size "
            f"{expected}; start both with the same kv_connector_extra_config",
        )


def check_demand(side: TransferSide, demand: Demand) -> None:
    """Compare what a decode was told with what its prefill was.

    Raises:
        KVError: the demand is for another engine, or the two were started with different terms.
    """
    if demand.source.engine_id != side.engine_id:
        raise KVError(KVErrorReason.UNKNOWN, f"{demand.source.engine_id} is not the engine at this address")
    compare_terms(prefill=side.terms, decode=demand.terms)


def compare_terms(*, prefill: Mapping[str, object], decode: Mapping[str, object]) -> None:
    """Compare what both sides were started with.

    Raises:
        KVError: they differ.
    """
    differences = [
        f"{name} is {prefill.get(name)!r} at the prefill and {decode.get(name)!r} at the decode"
        for name in sorted({*prefill, *decode})
        if prefill.get(name) != decode.get(name)
    ]
    if differences:
        raise KVError(KVErrorReason.MISMATCH, f"{', '.join(differences)}; start both with the same values")


def describe_held(held: HeldKV, side: TransferSide, *, last_token: int) -> dict[str, Any]:
    """Return the kv_transfer_params that a prefill answers with: what its decode must be sent, unchanged."""
    return {
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "remote_block_ids": [list(held.block_ids)],
        "remote_engine_id": side.engine_id,
        "remote_request_id": held.request_id,
        "remote_host": side.host,
        "remote_port": side.port,
        "remote_ptp_size": side.tensor_size,
        "remote_multi_nodes_meta_mapping": {},
        "num_prompt_blocks": len(held.block_ids),
        "last_token_id": last_token,
    }


async def pull(session: aiohttp.ClientSession, demand: Demand) -> None:
    """Fetch the KV of a prompt from the prefill that holds it, which then frees it.

    Raises:
        KVError: the prefill does not answer, or refuses.
    """
    source = demand.source
    url = URL.build(scheme="http", host=source.host, port=source.port, path=PULL_PATH)
    body = {
        "engine_id": source.engine_id,
        "request_id": source.request_id,
        "block_ids": source.block_ids,
        "fingerprint": demand.fingerprint,
        "terms": demand.terms,
    }
    try:
        async with session.post(url, data=orjson.dumps(body), timeout=_PULL_TIMEOUT) as response:
            if response.status == 200:
                return
            answer = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        cause = str(error) or type(error).__name__
        raise KVError(KVErrorReason.UNREACHABLE, f"no answer from the prefill at {url.authority}: {cause}") from error
    raise read_refusal(answer, authority=url.authority)


def format_refusal(error: KVError) -> tuple[int, bytes]:
    """Return the status and body that tell a decode why its pull is refused."""
    return _PULL_STATUS[error.reason], orjson.dumps({"reason": error.reason, "message": error.message})


def read_refusal(answer: bytes, *, authority: str) -> KVError:
    """Return the error that another simulated engine answered with."""
    try:
        refusal = orjson.loads(answer)
        return KVError(KVErrorReason(refusal["reason"]), refusal["message"])
    except (ValueError, TypeError, KeyError):
        return KVError(KVErrorReason.UNREACHABLE, f"{authority} is no simulated engine")


def read_demand(raw: bytes) -> Demand:
    """Read what a pull asks for.

    Raises:
        KVError: it is no pull of a simulated engine.
    """
    try:
        body = orjson.loads(raw)
        source = KVSource("", 0, body["engine_id"], body["request_id"], tuple(body["block_ids"]))
        return Demand(source, body["fingerprint"], dict(body["terms"]))
    except (ValueError, TypeError, KeyError) as error:
        raise _invalid(f"not a pull: {error}") from error


def _read_source(parameters: Mapping[str, Any]) -> KVSource:
    return KVSource(
        host=read_text(parameters, "remote_host"),
        port=read_port(parameters),
        engine_id=read_text(parameters, "remote_engine_id"),
        request_id=read_text(parameters, "remote_request_id"),
        block_ids=read_block_ids(parameters.get("remote_block_ids")),
        tensor_size=parameters.get("remote_ptp_size"),
    )


def read_port(parameters: Mapping[str, Any]) -> int:
    """Return remote_port. Raises KVError."""
    port = parameters.get("remote_port")
    if type(port) is not int or not 0 < port < 65536:
        raise _invalid(f"kv_transfer_params.remote_port is missing or no port; {_CURE}")
    return port


def read_text(parameters: Mapping[str, Any], field: str) -> str:
    """Return a text field that must be there. Raises KVError."""
    value = parameters.get(field)
    if not isinstance(value, str) or not value:
        raise _invalid(f"kv_transfer_params.{field} is missing; {_CURE}")
    return value


def read_block_ids(groups: object) -> tuple[int, ...]:
    """Flatten the lists of block ids, one per KV group; a group may be empty, all of them may not. Raises KVError."""
    block_ids: list[int] = []
    for group in groups if isinstance(groups, list) else ():
        block_ids.extend(group if isinstance(group, list) else [group])
    if not block_ids or any(type(block) is not int for block in block_ids):
        raise _invalid(f"kv_transfer_params.remote_block_ids is missing, empty or not lists of numbers; {_CURE}")
    return tuple(block_ids)


def _invalid(message: str) -> KVError:
    return KVError(KVErrorReason.INVALID, message)
