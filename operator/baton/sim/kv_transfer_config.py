"""The value of --kv-transfer-config: its fields, and every rule by which vLLM and vLLM-Ascend refuse it.

The rules and their messages are those of vLLM 0.27 (fields, roles) and vLLM-Ascend's Mooncake connectors (sizes).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from baton.sim.command_line import CommandLineError

if TYPE_CHECKING:
    from collections.abc import Mapping

PRODUCER: Final = "kv_producer"
CONSUMER: Final = "kv_consumer"
BOTH: Final = "kv_both"
_ROLES: Final = (PRODUCER, BOTH, CONSUMER)

HYBRID: Final = "MooncakeHybridConnector"
NIXL: Final = "NixlConnector"
LAYERWISE: Final = "MooncakeLayerwiseConnector"
MOONCAKE: Final = (HYBRID, "MooncakeConnectorV1", LAYERWISE)
_SIMULATED: Final = (*MOONCAKE, NIXL)
MULTI: Final = "MultiConnector"
_NOT_SIMULATED: Final = (
    *("SfaRemoteD2HConnector", "AscendStoreConnector", "MooncakeConnectorStoreV1"),
    *("UCMConnector", "OffloadingConnector", "SimpleCPUOffloadConnector", "LMCacheConnectorV1"),
    *("RecomputeCPUOffloadConnector", "LMCacheAscendConnector", "MooncakeConnector", "SharedStorageConnector"),
)

_FIELDS: Final = frozenset(
    {
        *("kv_connector", "kv_role", "kv_port", "engine_id", "kv_connector_extra_config", "kv_load_failure_policy"),
        *("kv_rank", "kv_parallel_size", "kv_ip", "kv_buffer_device", "kv_buffer_size", "kv_connector_module_path"),
        "enable_permute_local_kv",
    }
)
_DEFAULT_PORT: Final = 14579


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parallel sizes of one instance, all of its DP ranks together; `context` is prefill times decode context."""

    data: int
    tensor: int
    pipeline: int = 1
    context: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KVTransferConfig:
    """A configuration that an engine starts with.

    Attributes:
        port: the first of the instance's side-channel ports; of no meaning to NixlConnector.
        engine_id: None leaves it to the engine.
        prefill, decode: the sizes of both sides; None for NixlConnector, which is not told them.
        recomputes: whether a decode computes the prompt itself when its KV does not arrive.
        warnings: what the engine starts with although it will not work as meant.
    """

    connector: str
    role: str
    port: int
    engine_id: str | None
    prefill: Sizes | None
    decode: Sizes | None
    recomputes: bool = False
    warnings: tuple[str, ...] = field(default=())


def read_kv_transfer_config(document: Mapping[str, Any], own: Sizes) -> KVTransferConfig | None:
    """Check the configuration of an engine of these sizes; None if it names no connector.

    Raises:
        CommandLineError: the real engine would not start, or the connector is not simulated.
    """
    _check_fields(document)
    if document.get("kv_connector") is None:
        return None
    part = _choose_child(document) if document["kv_connector"] == MULTI else document
    connector, role = part["kv_connector"], part["kv_role"]
    _check_connector(connector)
    recomputes = document.get("kv_load_failure_policy", "fail") == "recompute"
    if connector == HYBRID:
        _check_hybrid(own, recomputes=recomputes)
    extra = part.get("kv_connector_extra_config", {})
    prefill, decode = _read_sides(extra, role=role, own=own) if connector in MOONCAKE else (None, None)
    return KVTransferConfig(
        connector=connector,
        role=role,
        port=_read_port(part.get("kv_port", _DEFAULT_PORT)),
        engine_id=document.get("engine_id"),
        prefill=prefill,
        decode=decode,
        recomputes=recomputes,
        warnings=tuple(_find_doubts(part)),
    )


def _check_fields(document: Mapping[str, Any]) -> None:
    if unknown := sorted(set(document) - _FIELDS):
        raise CommandLineError(f"ValidationError: KVTransferConfig: {unknown[0]}: Unexpected keyword argument")
    role = document.get("kv_role")
    if role is not None and role not in _ROLES:
        raise CommandLineError(f"ValueError: Unsupported kv_role: {role}. Supported roles are {_ROLES}")
    if role is None and document.get("kv_connector") is not None:
        raise CommandLineError(
            f"ValueError: Please specify kv_role when kv_connector is set, supported roles are {_ROLES}"
        )
    if not isinstance(document.get("kv_connector_extra_config", {}), dict):
        raise CommandLineError("ValidationError: KVTransferConfig: kv_connector_extra_config: must be an object")
    if document.get("kv_load_failure_policy", "fail") not in ("fail", "recompute"):
        raise CommandLineError(
            "ValidationError: KVTransferConfig: kv_load_failure_policy: Input should be 'recompute' or 'fail'"
        )


