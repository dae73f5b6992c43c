"""What the router process can be told; the command line and the environment fill it in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from baton.router.data_path_settings import DataPathSettings

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Settings of one router process. Times are seconds.

    `host` and `port` are for clients, `admin_host` and `admin_port` for probes and metrics; port 0 takes a free one,
    which is logged. `tls_certificate` and `tls_key` make the clients' listener speak HTTPS.
    `config` is a file with the router's document; without it the documents come from Kubernetes. `kubeconfig` None
    means the pod's service account inside a cluster, else $KUBECONFIG or ~/.kube/config. `namespaces` are those whose
    ModelRoutes count, none means all.
    `engine_authority` is a file with the authorities that sign the certificates of engines that speak HTTPS; without it
    the system's count.
    `drain_timeout` is how long running requests may go on after SIGTERM; the default is that of the router which users
    of these APIs know.
    """

    host: str = "0.0.0.0"
    port: int = 8080
    admin_host: str = "0.0.0.0"
    admin_port: int = 9090
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    config: Path | None = None
    kubeconfig: str | None = None
    context: str | None = None
    namespaces: tuple[str, ...] = ()
    engine_authority: Path | None = None
    drain_timeout: float = 300.0
    data_path: DataPathSettings = field(default_factory=DataPathSettings)

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other: ValueError, with a sentence for people."""
        if self.config is not None and (self.kubeconfig or self.context or self.namespaces):
            raise ValueError("a configuration file replaces Kubernetes: leave out kubeconfig, context and namespace")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("a TLS certificate and its key go together: give both or none")
