"""Every engine process a ModelServing starts, one by one: for people, for machines and for comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from baton.api.meta import JsonObject
from baton.api.serving import ModelServing
from baton.rendering.arguments import json_text
from baton.rendering.expansion import ConfigMaps, expand, templates_of
from baton.rendering.launch import Launch, launch_of
from baton.rendering.plan import RolePlan
from baton.rendering.references import substitute
from baton.rendering.resolve import resolve


@dataclass(frozen=True, slots=True)
class RankLaunch:
    """One process. What only the pod knows, such as its address, stands as `$(POD_IP)` in `env` and `argv`.

    `rank` is the DP rank, with internal data parallelism the first of those the process holds. `port` is None in a
    headless pod. `devices` are counted from 0 inside the pod.
    """

    serving_group: str
    role: str
    role_id: str
    worker_index: int
    rank: int
    port: int | None
    devices: tuple[int, ...]
    env: dict[str, str]
    argv: tuple[str, ...]
    kv_transfer_config: JsonObject | None

    def document(self) -> JsonObject:
        """Return the JSON form."""
        return {
            "servingGroup": self.serving_group,
            "role": self.role,
            "roleId": self.role_id,
            "workerIndex": self.worker_index,
            "rank": self.rank,
            "port": self.port,
            "devices": list(self.devices),
            "env": self.env,
            "argv": list(self.argv),
            "kvTransferConfig": self.kv_transfer_config,
        }


def launches(serving: ModelServing, *, config_maps: ConfigMaps | None = None) -> tuple[RankLaunch, ...]:
    """Return every process of the typed roles by ServingGroup, role, replica and rank; nothing when there are errors.

    `config_maps` is that of `expand`.
    """
    if expand(serving, config_maps=config_maps).has_errors:
        return ()
    launched = [
        (role.plan, role.role.replicas, launch_of(role.plan, templates_of(role, config_maps or {})))
        for role in resolve(serving)
    ]
    return tuple(
        rank
        for group in range(serving.spec.replicas)
        for plan, replicas, launch in launched
        for replica in range(replicas)
        for rank in _ranks(plan, launch, group=group, replica=replica, namespace=serving.metadata.namespace)
    )


def _ranks(plan: RolePlan, launch: Launch, *, group: int, replica: int, namespace: str) -> Iterator[RankLaunch]:
    serving_group, role_id = f"{plan.serving}-{group}", f"{plan.role}-{replica}"
    entry_address = f"{serving_group}-{role_id}-0.{namespace}"
    for number in range(plan.nodes * plan.processes):
        worker_index, local = divmod(number, plan.processes)
        rank = 0 if plan.spans_nodes else number * plan.ranks_per_process
        is_headless = plan.has_headless_workers and worker_index > 0
        devices = plan.process_devices[local]
        values = {
            "GROUP_NAME": serving_group,
            "ROLE_ID": role_id,
            "WORKER_INDEX": str(worker_index),
            "ENTRY_ADDRESS": entry_address,
            "engine_id": f"{serving_group}-{role_id}",
            "entry_ip": entry_address if worker_index else "$(POD_IP)",
            "rank": str(rank),
            "port": str(plan.api_port + local),
            "devices": ",".join(map(str, devices)),
        }
        command = (*launch.command, *(launch.worker_flags if is_headless else launch.entry_flags))
        config = launch.kv_transfer_config
        yield RankLaunch(
            serving_group=serving_group,
            role=plan.role,
            role_id=role_id,
            worker_index=worker_index,
            rank=rank,
            port=None if is_headless else plan.api_port + local,
            devices=devices,
            env={name: substitute(value, values) for name, value in launch.environment.items()},
            argv=tuple(substitute(word, values) for words in command for word in words),
            kv_transfer_config=None if config is None else json.loads(substitute(json_text(config), values)),
        )
