"""One start of `vllm serve`: command line and environment together become what the process of a rank does.

Pure, apart from what it is given to find out: opens no port and waits for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.sim.command_line import CommandLine, CommandLineError, read_command_line
from baton.sim.kv_transfer_config import (
    CONSUMER,
    LAYERWISE,
    MOONCAKE,
    NIXL,
    PRODUCER,
    KVTransferConfig,
    Sizes,
    read_kv_transfer_config,
)
from baton.sim.settings import SimSettings
from baton.sim.transfer import TransferSide

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_DEVICES: Final = ("ASCEND_RT_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
_MOONCAKE_TIMEOUT: Final = "VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT"
_NIXL_TIMEOUT: Final = "VLLM_NIXL_ABORT_REQUEST_TIMEOUT"
_NIXL_HOST: Final = "VLLM_NIXL_SIDE_CHANNEL_HOST"
_NIXL_PORT: Final = "VLLM_NIXL_SIDE_CHANNEL_PORT"
_READY_TIMEOUT: Final = "VLLM_ENGINE_READY_TIMEOUT_S"
# vLLM's defaults of these variables.
_DEFAULT_KV_SECONDS: Final = 480.0
_DEFAULT_READY_SECONDS: Final = 600.0
_DEFAULT_NIXL_PORT: Final = 5600

_DEFAULTS: Final = SimSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlace:
    """The place of one process among those of its instance.

    Attributes:
        rank, size: counted in what `member` says: DP ranks, or nodes where one API serves for all.
        address, port: where rank 0 gathers the others.
        seconds: how long to wait for all of them.
        terms: what all ranks must have been started with alike, by name.
    """

    member: str
    rank: int
    size: int
    address: str
    port: int
    seconds: float
    terms: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What the process of one rank does.

    Attributes:
        settings: of its engine and its API.
        side: its part in hand-overs; of no use to an engine without KV transfer.
        side_channel: the ports to bind for hand-overs, on the side's host; empty for one that only pulls.
        group: None for an instance of one process.
        is_headless: it has no API. It only holds its ports and its place, and the process with rank 0 computes for it.
        load_seconds: how long it pretends to load weights.
        shutdown_seconds: how long running requests may go on after SIGTERM.
        warnings: what the engine starts with although it is doubtful.
    """

    settings: SimSettings
    side: TransferSide
    side_channel: range
    group: GroupPlace | None
    is_headless: bool
    load_seconds: float
    shutdown_seconds: float
    warnings: tuple[str, ...]


def read_launch(
    words: Sequence[str], environment: Mapping[str, str], *, find_address: Callable[[], str], unique: str
) -> Launch:
    """Read the words after `vllm serve` and the environment.

    find_address tells this machine's address where VLLM_HOST_IP does not; `unique` tells this process from all others.

    Raises:
        CommandLineError: the real engine would not start like this.
    """
    line = read_command_line(words)
    variables = _Variables(environment)
    own = Sizes(line.data, line.tensor, line.pipeline, line.prefill_context * line.decode_context)
    config = None if line.kv_transfer_config is None else read_kv_transfer_config(line.kv_transfer_config, own)
    host = environment.get("VLLM_HOST_IP") or find_address()
    side_channel = _find_side_channel(line, config, variables)
    _check_devices(line, environment)
    return Launch(
        settings=_make_settings(line, config, variables),
        side=_make_side(
            line,
            config,
            host=variables.text(_NIXL_HOST, host) if _is_nixl(config) else host,
            port=side_channel.start,
            unique=unique,
        ),
        side_channel=side_channel if _binds(config) else range(0),
        group=_find_place(line, config, variables),
        is_headless=line.is_headless,
        load_seconds=variables.number("BATON_SIM_LOAD_SECONDS", 0.0),
        shutdown_seconds=line.shutdown_timeout,
        warnings=tuple(_find_doubts(line, config, environment)),
    )


class _Variables:
    """Environment variables with a type."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, name: str, default: str) -> str:
        return self._environment.get(name) or default

    def number(self, name: str, default: float) -> float:
        text = self._environment.get(name)
        if not text:
            return default
        try:
            number = float(text)
        except ValueError as error:
            raise CommandLineError(f"ValueError: {name}: {text!r} is no number") from error
        if not 0 <= number < float("inf"):
            raise CommandLineError(f"ValueError: {name}: {text} is not 0 or more")
        return number


def _make_settings(line: CommandLine, config: KVTransferConfig | None, variables: _Variables) -> SimSettings:
    max_model_len = line.max_model_len or _DEFAULTS.max_model_len
    longest = -(-max_model_len // line.block_size)
    timeout = _NIXL_TIMEOUT if _is_nixl(config) else _MOONCAKE_TIMEOUT
    return SimSettings(
        host=line.host,
        ports=(line.port,),
        models=line.served_names,
        tokens_per_second=variables.number("BATON_SIM_TOKENS_PER_SECOND", 0.0),
        prefill_tokens_per_second=variables.number("BATON_SIM_PREFILL_TOKENS_PER_SECOND", 0.0),
        kv_timeout=variables.number(timeout, _DEFAULT_KV_SECONDS),
        max_model_len=max_model_len,
        kv_blocks=int(variables.number("BATON_SIM_KV_BLOCKS", max(_DEFAULTS.kv_blocks, longest))),
        block_size=line.block_size,
        eos_rate=min(variables.number("BATON_SIM_EOS_RATE", 0.0), 1.0),
    )


def _make_side(
    line: CommandLine, config: KVTransferConfig | None, *, host: str, port: int, unique: str
) -> TransferSide:
    if config is None:
        return TransferSide(engine_id=unique, host=host, port=port, is_producer=False, is_consumer=False)
    rank = "" if line.data_rank is None else f"_dp{line.data_rank}"
    return TransferSide(
        engine_id=f"{config.engine_id or 'engine'}-{unique}{rank}",
        host=host,
        port=port,
        tensor_size=line.tensor,
        is_producer=config.role == PRODUCER or _is_nixl(config),
        is_consumer=config.role == CONSUMER or _is_nixl(config),
        is_layerwise=config.connector == LAYERWISE,
        recomputes=config.recomputes,
        terms=_make_terms(line, config),
    )


def _make_terms(line: CommandLine, config: KVTransferConfig) -> dict[str, object]:
    terms: dict[str, object] = {"kv_connector": config.connector, "block_size": line.block_size}
    for name, sizes in (("prefill", config.prefill), ("decode", config.decode)):
        if sizes is not None:
            terms |= {
                f"{name}.dp_size": sizes.data,
                f"{name}.tp_size": sizes.tensor,
                f"{name}.pp_size": sizes.pipeline,
            }
    return terms


def _is_nixl(config: KVTransferConfig | None) -> bool:
    return config is not None and config.connector == NIXL


def _binds(config: KVTransferConfig | None) -> bool:
    """Whether others come to this engine: of Mooncake's connectors only the side that does not begin listens."""
    if config is None or config.connector not in MOONCAKE:
        return config is not None
    return config.role == (CONSUMER if config.connector == LAYERWISE else PRODUCER)


