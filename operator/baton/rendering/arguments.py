"""The command line of a rank: typed fields as vllm flags in a stable order, then the user's own flags.

A flag is kept by its positive name: True is `--name`, False is `--no-name`, None is no flag at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from baton.api.meta import JsonObject
from baton.rendering.plan import RolePlan

OWNED: Final[Mapping[str, str]] = {
    "host": "remove it, the probes and the router need every address",
    "port": "set ports.api",
    "data-parallel-size": "set parallel.data",
    "data-parallel-size-local": "set parallel.dataLocal",
    "data-parallel-rank": "remove it, ranks are counted per pod",
    "data-parallel-start-rank": "remove it, ranks are counted per pod",
    "data-parallel-address": "remove it, it is the address of the entry pod",
    "data-parallel-rpc-port": "set ports.dataParallelRpc",
    "tensor-parallel-size": "set parallel.tensor",
    "pipeline-parallel-size": "set parallel.pipeline",
    "prefill-context-parallel-size": "set parallel.prefillContext",
    "decode-context-parallel-size": "set parallel.decodeContext",
    "data-parallel-hybrid-lb": "remove it, set parallel.dataMode",
    "data-parallel-external-lb": "remove it, set parallel.dataMode",
    "data-parallel-multi-port-external-lb": "remove it, the launch script starts the ranks",
    "data-parallel-backend": "remove it, the launch script starts the ranks",
    "headless": "remove it, set parallel.dataMode",
    "nnodes": "remove it, nodes are computed",
    "node-rank": "remove it, nodes are computed",
    "master-addr": "remove it, it is the address of the entry pod",
    "master-port": "set ports.master",
    "uds": "remove it, the probes and the router need every port",
    "ssl-keyfile": "remove it, the probes and the router speak plain HTTP",
    "ssl-certfile": "remove it, the probes and the router speak plain HTTP",
    "model": "set model.path",
    "config": "remove it, it would override what is computed without being seen; write its flags here",
    "served-model-name": "set model.servedName",
    "kv-transfer-config": "set kvTransfer and kvTransferExtraConfig",
    **dict.fromkeys(
        ("tp", "pp", "dp", "dpn", "dpr", "dpl", "dpa", "dpp", "dpb", "pcp", "dcp", "ep", "n", "r"),
        "it is a short form of a flag of parallel sizes, set parallel",
    ),
}
"""Flags that users cannot set, because ports, ranks and both sides of the KV transfer hang on them, and the cure."""

TYPED: Final[Mapping[str, str]] = {
    "seed": "seed",
    "max-model-len": "max_model_len",
    "max-num-batched-tokens": "max_num_batched_tokens",
    "max-num-seqs": "max_num_seqs",
    "async-scheduling": "async_scheduling",
    "block-size": "block_size",
    "enable-prefix-caching": "prefix_caching",
    "tokenizer-mode": "tokenizer_mode",
    "tool-call-parser": "tool_call_parser",
    "reasoning-parser": "reasoning_parser",
    "gpu-memory-utilization": "gpu_memory_utilization",
    "quantization": "quantization",
    "model-loader-extra-config": "model_loader_extra_config",
    "speculative-config": "speculative_config",
    "compilation-config": "compilation_config",
    "additional-config": "additional_config",
}
"""Flags that carry the value of a field of the engine."""


API_FLAGS: Final = frozenset({"host", "port", "api-server-count"})
"""Flags of the API, which headless processes do not have; they refuse the last one."""


def flags_of(plan: RolePlan) -> JsonObject:
    """Return all flags of a process that serves, but --kv-transfer-config, by name, in order; the user's win."""
    flags = computed_flags(plan)
    own = canonical_flags(plan.engine.flags or {})
    flags.update((name, own[name]) for name in sorted(own))
    return {name: value for name, value in flags.items() if value is not None}


def computed_flags(plan: RolePlan) -> JsonObject:
    """Return the flags that follow from the typed fields."""
    engine, sizes = plan.engine, plan.sizes
    flags: JsonObject = {"host": "0.0.0.0", "port": "$(port)", "data-parallel-size": sizes.data}
    if plan.rpc_port is not None:
        own = (
            {"data-parallel-size-local": plan.ranks_per_node} if plan.is_internal else {"data-parallel-rank": "$(rank)"}
        )
        flags |= own | {"data-parallel-address": "$(entry_ip)", "data-parallel-rpc-port": plan.rpc_port}
    if plan.master_port is not None:
        flags |= {
            "nnodes": plan.nodes,
            "node-rank": "$(WORKER_INDEX)",
            "master-addr": "$(entry_ip)",
            "master-port": plan.master_port,
        }
    hybrid = engine.hybrid_kv_cache_manager
    flags |= {
        "tensor-parallel-size": sizes.tensor,
        "pipeline-parallel-size": _above_one(sizes.pipeline),
        "prefill-context-parallel-size": _above_one(sizes.prefill_context),
        "decode-context-parallel-size": _above_one(plan.decode_context),
        "enable-expert-parallel": _bare(engine.parallel is not None and engine.parallel.expert),
        "served-model-name": plan.served_name,
        "trust-remote-code": _bare(engine.trust_remote_code),
        "enforce-eager": _bare(engine.enforce_eager),
        "disable-hybrid-kv-cache-manager": None if hybrid is None else not hybrid,
        "enable-auto-tool-choice": _bare(engine.tool_call_parser),
    }
    flags |= {name: getattr(engine, field) for name, field in TYPED.items()}
    flags["shutdown-timeout"] = plan.drain_seconds
    return {name: value for name, value in flags.items() if value is not None}


def headless_flags(plan: RolePlan) -> JsonObject:
    """Return the flags that a headless process has in place of `API_FLAGS`."""
    # In a process that serves, a start rank would mean that it serves its own ranks alone.
    start = {"data-parallel-start-rank": "$(rank)"} if plan.rpc_port is not None else {}
    return {"headless": True, **start}


def canonical_flags(flags: JsonObject) -> JsonObject:
    """Return the flags by positive name: dashes for underscores, `no-x: true` as `x: false`."""
    canonical: JsonObject = {}
    for written, value in flags.items():
        name = written.replace("_", "-").lstrip("-")
        if name.startswith("no-") and (value is None or isinstance(value, bool)):
            canonical[name.removeprefix("no-")] = None if value is None else not value
        else:
            canonical[name] = value
    return canonical


def words_of(name: str, value: Any) -> tuple[str, ...]:
    """Return the command line words of one flag."""
    match value:
        case True:
            return (f"--{name}",)
        case False:
            return (f"--no-{name}",)
        case list() if not any(isinstance(item, dict | list) for item in value):
            return (f"--{name}", *(_text(item) for item in value))
        case _:
            return (f"--{name}", _text(value))


def json_text(value: Any) -> str:
    """Return JSON with sorted keys: the API server does not keep their order, and a launch is named by its text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


def _above_one(size: int) -> int | None:
    return size if size > 1 else None


def _bare(wanted: object) -> bool | None:
    return True if wanted else None
