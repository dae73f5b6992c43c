"""A kind cluster, through pytest-kind: needs Docker, runs real containers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from baton.dev.kubectl import Kubectl
from baton.dev.progress import Report, Stopwatch, keep_silent
from baton.dev.provider import DEFAULT_NAME, ControlPlane, ControlPlaneError, Status, check_name
from baton.dev.record import find_directory

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds for the Docker engine to answer.
_DOCKER_DEADLINE = 20.0
_WAYS_OUT = "Or use --provider local (needs Go), or --kubeconfig FILE for a cluster that you have."


class KindControlPlane(ControlPlane):
    """The kind cluster baton-NAME. kind and kubectl come from PATH; pytest-kind downloads what is missing there."""

    simulates_pods = False

    def __init__(self, *, name: str = DEFAULT_NAME, report: Report = keep_silent) -> None:
        check_name(name)
        self.name = name
        self.kubeconfig = find_directory(name) / "kubeconfig-kind"
        self.kubectl = Path(shutil.which("kubectl") or "kubectl")
        self._report = report

    @override
    def up(self) -> None:
        watch = Stopwatch()
        cluster = self._open()
        self._report(f"creating kind cluster baton-{self.name}: a few minutes the first time")
        _call(cluster.ensure_kubectl)
        self.kubectl = cluster.kubectl_path.absolute()
        _call(cluster.create)
        self._report(f"kind cluster baton-{self.name} is up ({watch})")

    @override
    def down(self) -> None:
        cluster = self._open()
        _call(cluster.ensure_kind)
        _call(cluster.delete)
        self.kubeconfig.unlink(missing_ok=True)

    def load_image(self, image: str) -> None:
        """Copy an image from the Docker engine to the nodes."""
        cluster = self._open()
        _call(cluster.ensure_kind)
        _call(lambda: cluster.load_docker_image(image))

    @override
    def status(self) -> Status:
        try:
            nodes = Kubectl(self.kubectl, self.kubeconfig).get_nodes(deadline=5)
        except ControlPlaneError:
            return Status(is_up=False)
        return Status(is_up=True, nodes=nodes)

    def _open(self) -> Any:
        _check_docker()
        try:
            from pytest_kind import KindCluster  # noqa: PLC0415  an extra that only this provider needs
        except ImportError:
            raise ControlPlaneError(
                f"--provider kind needs pytest-kind: pip install 'baton-serving[kind]'. {_WAYS_OUT}"
            ) from None
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        return KindCluster(
            f"baton-{self.name}",
            kubeconfig=self.kubeconfig,
            kind_path=_find_program("kind"),
            kubectl_path=_find_program("kubectl"),
        )


def _check_docker() -> None:
    if shutil.which("docker") is None:
        raise ControlPlaneError(f"--provider kind needs Docker, and `docker` is not on PATH. {_WAYS_OUT}")
    try:
        subprocess.run(["docker", "info"], capture_output=True, check=True, timeout=_DOCKER_DEADLINE)
    except (subprocess.SubprocessError, OSError) as error:
        raise ControlPlaneError(f"--provider kind needs a running Docker engine ({error}). {_WAYS_OUT}") from None


def _find_program(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None


def _call(step: Callable[[], object]) -> None:
    try:
        step()
    except (subprocess.SubprocessError, OSError) as error:
        raise ControlPlaneError(f"kind failed: {error}. {_WAYS_OUT}") from None
