"""A router before one simulated prefill and one simulated decode, which refuse what their protocol forbids."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from baton.sim.server import SimServer
from baton.sim.settings import SimSettings
from functional.router_fixture import Rig, router

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from baton.api.traffic import KVConnectorType
    from baton.router.data_path_settings import DataPathSettings
    from baton.sim.engine import Engine

PREFILL, DECODE = "127.64.9.1", "127.64.9.2"


@dataclass
class Pair:
    rig: Rig
    prefill: Engine
    decode: Engine

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.prefill.describe(), self.decode.describe()


@contextlib.asynccontextmanager
async def simulated_pair(
    connector: KVConnectorType, *, settings: DataPathSettings | None = None, attempts: int = 0, **sim: Any
) -> AsyncIterator[Pair]:
    """Run both; at the end neither engine may hold anything or have seen a hand-over fail."""
    async with (
        SimServer(SimSettings(**({"ports": (0,), "models": ("m",)} | sim))) as server,
        router(connector=connector, settings=settings, attempts=attempts) as rig,
    ):
        [choice] = rig.directory.choices
        assert choice.prefill is not None
        rig.directory.choices = [
            replace(
                choice,
                prefill=replace(choice.prefill, address=PREFILL, port=server.port),
                decode=replace(choice.decode, address=DECODE, port=server.port),
            )
        ]
        yield Pair(rig, server.engine(PREFILL), server.engine(DECODE))
