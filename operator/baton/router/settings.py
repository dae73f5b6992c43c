"""What the router process can be told; the command line and the environment fill it in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from baton.api.endpoints import Phase
from baton.api.traffic import KVConnectorType
from baton.router.data_path_settings import DataPathSettings
from baton.routing.endpoints import ranks_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from baton.api.router_config import StaticEndpoints


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Settings of one router process. Times are seconds.

    `host` and `port` are for clients, `admin_host` and `admin_port` for probes and metrics; port 0 takes a free one,
    which is logged. `tls_certificate` and `tls_key` make the clients' listener speak HTTPS.
    `engines` are those of a router that needs neither a file nor Kubernetes: aggregated ones, or prefill and decode
    with the `connector` between them; it serves these `models`, any when there are none.
    `config` is a file with the router's document; without it the documents come from Kubernetes. `kubeconfig` None
    means the pod's service account inside a cluster, else $KUBECONFIG or ~/.kube/config. `namespaces` are those whose
    ModelRoutes count, none means all.
    `engine_authority` is a file with the authorities that sign the certificates of engines that speak HTTPS; without it
    the system's count.
    `workers` are the processes that share the clients' port; with one there is no supervisor.
    `metaserver_host` is an address of this process that decode engines reach; None means the machine's on its default
    route. There they call back from the first such request on, at the first free port from `metaserver_port` on.
    `drain_timeout` is how long running requests may go on after SIGTERM; the default is that of the router which users
    of these APIs know.
    """

    host: str = "0.0.0.0"
    port: int = 8080
    admin_host: str = "0.0.0.0"
    admin_port: int = 9090
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    engines: tuple[StaticEndpoints, ...] = ()
    connector: KVConnectorType = KVConnectorType.MOONCAKE
    models: tuple[str, ...] = ()
    config: Path | None = None
    kubeconfig: str | None = None
    context: str | None = None
    namespaces: tuple[str, ...] = ()
    engine_authority: Path | None = None
    workers: int = 1
    metaserver_host: str | None = None
    metaserver_port: int = 0
    drain_timeout: float = 300.0
    data_path: DataPathSettings = field(default_factory=DataPathSettings)

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other: ValueError, with a sentence for people."""
        if self.config is not None and (self.kubeconfig or self.context or self.namespaces):
            raise ValueError("a configuration file replaces Kubernetes: leave out kubeconfig, context and namespace")
        self._check_engines()
        if self.workers < 1:
            raise ValueError("there must be at least one worker")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("a TLS certificate and its key go together: give both or none")

    def _check_engines(self) -> None:
        phases = {engine.phase for engine in self.engines}
        if self.engines and (self.config is not None or self.kubeconfig or self.context or self.namespaces):
            raise ValueError("engines replace configuration file and Kubernetes: leave out what belongs to those")
        if self.models and not self.engines:
            raise ValueError("a model name belongs to engines: name those too, by --url or --prefill and --decode")
        if phases not in (set(), {Phase.AGGREGATED}, {Phase.PREFILL, Phase.DECODE}):
            raise ValueError("give engines for --prefill and for --decode, or else by --url those that do both")
        twice = [name for name, times in Counter(_endpoint_names(self.engines)).items() if times > 1]
        if twice:
            raise ValueError(f"{twice[0]} is listed more than once; list each engine once")


def _endpoint_names(engines: Iterable[StaticEndpoints]) -> Iterator[str]:
    return (endpoint.name for engine in engines for endpoint in ranks_of(engine))
