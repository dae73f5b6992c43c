"""The router as its own process: configuration from a file or from an API server, and how it starts and stops."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from baton.api import labels
from baton.api.endpoints import Phase
from fake_api_server import FakeApiServer
from functional.router_fixture import Engine, Message, Reply, generated, prefilled
from functional.router_process import (
    aggregated,
    document,
    engines,
    eventually,
    fail_to_start,
    is_true,
    name_of,
    running,
    write,
)
from routing_builders import PD_GROUP, config, pod, selector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from aiohttp import web

    from baton.api.meta import JsonObject

CONFIG_MAPS = "/api/v1/configmaps"
PODS = "/api/v1/pods"


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


# A configuration file


async def test_a_file_routes_pairs_and_its_changes_are_followed(tmp_path: Path) -> None:
    prefill, decode = Engine("p", Phase.PREFILL, prefilled), Engine("d", Phase.DECODE, generated)
    other = aggregated("a")
    file = tmp_path / "router.yaml"
    async with engines(prefill, decode, other), running("--config", write(file, document("m", prefill, decode))) as app:
        assert (await app.status("/readyz"), await app.status("/readyz", of_admin=True)) == (200, 200)
        assert await app.ask() == (200, name_of(prefill), name_of(decode))
        assert await app.metric('baton_router_endpoints{phase="prefill"}') == 1

        write(file, document("n", other))
        await eventually(app.models, ["n"])
        assert await app.ask("n") == (200, None, name_of(other))
        assert (await app.ask("m"))[0] == 404


async def test_a_bad_file_keeps_the_old_one_in_force(tmp_path: Path) -> None:
    engine = aggregated("a")
    file = tmp_path / "router.yaml"
    async with engines(engine), running("--config", write(file, document("m", engine))) as app:
        write(file, "routes: [{name: r}]")
        await eventually(partial(app.metric, "baton_router_config_rejected_total"), 1)
        assert await app.ask() == (200, None, name_of(engine))
        await eventually(lambda: is_true(app.has_logged(f"{file}: routes[0].rules: is required")), True)
        assert not app.has_logged("Traceback")


async def test_a_request_that_runs_when_the_router_is_told_to_stop_is_finished(tmp_path: Path) -> None:
    told_to_stop = asyncio.Event()

    async def answer_late(request: Message, reply: Reply) -> None:
        await told_to_stop.wait()
        await generated(request, reply)

    slow = Engine("slow", Phase.AGGREGATED, answer_late)
    file = tmp_path / "router.yaml"
    async with engines(slow), running("--config", write(file, document("m", slow))) as app:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(app.ask())
            await eventually(lambda: is_true(slow.requests), True)
            app.process.send_signal(signal.SIGTERM)
            await eventually(partial(app.status, "/readyz", of_admin=True), 503)
            told_to_stop.set()
        assert asked.result()[0] == 200


async def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    async def never_answer(request: Message, reply: Reply) -> None:
        await reply.client_gone()

    stuck = Engine("stuck", Phase.AGGREGATED, never_answer)
    file = tmp_path / "router.yaml"
    async with engines(stuck), asyncio.TaskGroup() as group:
        async with running("--config", write(file, document("m", stuck))) as app:
            asked = group.create_task(app.ask())
            await eventually(lambda: is_true(stuck.requests), True)
            app.process.send_signal(signal.SIGTERM)
            await eventually(partial(app.status, "/readyz", of_admin=True), 503)
        assert (await asked)[0] == 503


# Kubernetes


class ApiServer(FakeApiServer):
    """Takes the router's selector for a label with any value, too."""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("labelSelector") == labels.ROUTER_CONFIG:
            query = request.rel_url.update_query(labelSelector=f"{labels.ROUTER_CONFIG}=v1")
            request = request.clone(rel_url=query)
        return await super()._handle(request)

    def put_route(self, text: str | None = None, **fields: Any) -> None:
        backend = {"selector": selector(), "pdGroup": PD_GROUP, "connector": "mooncake"}
        text = text or yaml.safe_dump(config(backend=backend, **fields).document())
        metadata = {"labels": {labels.ROUTER_CONFIG: "v1"}}
        self.put(CONFIG_MAPS, "route", metadata=metadata, data={labels.ROUTER_CONFIG_KEY: text})

    def put_pod(self, engine: Engine, **fields: Any) -> None:
        announced = {"port": engine.endpoint.port, "phase": engine.phase.value}
        own = {"app": "m", "group": engine.name.rsplit("-", 3)[0]}
        found: JsonObject = pod(engine.name, own, address="127.0.0.1", announced=announced, **fields)
        self.put(PODS, engine.name, metadata=found["metadata"], status=found["status"])


