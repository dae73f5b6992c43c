"""Renders the chart with helm and finds objects in what comes out. Judges nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from helm import Helm

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "baton"
RELEASE = "baton"
NAMESPACE = "baton-system"

Object = dict[str, Any]

EVERYTHING: dict[str, Any] = {
    "fullnameOverride": "serving",
    "image": {"repository": "registry.example/baton", "digest": f"sha256:{'0' * 64}", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "metrics": {"annotations": False},
    "operator": {
        "replicas": 3,
        "podDisruptionBudget": {"maxUnavailable": "50%"},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
        ],
        "logLevel": "debug",
        "logFormat": "json",
        "leaderWorkerSets": True,
        "extraArgs": ["--workers=16"],
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "extraVolumes": [{"name": "extra", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
        "podAnnotations": {"example/a": "operator"},
        "podLabels": {"example/b": "operator"},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
    "router": {
        "replicas": 5,
        "namespaces": ["team-a", "team-b"],
        "drainTimeoutSeconds": 1000000,
        "drainNoticeSeconds": 0,
        "logLevel": "warning",
        "logFormat": "json",
        "extraArgs": ["--tls-certificate=/tls/tls.crt", "--tls-key=/tls/tls.key"],
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "extraVolumes": [{"name": "tls", "secret": {"secretName": "router-tls"}}],
        "extraVolumeMounts": [{"name": "tls", "mountPath": "/tls"}],
        "service": {"type": "LoadBalancer", "port": 8443, "annotations": {"example/c": "service"}},
        "podDisruptionBudget": {"maxUnavailable": "20%"},
        "podAnnotations": {"example/a": "router"},
        "podLabels": {"example/b": "router"},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
        ],
    },
    "webhook": {"failurePolicy": "Fail", "timeoutSeconds": 10, "port": 10250},
}
"""Another value for everything that the API server can judge by itself."""

VALUE_SETS: Mapping[str, dict[str, Any]] = {
    "defaults": {},
    "little": {
        "crds": {"install": False},
        "rbac": {"aggregateToDefaultRoles": False},
        "operator": {"replicas": 1, "podDisruptionBudget": {"enabled": False}, "topologySpreadConstraints": []},
        "router": {"replicas": 1, "podDisruptionBudget": {"enabled": False}, "topologySpreadConstraints": []},
        "webhook": {"enabled": False},
    },
    "everything": EVERYTHING,
    "cert-manager": {
        "webhook": {"certificate": {"source": "cert-manager"}},
        "metrics": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    },
    "issuer": {
        "webhook": {"certificate": {"source": "cert-manager", "issuerRef": {"kind": "ClusterIssuer", "name": "ours"}}}
    },
}


@dataclass(frozen=True)
class Objects:
    """Objects by kind and name; of several namespaces, too."""

    documents: tuple[Object, ...]

    def __iter__(self) -> Iterator[Object]:
        return iter(self.documents)

    def of(self, *kinds: str) -> list[Object]:
        return [document for document in self.documents if document["kind"] in kinds]

    def get(self, kind: str, name: str) -> Object:
        """Return the only one of this kind and name."""
        (found,) = (document for document in self.of(kind) if document["metadata"]["name"] == name)
        return found

    def names(self, kind: str) -> set[str]:
        return {document["metadata"]["name"] for document in self.of(kind)}


@dataclass(frozen=True)
class Chart:
    """The chart and a helm to render it with; equal values are rendered once."""

    helm: Helm
    scratch: Path
    _known: dict[str, Objects] = field(default_factory=dict)

    def render(self, values: Mapping[str, Any] | None = None) -> Objects:
        """Return the objects of the release `baton` in `baton-system`."""
        text = json.dumps(values or {})
        if text not in self._known:
            arguments = ("--namespace", NAMESPACE, "--values", str(self.values_file(text)))
            rendered = self.helm.run("template", RELEASE, str(CHART), *arguments)
            documents = yaml.load_all(rendered, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            self._known[text] = Objects(tuple(document for document in documents if document))
        return self._known[text]

    def values_file(self, text: str) -> Path:
        """Write values, as JSON, to a file and return it."""
        path = self.scratch / "values.json"
        path.write_text(text)
        return path


def pod_template(workload: Object) -> Object:
    template: Object = workload["spec"]["template"]
    return template


def containers(workload: Object) -> list[Object]:
    spec = pod_template(workload)["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]
