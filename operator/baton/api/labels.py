"""Every group, label, annotation, environment name and port name that leaves this program, once.

The ModelServing keys are those existing clusters already use; keys that only Baton knows live under `BATON`.
"""

from __future__ import annotations

from typing import Final

WORKLOAD_GROUP: Final = "workload.serving.volcano.sh"
NETWORKING_GROUP: Final = "networking.serving.volcano.sh"
VERSION: Final = "v1alpha1"
WORKLOAD_API_VERSION: Final = f"{WORKLOAD_GROUP}/{VERSION}"
NETWORKING_API_VERSION: Final = f"{NETWORKING_GROUP}/{VERSION}"

SERVING: Final = "modelserving.volcano.sh"
NAME: Final = f"{SERVING}/name"
GROUP_NAME: Final = f"{SERVING}/group-name"
ROLE: Final = f"{SERVING}/role"
ROLE_ID: Final = f"{SERVING}/role-id"
ENTRY: Final = f"{SERVING}/entry"
REVISION: Final = f"{SERVING}/revision"
ROLE_TEMPLATE_HASH: Final = f"{SERVING}/role-template-hash"

BATON: Final = "baton.serving.volcano.sh"
PHASE: Final = f"{BATON}/phase"
"""Pod label of a typed role: prefill, decode or aggregated."""
ENDPOINTS: Final = f"{BATON}/endpoints"
"""Pod annotation of a typed role: JSON of `baton.api.endpoints.PodEndpoints`, read by the router."""
DRAINING: Final = f"{BATON}/draining"
"""Pod annotation: routers choose the pod no more, and what it is doing goes on."""
ROUTER_CONFIG: Final = f"{BATON}/router-config"
"""Label of the ConfigMaps that hold a compiled ModelRoute; its value is the document's version."""
ROUTER_CONFIG_KEY: Final = "router.yaml"
"""Data key of those ConfigMaps."""
LAUNCH: Final = f"{BATON}/launch"
"""Label of launch ConfigMaps; its value is the role's name."""
TEMPLATES: Final = f"{BATON}/templates"
"""Label of the users' ConfigMaps that hold templates of a launch, with any value: who owns one says that Baton may read
it, and Baton need not watch all ConfigMaps of a cluster."""
APPLIED: Final = f"{BATON}/applied"
"""Annotation of a PodGroup: hash of what Baton wrote into it last."""
SURGE: Final = f"{BATON}/surge"
"""Pod label of ServingGroups beyond the replicas: they stand in for others during a roll-out."""
SETTINGS: Final = f"{BATON}/settings"
"""Annotation of a ControllerRevision: the spec beside the template, as JSON."""
POD_DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"

SCHEDULING_GROUP: Final = "scheduling.volcano.sh"
POD_GROUP: Final = "scheduling.k8s.io/group-name"
"""Annotation of a pod: the PodGroup by whose rules Volcano places it."""
TASK: Final = "volcano.sh/task-spec"
"""Annotation of a pod: which of its PodGroup's tasks it is; the role replica."""
QUEUE: Final = "scheduling.volcano.sh/queue-name"
"""Annotation of a ModelServing: Volcano's queue of its PodGroups."""

LEADER_WORKER_SET_GROUP: Final = "leaderworkerset.x-k8s.io"
LEADER_WORKER_SET: Final = "leaderworkerset.sigs.k8s.io"
LEADER_WORKER_SET_NAME: Final = f"{LEADER_WORKER_SET}/name"
LEADER_WORKER_SET_GROUP_INDEX: Final = f"{LEADER_WORKER_SET}/group-index"
LEADER_WORKER_SET_WORKER_INDEX: Final = f"{LEADER_WORKER_SET}/worker-index"
LEADER_WORKER_SET_GROUP_KEY: Final = f"{LEADER_WORKER_SET}/group-key"

ENVIRONMENT_GROUP_SIZE: Final = "GROUP_SIZE"
ENVIRONMENT_ENTRY_ADDRESS: Final = "ENTRY_ADDRESS"
ENVIRONMENT_WORKER_INDEX: Final = "WORKER_INDEX"
ENVIRONMENT_GROUP_NAME: Final = "GROUP_NAME"
ENVIRONMENT_ROLE_ID: Final = "ROLE_ID"

FIELD_MANAGER: Final = "baton"
