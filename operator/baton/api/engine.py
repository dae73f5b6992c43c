"""The typed engine: what users say about an inference engine instead of writing its launch script.

Every field is optional, so that `spec.template.engine` holds what all roles share and `roles[].engine` what differs;
`baton.rendering` merges the two, derives the rest and refuses what cannot work.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import ConfigDict, Field

from baton.api.endpoints import Phase
from baton.api.kv_transfer import KVTransfer
from baton.api.meta import ApiModel, FreeObject, Int64, Quantity, validations


class EngineKind(StrEnum):
    """Which engine runs in the pods."""

    VLLM_ASCEND = "vLLM-Ascend"
    VLLM = "vLLM"


class AcceleratorType(StrEnum):
    """Which machine the devices sit in: Atlas 800 A2 (8 devices a node), A3 (16), NVIDIA GPUs (8), or none at all."""

    A2 = "A2"
    A3 = "A3"
    NVIDIA = "NVIDIA"
    CPU = "CPU"


class DriverSource(StrEnum):
    """Where a pod gets the node's driver from: host paths, or the container runtime that also adds the devices."""

    HOST_PATH = "HostPath"
    RUNTIME = "Runtime"


class Attention(StrEnum):
    """How a model attends, as far as the KV transfer depends on it."""

    GROUPED_QUERY = "GQA"
    LATENT = "MLA"
    MAMBA = "Mamba"


class DataParallelMode(StrEnum):
    """Who spreads requests over the DP ranks of a pod: the router (External) or the engine itself (Internal)."""

    EXTERNAL = "External"
    INTERNAL = "Internal"


class HostPathVolume(ApiModel):
    """A directory of the node."""

    path: str = Field(pattern="^/", description="Absolute directory, the same on every node that may run the pod.")


class ClaimVolume(ApiModel):
    """A PersistentVolumeClaim in the ModelServing's namespace."""

    claim_name: str = Field(min_length=1, max_length=253, description="Name of the PersistentVolumeClaim.")