def _find_side_channel(line: CommandLine, config: KVTransferConfig | None, variables: _Variables) -> range:
    """Return the ports of this process: one a device for Mooncake, one a DP rank for NIXL, on its first node."""
    if config is None:
        return range(0)
    rank = line.data_rank or line.data_start
    if _is_nixl(config):
        first = int(variables.number(_NIXL_PORT, _DEFAULT_NIXL_PORT)) + rank
        count = line.data_local if line.node_rank == 0 else 0
    else:
        first = config.port + rank * line.rank_devices + line.node_rank * line.devices
        count = line.devices
    ports = range(first, first + count)
    if ports.stop > 65536:
        raise CommandLineError(f"ValueError: the side channel needs ports {ports.start} to {ports.stop - 1}")
    return ports


def _find_place(line: CommandLine, config: KVTransferConfig | None, variables: _Variables) -> GroupPlace | None:
    if line.data_rank is not None:
        member, rank, size = "DP rank", line.data_rank, line.data
    elif line.nodes > 1:
        member, rank, size = "node", line.node_rank, line.nodes
    elif line.data_local < line.data:
        member, rank, size = "node", line.data_start // line.data_local, line.data // line.data_local
    else:
        return None
    terms = {
        "model": line.model,
        "tensor_parallel_size": line.tensor,
        "pipeline_parallel_size": line.pipeline,
        "prefill_context_parallel_size": line.prefill_context,
        "decode_context_parallel_size": line.decode_context,
        "data_parallel_size": line.data,
        "data_parallel_size_local": line.data_local,
        "nnodes": line.nodes,
        "engine_id": None if config is None else config.engine_id,
        "kv_role": None if config is None else config.role,
        "kv_port": None if config is None else config.port,
    }
    return GroupPlace(
        member=member,
        rank=rank,
        size=size,
        address=line.master_address if line.nodes > 1 else line.data_address,
        port=line.master_port if line.nodes > 1 else line.data_rpc_port,
        seconds=variables.number(_READY_TIMEOUT, _DEFAULT_READY_SECONDS),
        terms=terms,
    )


def _check_devices(line: CommandLine, environment: Mapping[str, str]) -> None:
    """Compare the devices that the process sees with those it needs; none of the variables set means all devices."""
    name = next((name for name in _DEVICES if name in environment), None)
    if name is None:
        return
    text = environment[name]
    devices = [device.strip() for device in text.split(",") if device.strip()]
    # CUDA knows names, too.
    if name == _DEVICES[0] and any(not (device.isascii() and device.isdigit()) for device in devices):
        raise CommandLineError(f"ValueError: {name}: {text!r} is no list of device numbers such as 0,1")
    if len(set(devices)) < len(devices):
        raise CommandLineError(f"ValueError: {name}: {text!r} names a device twice")
    needed = line.devices
    if len(devices) < needed:
        raise CommandLineError(
            f"ValueError: World size ({needed}) is larger than the number of available devices ({len(devices)}, "
            f"{name}={text})"
        )
    if len(devices) > needed and line.data_rank is not None:
        # Each rank takes the first of its devices, so ranks that see all of them take the same ones.
        raise CommandLineError(
            f"RuntimeError: {name}={text} gives {len(devices)} devices to a DP rank of {needed}; give each rank its own"
        )


def _find_doubts(line: CommandLine, config: KVTransferConfig | None, environment: Mapping[str, str]) -> list[str]:
    doubts = []
    if line.unknown:
        doubts.append(f"unrecognized arguments, which the real engine refuses: {' '.join(line.unknown)}")
    if config is None:
        return doubts
    doubts += config.warnings
    if environment.get("HCCL_IF_IP") and environment.get("HCCL_IF_IP") != environment.get("VLLM_HOST_IP"):
        doubts.append("HCCL_IF_IP and VLLM_HOST_IP differ: decodes are sent to VLLM_HOST_IP")
    if environment.get(_MOONCAKE_TIMEOUT) != environment.get(_NIXL_TIMEOUT):
        doubts.append(f"{_MOONCAKE_TIMEOUT} and {_NIXL_TIMEOUT} differ: which one counts depends on the version")
    return doubts
