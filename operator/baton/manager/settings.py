"""What the operator process can be told; the command line fills it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from baton.kube.types import Key


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Settings of one operator process.

    `kubeconfig` None means the pod's service account inside a cluster, else $KUBECONFIG or ~/.kube/config.
    `probe_port` serves /healthz, /readyz and /metrics; 0 takes a free port, which is logged.
    `workers` is how many objects of a kind are reconciled at once, `connections` how many calls run at once.
    `leader_worker_sets` makes ModelServings of LeaderWorkerSets, whose own controller must not run then.
    `lease`, as NAMESPACE/NAME, is the Lease by which several operators agree on the one that acts; without it this one
    always does.
    `webhook_port` serves admission reviews over HTTPS; 0 means that nothing does. Its certificate comes from the files
    tls.crt and tls.key of the directory `webhook_certificate`, or the operator keeps one itself: in the Secret
    `webhook_secret` of `webhook_namespace`, for the Service `webhook_service` there, trusted by way of the
    ValidatingWebhookConfiguration `webhook_configuration`.
    """

    kubeconfig: str | None = None
    context: str | None = None
    probe_host: str = "0.0.0.0"
    probe_port: int = 8081
    workers: int = 8
    connections: int = 64
    leader_worker_sets: bool = False
    lease: str = ""
    webhook_host: str = "0.0.0.0"
    webhook_port: int = 0
    webhook_certificate: Path | None = None
    webhook_namespace: str = ""
    webhook_secret: str = ""
    webhook_service: str = ""
    webhook_configuration: str = ""

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other: ValueError, with a sentence for people."""
        if self.lease and not all(self.lease_key):
            raise ValueError(f"--lease {self.lease}: write NAMESPACE/NAME")
        kept = {
            "--webhook-namespace": self.webhook_namespace,
            "--webhook-secret": self.webhook_secret,
            "--webhook-service": self.webhook_service,
            "--webhook-configuration": self.webhook_configuration,
        }
        missing = [name for name, value in kept.items() if not value]
        has_files, has_kept = self.webhook_certificate is not None, len(missing) < len(kept)
        if not self.webhook_port and (has_files or has_kept):
            raise ValueError("a certificate for the webhook needs --webhook-port too")
        if has_files and has_kept:
            raise ValueError(f"--webhook-certificate replaces {', '.join(kept)}: give it, or those four")
        if self.webhook_port and not has_files and missing:
            alone = "" if has_kept else ", or --webhook-certificate alone"
            raise ValueError(f"--webhook-port needs {', '.join(missing)}{alone}")

    @property
    def lease_key(self) -> Key:
        """Namespace and name of the Lease."""
        namespace, _, name = self.lease.partition("/")
        return namespace, name
