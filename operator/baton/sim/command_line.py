"""The command line of `vllm serve`: its flags, the values they take, and what vLLM itself refuses about them.

Knows no environment and no KV transfer configuration beyond its being JSON; flags that nothing here depends on are
only checked for their form.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHORT: Final = {
    "data-parallel-size": "-dp",
    "data-parallel-rank": "-dpn",
    "data-parallel-size-local": "-dpl",
    "data-parallel-address": "-dpa",
    "data-parallel-rpc-port": "-dpp",
    "tensor-parallel-size": "-tp",
    "pipeline-parallel-size": "-pp",
    "prefill-context-parallel-size": "-pcp",
    "decode-context-parallel-size": "-dcp",
    "quantization": "-q",
    "nnodes": "-n",
    "node-rank": "-r",
}
_SWITCHES: Final = (
    *("async-scheduling", "disable-custom-all-reduce", "disable-hybrid-kv-cache-manager", "disable-log-stats"),
    *("disable-uvicorn-access-log", "enable-auto-tool-choice", "enable-chunked-prefill", "enable-eplb"),
    *("enable-expert-parallel", "enable-log-requests", "enable-lora", "enable-prefix-caching", "enable-sleep-mode"),
    *("enforce-eager", "skip-tokenizer-init", "trust-remote-code"),
)
_WHOLE: Final = ("api-server-count", "max-logprobs", "max-lora-rank", "max-loras", "num-gpu-blocks-override", "seed")
_TEXTS: Final = (
    *("chat-template", "distributed-executor-backend", "download-dir", "generation-config", "kv-cache-dtype"),
    *("load-format", "quantization", "reasoning-parser", "revision", "safetensors-load-strategy", "tokenizer"),
    *("tokenizer-mode", "tool-call-parser", "tool-parser-plugin", "uvicorn-log-level"),
)
_LISTS: Final = ("lora-modules", "middleware")
_OBJECTS: Final = (
    *("additional-config", "compilation-config", "default-chat-template-kwargs", "eplb-config", "hf-overrides"),
    *("kv-events-config", "kv-transfer-config", "limit-mm-per-prompt", "model-loader-extra-config"),
    *("override-generation-config", "speculative-config", "structured-outputs-config"),
)
_DTYPES: Final = ("auto", "half", "float16", "bfloat16", "float", "float32")
_AMOUNT: Final = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)")
_UNITS: Final = {"": 1, "k": 1000, "K": 1024, "m": 1000**2, "M": 1024**2}


class CommandLineError(Exception):
    """A command line that vLLM does not start with; what it would raise comes first, as in "ValueError: …"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """What `vllm serve` was told, as far as a simulation depends on it.

    Attributes:
        served_names: model names clients may use; the model itself if none is given.
        data_rank: the rank of this process in external data parallelism, None in internal.
        data_start: the first DP rank of this process in internal data parallelism.
        data_local: DP ranks inside this process.
        nodes, node_rank: how many nodes the DP rank takes, and which of them this is.
        is_headless: this process has no API.
        max_model_len: None leaves it to the model.
        kv_transfer_config: the JSON object, None without KV transfer.
        shutdown_timeout: seconds that running requests may go on after SIGTERM.
        unknown: words that were not understood.
    """

    model: str
    served_names: tuple[str, ...]
    host: str
    port: int
    data: int
    data_rank: int | None
    data_start: int
    data_local: int
    data_address: str
    data_rpc_port: int
    nodes: int
    node_rank: int
    master_address: str
    master_port: int
    is_headless: bool
    tensor: int
    pipeline: int
    prefill_context: int
    decode_context: int
    block_size: int
    max_model_len: int | None
    kv_transfer_config: Mapping[str, Any] | None
    shutdown_timeout: int
    unknown: tuple[str, ...]

    @property
    def rank_devices(self) -> int:
        """Devices of one DP rank; decode context parallelism shares those of the tensor parallel ranks."""
        return self.tensor * self.pipeline * self.prefill_context

    @property
    def devices(self) -> int:
        """Devices of this process."""
        return self.data_local * self.rank_devices // self.nodes


