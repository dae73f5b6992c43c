"""Build the control plane's programs with Go, once, into the user's cache.

What to build and with which flags is in pins.py.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from baton.dev.locks import hold_lock
from baton.dev.pins import PACKAGES
from baton.dev.progress import Report, Stopwatch, keep_silent
from baton.dev.provider import ControlPlaneError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from baton.dev.pins import Pins

# How long Go may take to answer with its version; it may first fetch a newer toolchain.
_GO_DEADLINE = 300.0


def find_cache(pins: Pins, *, environment: Mapping[str, str] | None = None) -> Path:
    """Return where these pins' binaries are kept, under $XDG_CACHE_HOME or ~/.cache."""
    environment = os.environ if environment is None else environment
    home = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "baton" / "control-plane" / pins.key


def ensure_binaries(pins: Pins, *, names: Collection[str] = tuple(PACKAGES), report: Report = keep_silent) -> Path:
    """Build the named binaries that the cache lacks and return their directory.

    Only one process builds at a time. A binary appears under its name when it is whole, so an interrupted build
    loses at most the one that was being built. Raises `ControlPlaneError` when Go is missing, too old, or fails.
    """
    cache = find_cache(pins)
    if not _missing(cache, names):
        return cache
    check_go(pins)
    with hold_lock(cache / ".lock", waiting_for=f"another build in {cache}", report=report):
        missing = _missing(cache, names)
        if missing:
            _build(pins, missing, cache, report)
    return cache


def check_go(pins: Pins) -> None:
    """Raise `ControlPlaneError` with the ways out unless a Go that can build the pins is on PATH."""
    wanted = ".".join(pins.go_version.split(".")[:2])
    ways_out = (
        f"Install Go {wanted} or later (https://go.dev/dl), or use --provider kind (needs Docker), "
        "or --kubeconfig FILE for a cluster that you have."
    )
    if shutil.which("go") is None:
        raise ControlPlaneError(f"The local control plane is built with Go, and `go` is not on PATH. {ways_out}")
    try:
        answer = subprocess.run(
            ["go", "env", "GOVERSION"],
            cwd=pins.directory,
            env=_go_environment(),
            capture_output=True,
            text=True,
            timeout=_GO_DEADLINE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ControlPlaneError(f"`go env GOVERSION` did not answer in {_GO_DEADLINE:.0f} s. {ways_out}") from None
    version = answer.stdout.strip().removeprefix("go")
    if answer.returncode != 0 or not version:
        raise ControlPlaneError(f"Go can't build the control plane: {answer.stderr.strip()}. {ways_out}")
    if _numbers(version) < _numbers(wanted):
        raise ControlPlaneError(f"Go {version} is too old to build the control plane. {ways_out}")


def _missing(cache: Path, names: Collection[str]) -> list[str]:
    return [name for name in PACKAGES if name in names and not (cache / name).exists()]


def _build(pins: Pins, names: list[str], cache: Path, report: Report) -> None:
    total = Stopwatch()
    report(f"building {', '.join(names)} once, into {cache}; all of them take about 6 minutes on 2 cores")
    for number, name in enumerate(names, 1):
        title = f"{name} ({number} of {len(names)})"
        with tempfile.TemporaryDirectory(prefix=".build-", dir=cache) as scratch:
            took = _build_one(pins, name, Path(scratch), title, report)
            (Path(scratch) / name).replace(cache / name)
        report(f"{title}: built in {took}")
    report(f"built in {total}")


def _build_one(pins: Pins, name: str, scratch: Path, title: str, report: Report) -> str:
    watch = Stopwatch()
    log = scratch / "log"
    with log.open("wb") as output:
        build = subprocess.Popen(
            ["go", "build", "-v", *pins.flags, "-o", str(scratch / name), PACKAGES[name]],
            cwd=pins.directory,
            env=_go_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            while build.poll() is None:
                report(_describe(title, watch, log), passing=True)
                _wait(build, seconds=1)
        except BaseException:
            _interrupt(build)
            raise
    if build.returncode != 0:
        report(f"{title}: failed after {watch}")
        raise ControlPlaneError(f"go build of {name} failed:\n{_last_words(log)}")
    return str(watch)


def _wait(build: subprocess.Popen[bytes], *, seconds: float) -> None:
    try:
        build.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return


def _interrupt(build: subprocess.Popen[bytes]) -> None:
    # Compilers are Go's children, so the whole group has to go. Interrupted, Go removes its work directory.
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(build.pid, number)
        _wait(build, seconds=5)


def _describe(title: str, watch: Stopwatch, log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    fetched = sum(line.startswith("go: downloading") for line in lines)
    return f"{title}: {watch}, {len(lines) - fetched} packages compiled" + (f", {fetched} fetched" if fetched else "")


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join([line for line in lines if not line.startswith("go: downloading")][-20:])


def _go_environment() -> dict[str, str]:
    # A workspace or GOFLAGS of the user's would change what is built.
    return {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
