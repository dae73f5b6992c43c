"""The rendered command lines in vLLM's own argument parser, where vLLM is installed (docs/engine.md says how)."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from baton.rendering import expand, launches
from rendering_builders import EXAMPLES, example, pair, role, serving

if TYPE_CHECKING:
    from baton.api.serving import ModelServing

# Flags of vLLM-Ascend that vLLM's parser does not have. None so far: it brings its own settings as values, such as
# `--quantization ascend` and the objects of `--additional-config`.
ASCEND_ONLY: frozenset[str] = frozenset()

PARSE = """
import json, sys
try:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
except ImportError:
    from vllm.entrypoints.openai.cli_args import make_arg_parser
try:
    from vllm.utils.argparse_utils import FlexibleArgumentParser
except ImportError:
    from vllm.utils import FlexibleArgumentParser

parser = make_arg_parser(FlexibleArgumentParser())
answers = []
for argv in json.load(sys.stdin):
    parsed, unknown = parser.parse_known_args(argv)
    answers.append({"unknown": unknown, "parsed": {name: repr(value) for name, value in vars(parsed).items()}})
print("ANSWERS" + json.dumps(answers))
"""

SOUND: dict[str, ModelServing] = {
    **{name: example(name) for name in EXAMPLES},
    "v1-context": pair(
        prefill={"parallel": {"tensor": 4, "prefillContext": 2}},
        decode={"parallel": {"tensor": 2, "decodeContext": 2}},
        kvTransfer={"connector": "MooncakeConnectorV1"},
    ),
    "layerwise": pair(kvTransfer={"connector": "MooncakeLayerwiseConnector"}),
    "store": pair(kvTransfer={"store": {"master": "pool:50051"}}),
    "nixl": pair(kind="vLLM"),
    "cpu": pair(kind="vLLM", accelerator={"type": "CPU", "devicesPerNode": 4}),
    "pipeline": pair(prefill={"parallel": {"pipeline": 2}}),
    "internal-nodes": pair(
        prefill={"parallel": {"data": 16, "dataMode": "Internal"}, "flags": {"api-server-count": 2}},
        kvTransfer={"store": {"master": "pool:50051"}},
    ),
    "spanning": pair(
        prefill={"parallel": {"data": 1, "tensor": 16, "prefillContext": 2, "decodeContext": 8}},
        kvTransfer={"connector": "MooncakeConnectorV1"},
    ),
    "nixl-spanning": pair(prefill={"parallel": {"data": 1, "tensor": 16}}, kind="vLLM"),
    "off": serving(
        role(
            asyncScheduling=False,
            prefixCaching=False,
            hybridKvCacheManager=False,
            reasoningParser="deepseek_r1",
            tokenizerMode="auto",
        )
    ),
}


@pytest.fixture(scope="module")
def answers() -> dict[str, list[dict[str, Any]]]:
    """Parse one command line of each kind of pod in one process, since loading vLLM takes half a minute."""
    python = os.environ.get("VLLM_PYTHON") or (sys.executable if importlib.util.find_spec("vllm") else None)
    if python is None:
        pytest.skip("vLLM is not installed; VLLM_PYTHON names a Python interpreter that has it")
    command_lines = {name: list(_command_lines(launched)) for name, launched in SOUND.items()}
    flat = [argv for lines in command_lines.values() for argv in lines]
    result = subprocess.run([python, "-c", PARSE], input=json.dumps(flat), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    parsed = iter(json.loads(result.stdout.partition("ANSWERS")[2]))
    return {name: [next(parsed) for _ in lines] for name, lines in command_lines.items()}


def _command_lines(launched: ModelServing) -> list[list[str]]:
    """Return what follows `vllm serve`, once for each role and for those of its pods that are headless."""
    assert not expand(launched).has_errors
    return list({(rank.role, rank.port is None): list(rank.argv[2:]) for rank in launches(launched)}.values())


@pytest.mark.parametrize("name", SOUND)
def test_vllm_knows_every_flag_and_accepts_its_value(name: str, answers: dict[str, list[dict[str, Any]]]) -> None:
    for answer in answers[name]:
        assert set(answer["unknown"]) <= ASCEND_ONLY


def test_vllm_understands_what_is_meant(answers: dict[str, list[dict[str, Any]]]) -> None:
    prefill, decode = (answer["parsed"] for answer in answers["deepseek-v4-flash-pd-a3"])

    assert (prefill["data_parallel_size"], prefill["tensor_parallel_size"]) == ("4", "4")
    assert (decode["data_parallel_rank"], decode["async_scheduling"]) == ("15", "True")
    assert "MooncakeHybridConnector" in prefill["kv_transfer_config"]
    assert (prefill["enable_prefix_caching"], prefill["disable_hybrid_kv_cache_manager"]) == ("False", "False")
    assert int(prefill["shutdown_timeout"]) > 0


def test_vllm_understands_headless_pods(answers: dict[str, list[dict[str, Any]]]) -> None:
    entry, worker, _ = (answer["parsed"] for answer in answers["internal-nodes"])
    names = ("headless", "data_parallel_size_local", "data_parallel_start_rank", "api_server_count")
    assert [entry[name] for name in names] == ["False", "8", "None", "2"]
    assert [worker[name] for name in names] == ["True", "8", "8", "None"]

    entry, worker, _ = (answer["parsed"] for answer in answers["spanning"])
    names = ("headless", "nnodes", "node_rank", "master_port")
    assert [entry[name] for name in names] == ["False", "2", "0", "7001"]
    assert [worker[name] for name in names] == ["True", "2", "1", "7001"]
