"""What the operator process can be told; the command line fills it in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Settings of one operator process.

    `kubeconfig` None means the pod's service account inside a cluster, else $KUBECONFIG or ~/.kube/config.
    `probe_port` serves /healthz, /readyz and /metrics; 0 takes a free port, which is logged.
    `workers` is how many objects of a kind are reconciled at once, `connections` how many calls run at once.
    """

    kubeconfig: str | None = None
    context: str | None = None
    probe_host: str = "0.0.0.0"
    probe_port: int = 8081
    workers: int = 8
    connections: int = 64
