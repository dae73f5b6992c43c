"""Builds Baton's two images and hands them to the nodes, with commands that fit the cluster. Runs nothing in them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chart.rendering import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

DOCKER_BUILD: Final = 'docker build --quiet --target "$TARGET" --tag "$IMAGE" .'
_DEADLINE: Final = 1800.0


@dataclass(frozen=True)
class Images:
    """Names of the images, with their tag."""

    baton: str
    engine: str


@dataclass(frozen=True)
class Shell:
    """A command of the user's, for bash. It runs where the Dockerfile is."""

    command: str

    def run(self, **variables: str) -> None:
        done = subprocess.run(
            ["bash", "-c", self.command],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_DEADLINE,
            check=False,
        )
        assert done.returncode == 0, f"{self.command}\nended with status {done.returncode}:\n{done.stdout[-3000:]}"


def make_images(*, registry: str, tag: str, build: Shell, load: Callable[[str], None]) -> Images:
    """Build both images and hand them to the nodes."""
    images = Images(baton=f"{registry}/baton:{tag}", engine=f"{registry}/engine-sim:{tag}")
    for image, target in ((images.baton, "baton"), (images.engine, "engine-sim")):
        build.run(IMAGE=image, TARGET=target)
        load(image)
    return images
