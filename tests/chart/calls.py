"""What the operator and the router ask of the API server, and what roles allow. Asks nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from baton.api.labels import NETWORKING_GROUP, WORKLOAD_GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, order=True)
class Call:
    """A verb on a resource, such as `pods` or `modelservings/status`; on one object only, if `name` is set."""

    group: str
    resource: str
    verb: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''} {self.name}".rstrip()


def calls(group: str, resources: str, verbs: str, *, name: str = "") -> frozenset[Call]:
    """Return every verb on every resource; both are separated by spaces."""
    return frozenset(Call(group, resource, verb, name) for resource in resources.split() for verb in verbs.split())


OPERATOR = frozenset[Call]().union(
    calls(WORKLOAD_GROUP, "modelservings", "list watch"),  # manager/listing.py lists, manager/kopf_glue.py watches
    calls(NETWORKING_GROUP, "modelroutes modelservers", "list watch"),
    calls(WORKLOAD_GROUP, "modelservings/status", "patch"),  # controllers/serving.py
    calls(NETWORKING_GROUP, "modelroutes/status modelservers/status", "patch"),  # controllers/routes.py, servers.py
    calls(WORKLOAD_GROUP, "modelservings/finalizers", "update"),  # planning/documents.py: blockOwnerDeletion
    calls("", "pods services configmaps", "list watch"),  # manager/app.py: reflectors
    calls("", "pods services configmaps", "create get delete"),  # controllers/children.py
    calls("apps", "controllerrevisions", "list watch create get patch delete"),  # the same two
    calls("", "pods", "patch"),  # controllers/children.py marks what drains
    calls("", "configmaps", "patch"),  # controllers/routes.py applies, which may create, too
    calls("", "events", "create patch"),  # kube/events.py
    calls("scheduling.volcano.sh", "podgroups", "list watch"),  # kube/optional.py
    calls("scheduling.volcano.sh", "podgroups", "create get patch delete"),  # controllers/children.py
    calls(
        "apiextensions.k8s.io", "customresourcedefinitions", "list watch", name="podgroups.scheduling.volcano.sh"
    ),  # kube/optional.py
)
"""Everywhere."""

BRIDGE = frozenset[Call]().union(
    calls(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "list watch",
        name="leaderworkersets.leaderworkerset.x-k8s.io",
    ),
    calls("leaderworkerset.x-k8s.io", "leaderworkersets", "list watch"),
    calls("leaderworkerset.x-k8s.io", "leaderworkersets/status", "patch"),
    calls("leaderworkerset.x-k8s.io", "leaderworkersets/finalizers", "update"),  # blockOwnerDeletion
    calls(WORKLOAD_GROUP, "modelservings", "create patch"),
)
"""What controllers/leader_worker_sets.py needs besides, where it is switched on."""

CERTIFICATE = calls(
    "admissionregistration.k8s.io", "validatingwebhookconfigurations", "get patch", name="baton-webhook"
)
"""What manager/webhooks.py needs for a certificate of its own: it puts the authority into the configuration."""

SECRET = calls("", "secrets", "get patch", name="baton-webhook")
"""And the certificate into the Secret, in the operator's namespace."""

ELECTION = calls("coordination.k8s.io", "leases", "get patch", name="baton-operator") | calls(
    "coordination.k8s.io", "leases", "create"
)
"""kube/leadership.py: one Lease in the operator's namespace; a name cannot be asked for before it exists."""

ROUTER = calls("", "configmaps pods", "list watch")
"""router/watch.py: everywhere, or in the namespaces it is told."""


def allowed_by(role: dict[str, Any]) -> list[Call]:
    """Return what a Role or ClusterRole allows, once for each rule that does."""
    return [call for rule in role["rules"] for call in allowed_by_rule(rule)]


def allowed_by_rule(rule: dict[str, Any]) -> Iterable[Call]:
    """Yield what one rule allows. Wildcards count as themselves, so that they equal nothing that is needed."""
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames", [""]):
                    yield Call(group, resource, verb, name)
