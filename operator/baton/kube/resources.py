"""The kinds of object Baton reads and writes, each named once."""

from __future__ import annotations

from baton.api import labels
from baton.kube.types import Resource

PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
EVENTS = Resource("", "v1", "events", "Event")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
VALIDATING_WEBHOOK_CONFIGURATIONS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
CUSTOM_RESOURCE_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)

MODEL_SERVINGS = Resource(labels.WORKLOAD_GROUP, labels.VERSION, "modelservings", "ModelServing")
MODEL_ROUTES = Resource(labels.NETWORKING_GROUP, labels.VERSION, "modelroutes", "ModelRoute")
MODEL_SERVERS = Resource(labels.NETWORKING_GROUP, labels.VERSION, "modelservers", "ModelServer")

POD_GROUPS = Resource(labels.SCHEDULING_GROUP, "v1beta1", "podgroups", "PodGroup")
LEADER_WORKER_SETS = Resource(labels.LEADER_WORKER_SET_GROUP, "v1", "leaderworkersets", "LeaderWorkerSet")