@pytest.fixture
async def api_server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


@pytest.fixture
def kubeconfig(api_server: ApiServer, tmp_path: Path) -> str:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": api_server.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    return write(tmp_path / "kubeconfig", yaml.safe_dump(content))


def pair(number: int) -> tuple[Engine, Engine]:
    return (
        Engine(f"s-{number}-prefill-0-0", Phase.PREFILL, prefilled),
        Engine(f"s-{number}-decode-0-0", Phase.DECODE, generated),
    )


def pod_name(engine: Engine) -> str:
    return f"ns/{engine.name}:{engine.endpoint.port}"


async def test_pods_that_come_change_and_go_are_followed(api_server: ApiServer, kubeconfig: str) -> None:
    prefill, decode = pair(0)
    async with engines(prefill, decode), running("--kubeconfig", kubeconfig) as app:
        await eventually(partial(app.status, "/readyz"), 200)
        assert (await app.ask())[0] == 404

        api_server.put_route()
        await eventually(app.ask, (503, None, None))

        api_server.put_pod(prefill)
        api_server.put_pod(decode)
        await eventually(app.ask, (200, pod_name(prefill), pod_name(decode)))

        api_server.put_pod(decode, ready=False)
        await eventually(app.ask, (503, None, None))
        api_server.put_pod(decode)
        await eventually(app.ask, (200, pod_name(prefill), pod_name(decode)))

        api_server.remove(PODS, prefill.name)
        await eventually(app.ask, (503, None, None))


async def test_a_bad_document_and_an_outage_leave_everything_in_force(api_server: ApiServer, kubeconfig: str) -> None:
    (prefill, decode), (_, other) = pair(0), pair(1)
    api_server.put_route()
    async with engines(prefill, decode, other), running("--kubeconfig", kubeconfig) as app:
        api_server.put_pod(prefill)
        api_server.put_pod(decode)
        in_force = (200, pod_name(prefill), pod_name(decode))
        await eventually(app.ask, in_force)

        api_server.put_route("version: v2")
        await eventually(partial(app.metric, "baton_router_config_rejected_total"), 1)
        await eventually(lambda: is_true(app.has_logged("config_map=ns/route")), True)
        assert await app.ask() == in_force

        api_server.fail("list", 503, times=1000)
        api_server.fail("watch", 0, times=1000)
        api_server.cut_watches()
        await eventually(lambda: is_true(app.has_logged("out of step")), True)
        assert (await app.status("/readyz"), await app.ask()) == (200, in_force)

        api_server.faults.clear()
        api_server.remove(PODS, decode.name, is_told=False)
        await eventually(app.ask, (503, None, None))


# Starting


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    return write(tmp_path / "router.yaml", "routes: []")


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_a_taken_port_is_named(config_file: str, option: str) -> None:
    other = "--port" if option == "--admin-port" else "--admin-port"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        output = fail_to_start("--config", config_file, option, port, other, "0")
    assert (
        f"cannot listen on 127.0.0.1 port {port}: Address already in use; choose another place with {option}" in output
    )


def test_an_address_that_is_none_is_named(config_file: str) -> None:
    output = fail_to_start(
        "--config", config_file, "--port", "0", "--admin-port", "0", "--host", "no.such.host.invalid"
    )
    assert "cannot listen on no.such.host.invalid port 0: " in output


@pytest.mark.parametrize(
    ("text", "message"),
    [("version: v9", "router.yaml: version: "), ("a: [", "router.yaml: document: no valid YAML")],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, message: str) -> None:
    assert message in fail_to_start("--config", write(tmp_path / "router.yaml", text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "absent.yaml: No such file" in fail_to_start("--config", str(tmp_path / "absent.yaml"))


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    output = fail_to_start("--kubeconfig", str(tmp_path / "absent"))
    assert f"kubeconfig {tmp_path / 'absent'}: " in output
    assert "or run without Kubernetes: --config FILE" in output


@pytest.mark.parametrize(
    "arguments", [("--engine-authority", "FILE"), ("--tls-certificate", "FILE", "--tls-key", "FILE")]
)
def test_a_certificate_that_is_none_is_named(config_file: str, arguments: tuple[str, ...]) -> None:
    given = [config_file if argument == "FILE" else argument for argument in arguments]
    assert f"{config_file}" in fail_to_start("--config", config_file, "--port", "0", "--admin-port", "0", *given)


def test_options_are_read_from_the_environment_too(tmp_path: Path) -> None:
    output = fail_to_start(BATON_ROUTER_CONFIG=str(tmp_path / "from-environment.yaml"))
    assert "from-environment.yaml: No such file" in output