class ModelSource(ApiModel):
    """Where the weights come from: one of hostPath and persistentVolumeClaim."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            (
                "!(has(self.hostPath) && has(self.persistentVolumeClaim))",
                "set one of hostPath and persistentVolumeClaim, not both",
            )
        )
    )

    host_path: HostPathVolume | None = Field(default=None, description="A directory of the node with the weights.")
    persistent_volume_claim: ClaimVolume | None = Field(default=None, description="A claim with the weights.")
    mount_path: str | None = Field(
        default=None,
        pattern="^/",
        description="Where the volume is mounted in the pod; the model's path must be inside. Default: the directory "
        "of the node if the model's path lies in it, else the model's path.",
    )


class Model(ApiModel):
    """The model that is served."""

    path: str | None = Field(default=None, min_length=1, description="Directory of the weights inside the pod.")
    served_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Model name clients use. Default: the ModelServing's name.",
    )
    source: ModelSource | None = Field(
        default=None, description="Volume that holds the weights. Default: the image holds them."
    )
    dense: bool | None = Field(
        default=None, description="The model has no experts. Such engines serve with one DP rank each. Default false."
    )
    attention: Attention | None = Field(
        default=None,
        description="MLA (DeepSeek V2 to V4, Kimi-K2, GLM-5), GQA or Mamba. Decides which parallel sizes of prefill "
        "and decode fit each other. Default: unknown, which allows only what suits all three.",
    )
    kv_heads: int | None = Field(
        default=None, ge=1, description="KV heads of the model, for checks of the parallel sizes. Default: unknown."
    )


class Accelerator(ApiModel):
    """The devices of a node."""

    type: AcceleratorType | None = Field(
        default=None, description="A2, A3, NVIDIA or CPU. Default: A3 for vLLM-Ascend, NVIDIA for vLLM."
    )
    resource_name: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        description="Extended resource the device plugin offers: huawei.com/Ascend910 (default on Ascend), "
        "huawei.com/ascend-1980, huawei.com/npu, nvidia.com/gpu (default on NVIDIA).",
    )
    devices_per_node: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Devices of a node. Default: 8 (A2, NVIDIA), 16 (A3) or 1 (CPU, where a rank counts as a device).",
    )
    driver: DriverSource | None = Field(
        default=None,
        description="HostPath (default): pods mount the driver's files of the node. Runtime: the container runtime "
        "brings them, as Ascend Docker Runtime does; nodes without a driver need nothing then.",
    )


class Parallel(ApiModel):
    """How one role replica is spread over devices: data · tensor · pipeline · prefillContext of them."""

    data: int | None = Field(
        default=None,
        ge=1,
        description="Data parallel size of one role replica: its DP ranks on all of its pods together. Default 1.",
    )
    data_local: int | None = Field(
        default=None, ge=1, description="DP ranks in each pod. Default: as many as the devices of a node allow."
    )
    data_mode: DataParallelMode | None = Field(
        default=None,
        description="External (default): each DP rank is a process with a port of its own, and the router picks the "
        "rank. Internal: one process a pod and one port a replica, and the engine picks; further pods are headless.",
    )
    tensor: int | None = Field(
        default=None,
        ge=1,
        description="Tensor parallel size of each DP rank. Default 1. A rank that takes more devices than a node has "
        "is spread evenly over as few nodes as hold it.",
    )
    pipeline: int | None = Field(default=None, ge=1, description="Pipeline parallel size of each DP rank. Default 1.")
    prefill_context: int | None = Field(
        default=None, ge=1, description="Prefill context parallel size of each DP rank; takes devices. Default 1."
    )
    decode_context: int | None = Field(
        default=None,
        ge=1,
        description="Decode context parallel size of each DP rank; shares the tensor parallel devices. Default 1.",
    )
    expert: bool | None = Field(
        default=None, description="Spread the experts of an MoE model over all DP and TP ranks. Default false."
    )


class Ports(ApiModel):
    """The ports of a pod."""

    api: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="API port of a pod's first DP rank; the other ranks take the ports after it. Default 7100.",
    )
    data_parallel_rpc: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port where the DP ranks of a role replica find their coordinator. Default 12321.",
    )
    master: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port where the nodes of a DP rank that spans several meet. Default 7001.",
    )


class Network(ApiModel):
    """How the pods reach each other."""

    host_network: bool | None = Field(default=None, description="Use the node's network. Default false.")
    interface: str | None = Field(
        default=None,
        min_length=1,
        max_length=15,
        description="Network interface for collective communication, for example eth0. Default: the one that holds "
        "the pod's address.",
    )


class Resources(ApiModel):
    """What the engine container needs besides devices, as Kubernetes quantities."""

    cpu: Quantity | None = Field(default=None, description="CPU request, for example 64.")
    memory: Quantity | None = Field(
        default=None, description="Memory request and limit, shared memory included, for example 700Gi."
    )
    shared_memory: Quantity | None = Field(default=None, description="Size of /dev/shm. Default 512Gi.")


class TemplateSource(ApiModel):
    """Templates of the user's own in place of packaged ones."""

    config_map: str = Field(
        min_length=1,
        max_length=253,
        description="ConfigMap in the ModelServing's namespace; each key, such as launch.sh.j2, replaces the packaged "
        "template of that name.",
    )