def read_command_line(words: Sequence[str]) -> CommandLine:
    """Read the words after `vllm serve`; a wrong value ends the program with status 2, as in vLLM.

    Raises:
        CommandLineError: the values do not go together.
    """
    given, unknown = _make_parser().parse_known_args([_spell(word) for word in words])
    model = given.model or given.model_tag
    if model is None:
        raise CommandLineError("ValueError: no model: name it after `vllm serve`")
    _check_sizes(given)
    _check_nodes(given)
    _check_headless(given)
    return CommandLine(
        model=model,
        served_names=tuple(given.served_model_name or [model]),
        host=given.host or "0.0.0.0",
        port=given.port,
        data=given.data_parallel_size,
        data_rank=given.data_parallel_rank,
        data_start=given.data_parallel_start_rank or 0,
        data_local=1
        if given.data_parallel_rank is not None
        else given.data_parallel_size_local or given.data_parallel_size,
        data_address=given.data_parallel_address or "127.0.0.1",
        data_rpc_port=given.data_parallel_rpc_port,
        nodes=given.nnodes,
        node_rank=given.node_rank,
        master_address=given.master_addr,
        master_port=given.master_port,
        is_headless=given.headless,
        tensor=given.tensor_parallel_size,
        pipeline=given.pipeline_parallel_size,
        prefill_context=given.prefill_context_parallel_size,
        decode_context=given.decode_context_parallel_size,
        block_size=given.block_size,
        max_model_len=None if given.max_model_len in {None, -1} else given.max_model_len,
        kv_transfer_config=given.kv_transfer_config,
        shutdown_timeout=given.shutdown_timeout,
        unknown=tuple(unknown),
    )


def format_help() -> str:
    """Return the text of `vllm serve --help`."""
    return _make_parser().format_help()


