"""TLS contexts for both sides: the clients' listener, whose certificate may change while it runs, and the engines."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING

from baton.router.start_error import StartError
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from pathlib import Path

_logger = logging.getLogger(__name__)

_INTERVAL = 2.0
"""Seconds between two looks at the files."""


class ListenerCertificate:
    """The certificate clients see. With `context` each new connection gets the last one that could be used."""

    def __init__(self, certificate: Path, key: Path, *, interval: float = _INTERVAL) -> None:
        """Load the files. Raises StartError."""
        self._certificate = certificate
        self._key = key
        self._interval = interval
        self._told = asyncio.Event()
        self._seen = (b"", b"")
        try:
            self._load_changes()
        except OSError as error:
            raise StartError(f"{certificate} and {key}: {error}; give PEM files") from error
        # A context in use cannot change its certificate in one step, so each handshake is given a whole context.
        self.context = self._current
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Look at the files now."""
        self._told.set()

    async def follow(self) -> None:
        """Take up each new certificate, for ever."""
        problem = ""
        while True:
            await self._pause()
            try:
                changed = await asyncio.to_thread(self._load_changes)
            except OSError as error:
                if str(error) != problem:
                    event(_logger, logging.ERROR, "new TLS certificate cannot be used: %s; the old one stays", error)
                problem = str(error)
                continue
            problem = ""
            if changed:
                event(_logger, logging.INFO, "new TLS certificate in use", file=self._certificate)

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _load_changes(self) -> bool:
        contents = self._contents()
        if contents == self._seen:
            return False
        new = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        new.load_cert_chain(self._certificate, self._key)
        self._current = new
        self._seen = contents
        return True

    def _contents(self) -> tuple[bytes, bytes]:
        return self._certificate.read_bytes(), self._key.read_bytes()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._interval):
                await self._told.wait()
        except TimeoutError:
            pass
        self._told.clear()


def engine_context(authority: Path | None) -> ssl.SSLContext | None:
    """Return what verifies engines by these authorities; None means the system's. Raises StartError."""
    if authority is None:
        return None
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise StartError(f"{authority}: {error}; give a PEM file") from error