class Engine(ApiModel):
    """An inference engine, described by what it serves instead of by its launch script."""

    kind: EngineKind | None = Field(default=None, description="vLLM-Ascend (default) or vLLM.")
    image: str | None = Field(default=None, pattern=r"^\S+$", description="Container image of the engine.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="When nodes fetch the image: Always, IfNotPresent or Never."
    )
    model: Model | None = Field(default=None, description="The model that is served.")
    phase: Phase | None = Field(
        default=None,
        description="prefill, decode or aggregated. Default: the role's name when it is prefill or decode, else "
        "aggregated.",
    )
    accelerator: Accelerator | None = Field(default=None, description="The devices of a node.")
    parallel: Parallel | None = Field(default=None, description="How one role replica is spread over devices.")
    ports: Ports | None = Field(default=None, description="The ports of a pod.")
    kv_transfer: KVTransfer | None = Field(default=None, description="How KV cache goes from prefill to decode.")
    network: Network | None = Field(default=None, description="How the pods reach each other.")
    resources: Resources | None = Field(default=None, description="CPU and memory of the engine container.")

    max_model_len: int | None = Field(
        default=None, ge=1, description="--max-model-len: context length, prompt and output, in tokens."
    )
    max_num_seqs: int | None = Field(default=None, ge=1, description="--max-num-seqs: requests in one batch.")
    max_num_batched_tokens: int | None = Field(
        default=None, ge=1, description="--max-num-batched-tokens: tokens in one batch."
    )
    gpu_memory_utilization: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="--gpu-memory-utilization: share of device memory the engine takes, 0 to 1.",
    )
    block_size: int | None = Field(default=None, ge=1, description="--block-size: tokens in a KV cache block.")
    quantization: str | None = Field(default=None, description="--quantization, for example ascend.")
    seed: Int64 | None = Field(default=None, description="--seed, equal on both sides of a KV transfer.")
    enforce_eager: bool | None = Field(default=None, description="--enforce-eager when true.")
    async_scheduling: bool | None = Field(
        default=None, description="--async-scheduling or --no-async-scheduling; unset leaves the engine's default."
    )
    prefix_caching: bool | None = Field(
        default=None,
        description="--enable-prefix-caching or --no-enable-prefix-caching; unset leaves the engine's default.",
    )
    hybrid_kv_cache_manager: bool | None = Field(
        default=None,
        description="--no-disable-hybrid-kv-cache-manager when true, --disable-hybrid-kv-cache-manager when false.",
    )
    trust_remote_code: bool | None = Field(default=None, description="--trust-remote-code when true.")
    tokenizer_mode: str | None = Field(default=None, description="--tokenizer-mode.")
    tool_call_parser: str | None = Field(
        default=None, description="--tool-call-parser; also sets --enable-auto-tool-choice."
    )
    reasoning_parser: str | None = Field(default=None, description="--reasoning-parser.")
    speculative_config: FreeObject | None = Field(default=None, description="--speculative-config as YAML.")
    compilation_config: FreeObject | None = Field(default=None, description="--compilation-config as YAML.")
    additional_config: FreeObject | None = Field(default=None, description="--additional-config as YAML.")
    model_loader_extra_config: FreeObject | None = Field(
        default=None, description="--model-loader-extra-config as YAML."
    )

    startup_timeout_seconds: int | None = Field(
        default=None, ge=1, description="How long loading may take before the pod is restarted. Default 3600."
    )
    termination_grace_period_seconds: int | None = Field(
        default=None, ge=1, description="How long running requests may finish after a stop. Default 300."
    )

    flags: FreeObject | None = Field(
        default=None,
        description="Other vllm flags by name without dashes; true is a bare flag, false is --no-NAME, objects become "
        "JSON. They win over what is computed, except ports, ranks and sizes. Not null, which kubectl apply drops: use "
        "removeFlags.",
    )
    remove_flags: list[str] | None = Field(
        default=None,
        json_schema_extra={"x-kubernetes-list-type": "set"},
        description="Names of flags that are left out, computed ones and in a role those of the shared engine.",
    )
    env: dict[str, str] | None = Field(
        default=None,
        description="Other environment variables. They win over what is computed; $(POD_IP), $(rank) and $(port) stand "
        "for the pod's address and for the rank and its port.",
    )
    kv_transfer_extra_config: FreeObject | None = Field(
        default=None,
        description="Merged over the computed kv_connector_extra_config of the connector that hands over.",
    )
    templates: TemplateSource | None = Field(
        default=None, description="Templates of the user's own for the launch script and its parts."
    )
