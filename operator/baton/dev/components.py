"""The command lines of the local control plane's programs, and the documents that they read.

It starts nothing (local.py). Flags follow what the programs of Kubernetes 1.34, etcd 3.6 and KWOK 0.8 accept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.dev.addresses import ETCD_PORT, SERVICE_RANGE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from baton.dev.addresses import AddressRange

# In start order; stopped in the reverse one. The store first, then its only client, then the API server's clients.
ORDER = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")

# The programs limit themselves to a few requests a second unless told otherwise, which makes every test slow.
_REQUESTS_PER_SECOND = 1000
# Seconds that a node may be silent, and that its lease runs, which KWOK renews after a quarter of that. Both
# are several times the defaults, because a busy laptop must not lose its nodes.
_NODE_GRACE = 300
_LEASE_SECONDS = 200


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one control plane keeps what, and where it listens.

    `directory` is its state, `binaries` and `stages` are shared by all; `port` is the API server's on 127.0.0.1.
    """

    directory: Path
    binaries: Path
    stages: Path
    addresses: AddressRange
    port: int

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        """The certificate that the API server makes for itself, with its CA."""
        return self.directory / "certificates" / "apiserver.crt"

    @property
    def signing_key(self) -> Path:
        """The key that signs service account tokens."""
        return self.directory / "service-account.key"

    @property
    def tokens(self) -> Path:
        """The static token file."""
        return self.directory / "tokens.csv"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    @property
    def scheduler_configuration(self) -> Path:
        """What kube-scheduler reads."""
        return self.directory / "scheduler.json"


def commands(layout: Layout) -> Mapping[str, list[str]]:
    """Return the command line of every program by its name."""
    flags = {
        "etcd": _etcd(layout),
        "kube-apiserver": _apiserver(layout),
        "kube-controller-manager": _controller_manager(layout),
        "kube-scheduler": ["--config", str(layout.scheduler_configuration), "--secure-port=0"],
        "kwok": _kwok(layout),
    }
    return {name: [str(layout.binaries / name), *flags[name]] for name in ORDER}


def make_scheduler_configuration(layout: Layout) -> str:
    """Return kube-scheduler's configuration. ModelServings ask for the scheduler "volcano" unless told otherwise."""
    document = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {
            "kubeconfig": str(layout.kubeconfig),
            "qps": _REQUESTS_PER_SECOND,
            "burst": 2 * _REQUESTS_PER_SECOND,
        },
        "profiles": [{"schedulerName": "default-scheduler"}, {"schedulerName": "volcano"}],
    }
    return json.dumps(document, indent=2) + "\n"


def _etcd_url(layout: Layout) -> str:
    return f"http://{layout.addresses.etcd}:{ETCD_PORT}"


def _etcd(layout: Layout) -> list[str]:
    url = _etcd_url(layout)
    return [
        "--name=baton",
        f"--data-dir={layout.directory / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        "--listen-peer-urls=http://127.0.0.1:0",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _apiserver(layout: Layout) -> list[str]:
    return [
        f"--etcd-servers={_etcd_url(layout)}",
        # Two control planes that start at once may choose the same range. The loser's etcd ends, and until that is
        # noticed its API server talks to the winner's: a prefix of its own keeps it from doing harm there.
        f"--etcd-prefix=/{layout.port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={layout.port}",
        f"--cert-dir={layout.certificate.parent}",
        f"--token-auth-file={layout.tokens}",
        "--authorization-mode=Node,RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={layout.signing_key}",
        f"--service-account-signing-key-file={layout.signing_key}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--endpoint-reconciler-type=none",
        # Engine pods open device files, which needs privileged containers.
        "--allow-privileged=true",
        "--enable-priority-and-fairness=false",
        "--max-requests-inflight=0",
        "--max-mutating-requests-inflight=0",
        "--event-ttl=15m",
        "--profiling=false",
    ]


def _controller_manager(layout: Layout) -> list[str]:
    return [
        f"--kubeconfig={layout.kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        f"--root-ca-file={layout.certificate}",
        f"--service-account-private-key-file={layout.signing_key}",
        f"--node-monitor-grace-period={_NODE_GRACE}s",
        f"--kube-api-qps={_REQUESTS_PER_SECOND}",
        f"--kube-api-burst={2 * _REQUESTS_PER_SECOND}",
    ]


def _kwok(layout: Layout) -> list[str]:
    return [
        f"--kubeconfig={layout.kubeconfig}",
        f"--config={layout.stages}",
        f"--cidr={layout.addresses.pods}",
        "--manage-all-nodes",
        "--node-ip=127.0.0.1",
        f"--node-lease-duration-seconds={_LEASE_SECONDS}",
    ]
