from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

import virtual_time
from baton.kube.errors import ApiError, NotFound, Transient
from baton.kube.resources import MODEL_ROUTES, MODEL_SERVERS
from baton.kube.store import Store
from baton.manager.listing import Listing, listings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from baton.kube.types import JsonObject, Resource


def page(version: int, *names: str) -> JsonObject:
    items = [
        {"metadata": {"namespace": "ns", "name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}}
        for name in names
    ]
    return {"metadata": {"resourceVersion": str(version)}, "items": items}


class Server:
    """Answers each list with what is next, the last answer for ever, and notes when it was asked."""

    def __init__(self, *answers: list[JsonObject] | ApiError) -> None:
        self.answers = list(answers)
        self.asked: list[float] = []

    async def list_pages(self, resource: Resource, *_: Any, **__: Any) -> AsyncGenerator[JsonObject, None]:
        self.asked.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, ApiError):
            raise answer
        for entry in answer:
            yield entry

    def watch(self, *_: Any, **__: Any) -> AsyncGenerator[JsonObject, None]:
        raise AssertionError("kopf watches")


def run_for(seconds: float, server: Server, store: Store[str], *, random: float = 0.5) -> None:
    async def story() -> None:
        running = asyncio.ensure_future(Listing(server, MODEL_ROUTES, store, random=lambda: random).run())
        await asyncio.sleep(seconds)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    virtual_time.run(story())


@pytest.fixture
def store() -> Store[str]:
    return Store(lambda found: f"{found['kind']} {found['metadata']['name']} {found['metadata']['resourceVersion']}")


def test_a_complete_list_fills_the_store(store: Store[str]) -> None:
    server = Server([page(5, "a"), page(5, "b")])
    run_for(1, server, store)
    assert store.values() == ["ModelRoute a 5", "ModelRoute b 5"]
    assert store.synced.is_set()


def test_what_vanished_unnoticed_is_found_at_the_next_list(store: Store[str]) -> None:
    server = Server([page(5, "a", "b")], [page(9, "b")])
    run_for(601, server, store)
    assert store.values() == ["ModelRoute b 9"]


@pytest.mark.parametrize(("random", "period"), [(0.0, 480), (0.5, 600), (1.0, 720)])
def test_the_period_varies(store: Store[str], random: float, period: float) -> None:
    server = Server([page(5)])
    run_for(period + 1, server, store, random=random)
    assert server.asked == [0, period]


def test_the_first_list_is_tried_again_soon_and_a_later_one_less_often(store: Store[str]) -> None:
    fault = Transient(503, "Unavailable", "later")
    server = Server(fault, fault, [page(5, "a")], fault, [page(9, "a")])
    run_for(620, server, store)
    assert server.asked == [0, 1, 2, 602, 617]
    assert store.values() == ["ModelRoute a 9"], "nothing is forgotten meanwhile"


def test_nothing_counts_as_listed_before_all_pages_were_read(store: Store[str]) -> None:
    run_for(5, Server(Transient(503, "Unavailable", "later")), store)
    assert not store.synced.is_set()


def test_a_failure_is_told_once_with_its_cure(store: Store[str], caplog: pytest.LogCaptureFixture) -> None:
    run_for(30, Server(NotFound(404, "NotFound", "the server could not find the requested resource")), store)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "baton crds | kubectl apply -f -" in str(vars(caplog.records[0]))


def test_a_failure_that_changes_or_comes_back_is_told_again(
    store: Store[str], caplog: pytest.LogCaptureFixture
) -> None:
    one, two = Transient(503, "Unavailable", "one"), Transient(503, "Unavailable", "two")
    run_for(640, Server(one, two, [page(5)], two, [page(6)]), store)
    assert len(caplog.records) == 3


def test_a_restored_database_is_believed(store: Store[str]) -> None:
    server = Server([page(500, "a", "b")], [page(7, "a")])
    run_for(601, server, store)
    assert store.values() == ["ModelRoute a 7"]


def test_each_kind_is_listed_by_itself(store: Store[str]) -> None:
    assert len(listings(Server(), {MODEL_ROUTES: store, MODEL_SERVERS: store}, random=lambda: 0.5)) == 2