def _choose_child(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the child of a MultiConnector that hands over; the others, such as stores, change nothing here."""
    children = document.get("kv_connector_extra_config", {}).get("connectors")
    if not isinstance(children, list) or not all(isinstance(child, dict) for child in children):
        raise CommandLineError("AssertionError: kv_connector_extra_config.connectors is no list of connectors")
    for child in children:
        _check_fields(child)
        if "engine_id" in child:
            raise CommandLineError("TypeError: KVTransferConfig() got multiple values for keyword argument 'engine_id'")
    handing_over: list[dict[str, Any]] = [child for child in children if child.get("kv_connector") in _SIMULATED]
    if len(handing_over) > 1:
        raise CommandLineError("RuntimeError: Only one connector can produce KV transfer params")
    if not handing_over:
        raise CommandLineError("NotImplementedError: a MultiConnector without a connector that hands over")
    return handing_over[0]


def _check_hybrid(own: Sizes, *, recomputes: bool) -> None:
    if own.context != 1:
        raise CommandLineError("AssertionError: Mooncake Hybrid Connector only support cp_world_size == 1.")
    if recomputes:
        raise CommandLineError("AssertionError: kv_load_failure_policy recompute does not go with hybrid models")


def _check_connector(connector: object) -> None:
    if connector in _NOT_SIMULATED:
        raise CommandLineError(f"NotImplementedError: {connector} is not simulated; use one of {', '.join(_SIMULATED)}")
    if connector not in _SIMULATED:
        raise CommandLineError(f"ValueError: Unsupported connector type: {connector}")


def _read_port(port: object) -> int:
    # The documentation writes it as a string, and vLLM takes that.
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = int(port)
    if type(port) is not int or not 0 < port < 65536:
        raise CommandLineError(f"ValidationError: KVTransferConfig: kv_port: {port!r} is no port")
    return port


def _read_sides(extra: Mapping[str, Any], *, role: str, own: Sizes) -> tuple[Sizes, Sizes]:
    for side, roles in (("prefill", (PRODUCER, BOTH)), ("decode", (CONSUMER, BOTH))):
        if role in roles and isinstance(extra.get(side), dict):
            _compare_with_own(extra[side], side=side, own=own)
    prefill, decode = (_read_side(extra.get(side), side=side) for side in ("prefill", "decode"))
    if decode.pipeline != 1:
        raise CommandLineError("AssertionError: decode pp size must be 1")
    if prefill.tensor < decode.tensor:
        raise CommandLineError(
            f"ValueError: prefill_tp_size: {prefill.tensor} must be greater than or equal to the decode_tp_size: "
            f"{decode.tensor}"
        )
    return prefill, decode


def _compare_with_own(block: Mapping[str, Any], *, side: str, own: Sizes) -> None:
    for key, words, expected in (
        ("tp_size", "tensor parallel", own.tensor),
        ("dp_size", "data parallel", own.data),
        ("pp_size", "pipeline parallel", own.pipeline),
    ):
        size = block.get(key, expected if key != "pp_size" else 1)
        if type(size) is not int or size != expected:
            kind = "" if type(size) is int else f" It is {size!r}, where only an integer is one."
            raise CommandLineError(
                f"ValueError: KV transfer '{side}' config has a conflicting {words} size. Expected {expected}, but got "
                f"{size}.{kind}"
            )


def _read_side(block: object, *, side: str) -> Sizes:
    path = f"kv_connector_extra_config.{side}"
    if not isinstance(block, dict):
        raise CommandLineError(f"AssertionError: {path} is missing: both sides carry the sizes of both")
    return Sizes(
        data=_read_size(block.get("dp_size"), path=f"{path}.dp_size"),
        tensor=_read_size(block.get("tp_size"), path=f"{path}.tp_size"),
        pipeline=_read_size(block.get("pp_size", 1), path=f"{path}.pp_size"),
    )


def _read_size(size: object, *, path: str) -> int:
    if size is None:
        raise CommandLineError(f"AssertionError: {path} is missing: both sides carry the sizes of both")
    if type(size) is not int or size < 1:
        raise CommandLineError(f"TypeError: {path} is {size!r}, where only an integer of at least 1 is one")
    return size


def _find_doubts(document: Mapping[str, Any]) -> list[str]:
    doubts = []
    if document.get("kv_role") == BOTH and document.get("kv_connector") in MOONCAKE:
        doubts.append("kv_role kv_both: the Mooncake connectors hand over between kv_producer and kv_consumer only")
    if "kv_connector_module_path" in document:
        doubts.append("kv_connector_module_path is not looked at here; it goes stale between versions of the engine")
    return doubts