def _spell(word: str) -> str:
    """Write the name of a flag with dashes; underscores are as good to vLLM."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vllm serve",
        usage="vllm serve [model_tag] [options]",
        description="Simulate vLLM's server: the command line is checked as vLLM does, the API and the KV hand-over "
        "are served, no model is loaded. Options not described are checked for their form.",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("model_tag", nargs="?", help="name or directory of the model; nothing is read from it")

    def add(name: str, **options: Any) -> None:
        parser.add_argument(f"--{name}", *filter(None, [_SHORT.get(name)]), **options)

    add("model", help="the same as model_tag")
    add("served-model-name", nargs="+", help="names clients may use")
    add("host", help="address of the API")
    add("port", type=_port, default=8000, help="port of the API")
    add("data-parallel-size", type=_count, default=1, help="DP ranks of the whole instance")
    add("data-parallel-rank", type=int, help="rank of this process; the API serves this rank alone")
    add("data-parallel-size-local", type=_count, help="DP ranks in this process")
    add("data-parallel-start-rank", type=int, help="first of them; only with --headless")
    add("data-parallel-address", help="address of rank 0")
    add("data-parallel-rpc-port", type=_port, default=29550, help="port where rank 0 gathers the others")
    add("nnodes", type=_count, default=1, help="nodes of a DP rank that takes several")
    add("node-rank", type=int, default=0, help="which of them this is")
    add("master-addr", default="127.0.0.1", help="address of node 0")
    add("master-port", type=_port, default=29501, help="port where node 0 gathers the others")
    add("headless", action="store_true", help="no API: compute for the process with rank 0")
    add("tensor-parallel-size", type=_count, default=1)
    add("pipeline-parallel-size", type=_count, default=1)
    add("prefill-context-parallel-size", type=_count, default=1)
    add("decode-context-parallel-size", type=_count, default=1)
    add("block-size", type=_count, default=128, help="tokens in a KV block")
    add("max-model-len", type=_amount, help="tokens of prompt and answer together")
    add("max-num-batched-tokens", type=_amount)
    add("max-num-seqs", type=_count)
    add("gpu-memory-utilization", type=_share)
    add("dtype", choices=_DTYPES)
    add("shutdown-timeout", type=_seconds, default=0, help="seconds that requests may finish in after SIGTERM")
    for name in _WHOLE:
        add(name, type=int)
    for name in _TEXTS:
        add(name)
    for name in _LISTS:
        add(name, nargs="+")
    for name in _OBJECTS:
        add(name, type=_object)
    for name in _SWITCHES:
        add(name, action=argparse.BooleanOptionalAction)
    return parser


def _check_sizes(given: argparse.Namespace) -> None:
    rank, size, local = given.data_parallel_rank, given.data_parallel_size, given.data_parallel_size_local
    if rank is not None and not 0 <= rank < size:
        raise CommandLineError(f"ValueError: data_parallel_rank ({rank}) must be in the range [0, {size})")
    if rank is not None and size == 1:
        raise CommandLineError("ValueError: data_parallel_external_lb can only be set when data_parallel_size > 1")
    if rank is not None and local not in {None, 1}:
        raise CommandLineError(
            "AssertionError: data_parallel_size_local must be 1 or None when data_parallel_rank is set"
        )
    if local is not None and local > size:
        raise CommandLineError(f"ValueError: data_parallel_size_local ({local}) must be <= data_parallel_size ({size})")
    tokens, sequences = given.max_num_batched_tokens, given.max_num_seqs
    if tokens is not None and sequences is not None and tokens < sequences:
        raise CommandLineError(
            f"ValueError: max_num_batched_tokens ({tokens}) must be greater than or equal to max_num_seqs "
            f"({sequences})."
        )


def _check_nodes(given: argparse.Namespace) -> None:
    nodes, node = given.nnodes, given.node_rank
    devices = given.tensor_parallel_size * given.pipeline_parallel_size * given.prefill_context_parallel_size
    if devices * given.data_parallel_size % nodes:
        raise CommandLineError(
            f"ValueError: Invalid data-parallel launch options: `--nnodes {nodes}` must evenly divide the total world "
            f"size ({devices * given.data_parallel_size})."
        )
    if not 0 <= node < nodes:
        raise CommandLineError(
            f"ValueError: Invalid data-parallel launch options: `--node-rank` must be between 0 and {nodes - 1}; got "
            f"`--node-rank {node}`."
        )
    if nodes > 1 and given.data_parallel_size > 1:
        raise CommandLineError("NotImplementedError: several DP ranks and --nnodes are not simulated together")
    if nodes > 1 and given.distributed_executor_backend not in {None, "mp"}:
        raise CommandLineError(
            "ValueError: nnodes > 1 can only be set when distributed executor backend is mp, uni or external_launcher."
        )
    if node > 0 and not given.headless:
        raise CommandLineError("AssertionError: collective_rpc should not be called on follower node: use --headless")


def _check_headless(given: argparse.Namespace) -> None:
    start, size = given.data_parallel_start_rank, given.data_parallel_size
    local = given.data_parallel_size_local or size
    if given.headless and (given.api_server_count or 0) > 0:
        raise CommandLineError(
            f"ValueError: --api-server-count={given.api_server_count} cannot be used with --headless (no API servers "
            "are started in headless mode)."
        )
    if start is not None and not given.headless and local < size:
        raise CommandLineError("NotImplementedError: hybrid load balancing (a start rank of an API) is not simulated")
    if start is not None and not 0 <= start < size:
        raise CommandLineError(f"ValueError: data_parallel_rank ({start}) must be in the range [0, {size})")
    if size % local or (start or 0) % local:
        raise CommandLineError("NotImplementedError: different numbers of DP ranks on nodes are not simulated")
    if given.headless and not start and given.node_rank == 0:
        raise CommandLineError("NotImplementedError: a headless process with DP rank 0 is not simulated")


def _port(text: str) -> int:
    return _whole_between(text, 1, 65535)


def _count(text: str) -> int:
    return _whole_between(text, 1, 1 << 31)


def _seconds(text: str) -> int:
    return _whole_between(text, 0, 1 << 31)


def _whole_between(text: str, lowest: int, highest: int) -> int:
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"invalid int value: {text!r}") from error
    if not lowest <= number <= highest:
        raise argparse.ArgumentTypeError(f"{number} is not between {lowest} and {highest}")
    return number


def _amount(text: str) -> int:
    """Read a number of tokens such as 8192, 8k (8000) or 8K (8192); auto and -1 leave it to the engine."""
    if text in {"auto", "-1"}:
        return -1
    match = _AMOUNT.fullmatch(text)
    amount = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if amount < 1 or amount != int(amount):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of tokens such as 8192 or 8k")
    return int(amount)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"invalid float value: {text!r}") from error
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{share} is not greater than 0 and less than or equal to 1")
    return share


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"Value {text} cannot be converted to <function loads>: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"Value {text} is no JSON object")
    return value
