from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.rendering.launch import files_of, launch_of
from baton.rendering.resolve import resolve
from baton.rendering.templates import TemplateFault, Templates
from rendering_builders import pair, role, serving

if TYPE_CHECKING:
    from baton.api.serving import ModelServing
    from baton.rendering.launch import Launch

BLOCKS = {"prefill": {"dp_size": 2, "tp_size": 2}, "decode": {"dp_size": 4, "tp_size": 1}}


def _launch(launched: ModelServing, index: int = 0) -> Launch:
    return launch_of(resolve(launched)[index].plan, Templates())


def test_mooncake_gets_the_sizes_of_both_sides_on_both_sides() -> None:
    configs = [_launch(pair(), index).kv_transfer_config for index in (0, 1)]

    common = {
        "kv_connector": "MooncakeHybridConnector",
        "engine_id": "$(engine_id)",
        "kv_connector_extra_config": BLOCKS,
    }
    assert configs == [
        common | {"kv_role": "kv_producer", "kv_port": 30000},
        common | {"kv_role": "kv_consumer", "kv_port": 30100},
    ]


def test_a_pipelined_prefill_is_told_to_both_sides() -> None:
    config = _launch(pair(prefill={"parallel": {"pipeline": 2}}), 1).kv_transfer_config

    assert config is not None
    assert config["kv_connector_extra_config"]["prefill"] == {"dp_size": 2, "tp_size": 2, "pp_size": 2}


def test_nixl_needs_no_ports_or_sizes() -> None:
    assert _launch(pair(kind="vLLM"), 1).kv_transfer_config == {
        "kv_connector": "NixlConnector",
        "kv_role": "kv_consumer",
    }


def test_extra_configuration_is_merged_over_the_computed() -> None:
    config = _launch(pair(kvTransferExtraConfig={"use_ascend_direct": True})).kv_transfer_config

    assert config is not None
    assert config["kv_connector_extra_config"] == BLOCKS | {"use_ascend_direct": True}


def test_an_aggregated_engine_has_no_kv_transfer() -> None:
    launch = _launch(serving(role()))

    assert launch.kv_transfer_config is None
    assert not [words for words in launch.command if words[0] == "--kv-transfer-config"]


def test_references_are_those_the_script_must_fill_in() -> None:
    assert _launch(serving(role())).references == {"LD_PRELOAD", "devices", "port"}
    assert {"rank", "data_parallel_address", "engine_id", "POD_IP"} <= _launch(pair()).references


def test_the_files_are_the_script_and_the_probe() -> None:
    plan = resolve(pair())[0].plan
    files = files_of(plan, launch_of(plan, Templates()), Templates())

    assert list(files) == ["launch.sh", "ready.sh"]
    assert all(text.startswith("#!/usr/bin/env bash\n") and text.endswith("\n") for text in files.values())


@pytest.mark.parametrize("text", ["[]", "no JSON"])
def test_a_kv_transfer_template_must_render_an_object(text: str) -> None:
    with pytest.raises(TemplateFault):
        launch_of(resolve(pair())[0].plan, Templates({"kv-transfer-config.json.j2": text}))
