"""The hand-over protocol: kv_transfer_params in and out, and the pull of a decode from its prefill over a real socket.

The fields are those of vLLM-Ascend's MooncakeHybridConnector. The pull moves the prompt's fingerprint, no memory.
Keeps no state: what is held is the business of baton.sim.kv.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class KVSource:
    """Where the KV of a prompt waits, as the prefill's answer names it."""

    host: str
    port: int
    engine_id: str
    request_id: str
    block_ids: tuple[int, ...]


def read_transfer(parameters: object) -> tuple[Kind, KVSource | None]:
    """Tell what a request's kv_transfer_params make of it; the source is set for a decode only.

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


def describe_held(held: HeldKV, *, host: str, port: int, engine_id: str, last_token: int) -> dict[str, Any]:
    """Return the kv_transfer_params that a prefill answers with: what its decode must be sent, unchanged."""
    return {
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "remote_block_ids": [list(held.block_ids)],
        "remote_engine_id": engine_id,
        "remote_request_id": held.request_id,
        "remote_host": host,
        "remote_port": port,
        "remote_ptp_size": 1,
        "remote_multi_nodes_meta_mapping": {},
        "num_prompt_blocks": len(held.block_ids),
        "last_token_id": last_token,
    }


async def pull(session: aiohttp.ClientSession, source: KVSource, fingerprint: str) -> None:
    """Fetch the KV of a prompt from the prefill that holds it, which then frees it.

    Raises:
        KVError: the prefill does not answer, or refuses.
    """
    url = URL.build(scheme="http", host=source.host, port=source.port, path=PULL_PATH)
    demand = {
        "engine_id": source.engine_id,
        "request_id": source.request_id,
        "block_ids": source.block_ids,
        "fingerprint": fingerprint,
    }
    try:
        async with session.post(url, data=orjson.dumps(demand), timeout=_PULL_TIMEOUT) as response:
            if response.status == 200:
                return
            answer = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        cause = str(error) or type(error).__name__
        raise KVError(KVErrorReason.UNREACHABLE, f"no answer from the prefill at {url.authority}: {cause}") from error
    raise _read_refusal(answer, authority=url.authority)


def format_refusal(error: KVError) -> tuple[int, bytes]:
    """Return the status and body that tell a decode why its pull is refused."""
    return _PULL_STATUS[error.reason], orjson.dumps({"reason": error.reason, "message": error.message})


def _read_refusal(answer: bytes, *, authority: str) -> KVError:
    try:
        refusal = orjson.loads(answer)
        return KVError(KVErrorReason(refusal["reason"]), refusal["message"])
    except (ValueError, TypeError, KeyError):
        return KVError(KVErrorReason.UNREACHABLE, f"{authority} is no simulated engine")


def read_demand(raw: bytes) -> tuple[KVSource, str]:
    """Read what a pull asks for: the source (its host and port left empty) and the prompt's fingerprint.

    Raises:
        KVError: it is no pull of a simulated engine.
    """
    try:
        demand = orjson.loads(raw)
        source = KVSource("", 0, demand["engine_id"], demand["request_id"], tuple(demand["block_ids"]))
        return source, demand["fingerprint"]
    except (ValueError, TypeError, KeyError) as error:
        raise _invalid(f"not a pull: {error}") from error


def _read_source(parameters: Mapping[str, Any]) -> KVSource:
    port = parameters.get("remote_port")
    if type(port) is not int or not 0 < port < 65536:
        raise _invalid(f"kv_transfer_params.remote_port is missing or no port; {_CURE}")
    return KVSource(
        host=_read_text(parameters, "remote_host"),
        port=port,
        engine_id=_read_text(parameters, "remote_engine_id"),
        request_id=_read_text(parameters, "remote_request_id"),
        block_ids=_read_block_ids(parameters.get("remote_block_ids")),
    )


def _read_text(parameters: Mapping[str, Any], field: str) -> str:
    value = parameters.get(field)
    if not isinstance(value, str) or not value:
        raise _invalid(f"kv_transfer_params.{field} is missing; {_CURE}")
    return value


def _read_block_ids(groups: object) -> tuple[int, ...]:
    """Flatten the lists of block ids, one per KV group; a group may be empty, all of them may not."""
    block_ids: list[int] = []
    for group in groups if isinstance(groups, list) else ():
        block_ids.extend(group if isinstance(group, list) else [group])
    if not block_ids or any(type(block) is not int for block in block_ids):
        raise _invalid(f"kv_transfer_params.remote_block_ids is missing, empty or not lists of numbers; {_CURE}")
    return tuple(block_ids)


def _invalid(message: str) -> KVError:
    return KVError(KVErrorReason.INVALID, message)
