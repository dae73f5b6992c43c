from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from baton.rendering.launch import files_of, launch_of
from baton.rendering.resolve import resolve
from baton.rendering.templates import TemplateFault, Templates
from rendering_builders import pair, role, serving

if TYPE_CHECKING:
    from baton.api.serving import ModelServing
    from baton.rendering.launch import Launch

ONE_RANK: dict[str, Any] = {
    "prefill": {"parallel": {"data": 1, "tensor": 1}},
    "decode": {"parallel": {"data": 1, "tensor": 1}},
}
BLOCKS: dict[str, Any] = {"prefill": {"dp_size": 2, "tp_size": 2}, "decode": {"dp_size": 4, "tp_size": 1}}


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


def test_nixl_on_a_cpu_copies_through_the_hosts_memory() -> None:
    config = _launch(pair(kind="vLLM", accelerator={"type": "CPU"}, **ONE_RANK)).kv_transfer_config

    assert config == {"kv_connector": "NixlConnector", "kv_role": "kv_producer", "kv_buffer_device": "cpu"}


@pytest.mark.parametrize("name", ["MooncakeHybridConnector", "MooncakeConnectorV1", "MooncakeLayerwiseConnector"])
def test_every_mooncake_connector_is_configured_alike(name: str) -> None:
    config = _launch(pair(kvTransfer={"connector": name})).kv_transfer_config

    assert config == {
        "kv_connector": name,
        "kv_role": "kv_producer",
        "kv_port": 30000,
        "engine_id": "$(engine_id)",
        "kv_connector_extra_config": BLOCKS,
    }


def test_a_store_and_the_hand_over_are_children_of_a_multi_connector() -> None:
    store = {"master": "pool:50051", "segmentSize": "20GB", "extraConfig": {"load_async": True}}
    launched = pair(
        kvTransfer={"store": store, "connector": "MooncakeConnectorV1", "loadFailurePolicy": "recompute"},
        kvTransferExtraConfig={"use_ascend_direct": True},
    )

    assert _launch(launched, 1).kv_transfer_config == {
        "kv_connector": "MultiConnector",
        "kv_role": "kv_consumer",
        "engine_id": "$(engine_id)",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {
            "connectors": [
                {
                    "kv_connector": "MooncakeConnectorV1",
                    "kv_role": "kv_consumer",
                    "kv_port": 30100,
                    "kv_connector_extra_config": BLOCKS | {"use_ascend_direct": True},
                },
                {
                    "kv_connector": "AscendStoreConnector",
                    "kv_role": "kv_consumer",
                    "kv_connector_extra_config": {"backend": "mooncake", "lookup_rpc_port": "0", "load_async": True},
                },
            ]
        },
    }


def test_a_mooncake_pool_is_described_in_a_file() -> None:
    plan = resolve(pair(kvTransfer={"store": {"master": "pool:50051", "segmentSize": "20GB"}}))[0].plan
    files = files_of(plan, launch_of(plan, Templates()), Templates())

    assert json.loads(files["store.json"]) == {
        "metadata_server": "P2PHANDSHAKE",
        "protocol": "ascend",
        "device_name": "",
        "master_server_address": "pool:50051",
        "global_segment_size": "20GB",
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
    assert _launch(serving(role())).references == {"LD_LIBRARY_PATH", "LD_PRELOAD", "port"}
    assert {"rank", "entry_ip", "engine_id", "POD_IP"} <= _launch(pair()).references


def test_the_files_are_the_script_and_the_probe() -> None:
    plan = resolve(pair())[0].plan
    files = files_of(plan, launch_of(plan, Templates()), Templates())

    assert list(files) == ["launch.sh", "ready.sh"]
    assert all(text.startswith("#!/usr/bin/env bash\n") and text.endswith("\n") for text in files.values())


@pytest.mark.parametrize("text", ["[]", "no JSON"])
def test_a_kv_transfer_template_must_render_an_object(text: str) -> None:
    with pytest.raises(TemplateFault):
        launch_of(resolve(pair())[0].plan, Templates({"kv-transfer-config.json.j2": text}))
