"""kopf in its thread, against a server that answers as the test says."""

from __future__ import annotations

import asyncio

from aiohttp import web

from baton.kube.access import Access, open_access
from baton.kube.resources import MODEL_SERVINGS
from baton.manager.kopf_glue import KopfThread

PATIENCE = 60.0


async def test_it_ends_with_the_reason_when_kopf_gives_up() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/api":
            return web.json_response({"versions": []})
        return web.json_response({"kind": "Status", "code": 415, "message": "not so"}, status=415)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]

    async def find_access() -> Access:
        return open_access(f"http://{host}:{port}", None)

    thread = KopfThread({MODEL_SERVINGS: lambda event, found: None}, find_access=find_access)
    thread.start()
    try:
        await asyncio.wait_for(thread.ended.wait(), PATIENCE)
        assert "not so" in str(thread.error)
    finally:
        await thread.stop()
        await runner.cleanup()
