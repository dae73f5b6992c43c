"""Keeps a directory in step with a configuration file, for a router without Kubernetes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from baton.routing.document import DocumentError, faults_of_file, read_document
from baton.telemetry import directory_metrics as metrics
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from pathlib import Path

    from baton.api.router_config import RouterConfig
    from baton.router.live_directory import LiveDirectory

_logger = logging.getLogger(__name__)

_READING_LIMIT = 5.0  # seconds


class ConfigFileError(Exception):
    """The file cannot be used. The message names file, fields and cures."""


class ConfigFile:
    """Puts the file's document in force, and each later one that has no fault. Looks each `interval` seconds."""

    def __init__(self, path: Path, directory: LiveDirectory, *, interval: float = 0.25) -> None:
        self._path = path
        self._directory = directory
        self._interval = interval
        self._seen = ""
        self._told = asyncio.Event()

    async def load(self) -> None:
        """Read the file for the first time.

        Raises:
            ConfigFileError: it is missing, not readable, or its document has a fault.

        """
        self._seen = await self._read()
        self._publish(self._parse(self._seen))
        self._directory.set_ready()

    async def follow(self) -> None:
        """Follow the file's changes for ever; cancel it to stop."""
        # Contents are compared, not times: a mounted ConfigMap changes through links, and not all file systems count in
        # less than seconds. Two looks must agree, as the first may have met an editor half-way; not after `reload`.
        last = self._seen
        told = ""
        while True:
            is_told = await self._pause()
            try:
                text = await self._read()
                if text != self._seen and (is_told or text == last):
                    self._seen = text
                    self._publish(self._parse(text))
                last, told = text, ""
            except ConfigFileError as error:
                if str(error) != told:
                    metrics.CONFIG_REJECTED.inc()
                    event(_logger, logging.ERROR, "%s; the last good configuration stays in force", error)
                told = str(error)

    def reload(self) -> None:
        """Look at the file now, and take it as it is."""
        self._told.set()

    async def _pause(self) -> bool:
        """Wait for the next look; return whether `reload` asked for it."""
        try:
            async with asyncio.timeout(self._interval):
                await self._told.wait()
        except TimeoutError:
            return False
        self._told.clear()
        return True

    async def _read(self) -> str:
        try:
            async with asyncio.timeout(_READING_LIMIT):
                return await asyncio.to_thread(self._path.read_text, encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigFileError(f"{self._path}: is no UTF-8 text: {error}") from error
        except TimeoutError as error:
            raise ConfigFileError(f"{self._path}: could not be read in {_READING_LIMIT:g} seconds") from error
        except OSError as error:
            raise ConfigFileError(
                f"{self._path}: {error.strerror or error}; name a file the router may read"
            ) from error

    def _parse(self, text: str) -> RouterConfig:
        try:
            config = read_document(text, strict=True)
        except DocumentError as error:
            raise ConfigFileError(f"{self._path}: {error}") from error
        if faults := faults_of_file(config):
            raise ConfigFileError(f"{self._path}: {'; '.join(faults)}")
        return config

    def _publish(self, config: RouterConfig) -> None:
        self._directory.publish([config])
        metrics.CONFIG_DOCUMENTS.set(1)
        event(
            _logger,
            logging.INFO,
            "router configuration in force",
            file=self._path,
            models=len(self._directory.models()),
            endpoints=len(self._directory.endpoints()),
        )
