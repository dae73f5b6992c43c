"""What is fixed for each accelerator: devices of a node, resource, variables, what the driver needs mounted.

Device files are not here: the device plugin that grants the resource adds them together with the permission to use
them; mounted as host paths they could not be opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from baton.api.engine import AcceleratorType, EngineKind


@dataclass(frozen=True, slots=True)
class DriverMount:
    """A file or directory of the node's driver, mounted read-only at the same path."""

    name: str
    path: str
    type: str = "File"


@dataclass(frozen=True, slots=True)
class AcceleratorFacts:
    """The facts of one accelerator.

    `resource_name` and `visible_devices` are empty where there is nothing to ask for; the latter is the variable that
    limits a process to some devices. `address_variables` hold the address and `interface_variables` the network
    interface that the engine is reached on; `reserved_ports` are ranges (first, last) in which the transfer library
    opens ports at random.
    """

    engine: EngineKind
    devices_per_node: int
    resource_name: str
    visible_devices: str
    address_variables: tuple[str, ...]
    interface_variables: tuple[str, ...]
    driver_mounts: tuple[DriverMount, ...] = ()
    reserved_ports: tuple[tuple[int, int], ...] = ()


_ASCEND_DRIVER: Final = (
    DriverMount("dcmi", "/usr/local/dcmi", "Directory"),
    DriverMount("npu-smi", "/usr/local/bin/npu-smi"),
    DriverMount("hccn-tool", "/usr/local/Ascend/driver/tools/hccn_tool"),
    DriverMount("driver-lib64", "/usr/local/Ascend/driver/lib64", "Directory"),
    DriverMount("driver-version", "/usr/local/Ascend/driver/version.info"),
    DriverMount("ascend-install", "/etc/ascend_install.info"),
    DriverMount("hccn-conf", "/etc/hccn.conf"),
)
"""From the `docker run` command of vLLM-Ascend's DeepSeek-V4-Flash tutorial."""


def _ascend(devices_per_node: int) -> AcceleratorFacts:
    return AcceleratorFacts(
        engine=EngineKind.VLLM_ASCEND,
        devices_per_node=devices_per_node,
        resource_name="huawei.com/Ascend910",
        visible_devices="ASCEND_RT_VISIBLE_DEVICES",
        address_variables=("HCCL_IF_IP", "VLLM_HOST_IP"),
        interface_variables=("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME"),
        driver_mounts=_ASCEND_DRIVER,
        # Mooncake from 0.3.8: RPC in 15000-17000, the direct transport 100 ports a device from 20000 on.
        reserved_ports=((15000, 17000), (20000, 20000 + 100 * devices_per_node)),
    )


ACCELERATORS: Final[dict[AcceleratorType, AcceleratorFacts]] = {
    AcceleratorType.A2: _ascend(8),
    AcceleratorType.A3: _ascend(16),
    AcceleratorType.NVIDIA: AcceleratorFacts(
        engine=EngineKind.VLLM,
        devices_per_node=8,
        resource_name="nvidia.com/gpu",
        visible_devices="CUDA_VISIBLE_DEVICES",
        address_variables=("VLLM_HOST_IP",),
        interface_variables=("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"),
    ),
    AcceleratorType.CPU: AcceleratorFacts(
        engine=EngineKind.VLLM,
        devices_per_node=1,
        resource_name="",
        visible_devices="",
        address_variables=("VLLM_HOST_IP",),
        interface_variables=("GLOO_SOCKET_IFNAME", "UCX_NET_DEVICES"),
    ),
}
