from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

from baton.router.config_file import ConfigFile, ConfigFileError
from baton.router.live_directory import LiveDirectory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

GOOD = """
routes: [{name: r, modelName: MODEL, rules: [{targets: [{backend: b}]}]}]
backends: [{name: b, endpoints: [{address: 127.0.0.1, port: 8000}]}]
"""
INTERVAL = 0.005


def text_for(model: str) -> str:
    return GOOD.replace("MODEL", model)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "router.yaml"
    file.write_text(text_for("one"))
    return file


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"\xff\xfe")
    return file


@pytest.fixture
def directory() -> LiveDirectory:
    return LiveDirectory(lambda: 0.0)


@asynccontextmanager
async def followed(path: Path, directory: LiveDirectory) -> AsyncIterator[None]:
    file = ConfigFile(path, directory, interval=INTERVAL)
    await file.load()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(file.follow())
        yield
        task.cancel()


def remove(path: Path) -> None:
    path.unlink()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while True:
            if reached():
                return
            await asyncio.sleep(INTERVAL)


def write(path: Path, text: str) -> None:
    path.write_text(text)


def rejected() -> float:
    return REGISTRY.get_sample_value("baton_router_config_rejected_total") or 0.0


async def test_a_file_is_in_force_once_it_is_loaded(path: Path, directory: LiveDirectory) -> None:
    await ConfigFile(path, directory).load()
    assert directory.ready
    assert directory.models() == ["one"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("routes: [", "router.yaml: document: no valid YAML"),
        ("version: v9", "router.yaml: version: "),
        ("ports: 1", "router.yaml: ports: "),
        (
            "backends: [{name: b, selector: {namespace: n, matchLabels: {a: b}}}]",
            r"router.yaml: backends\[0\]",
        ),
    ],
)
async def test_a_faulty_file_is_refused_with_file_and_field(
    path: Path, directory: LiveDirectory, content: str, message: str
) -> None:
    write(path, content)
    with pytest.raises(ConfigFileError, match=message):
        await ConfigFile(path, directory).load()
    assert not directory.ready


async def test_a_file_that_is_no_text_is_refused(binary: Path, directory: LiveDirectory) -> None:
    with pytest.raises(ConfigFileError, match=r"binary\.yaml: is no UTF-8 text"):
        await ConfigFile(binary, directory).load()


async def test_a_missing_file_is_refused_by_name(tmp_path: Path, directory: LiveDirectory) -> None:
    with pytest.raises(ConfigFileError, match=r"absent\.yaml: No such file"):
        await ConfigFile(tmp_path / "absent.yaml", directory).load()


async def test_a_change_is_followed(path: Path, directory: LiveDirectory) -> None:
    async with followed(path, directory):
        write(path, text_for("two"))
        await until(lambda: directory.models() == ["two"])


async def test_a_file_that_takes_the_place_of_the_old_one_is_followed(path: Path, directory: LiveDirectory) -> None:
    async with followed(path, directory):
        other = path.with_name("new.yaml")
        other.write_text(text_for("two"))
        other.replace(path)
        await until(lambda: directory.models() == ["two"])


async def test_a_bad_change_keeps_the_old_and_is_told_once(
    path: Path, directory: LiveDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    before = rejected()
    async with followed(path, directory):
        write(path, "version: v9")
        await until(lambda: rejected() > before)
        await asyncio.sleep(10 * INTERVAL)
        assert directory.models() == ["one"]
        assert rejected() == before + 1
        assert [record.message for record in caplog.records if "version: " in record.message]
        write(path, text_for("three"))
        await until(lambda: directory.models() == ["three"])


async def test_a_file_that_vanishes_keeps_the_old_and_is_told_once(path: Path, directory: LiveDirectory) -> None:
    before = rejected()
    async with followed(path, directory):
        remove(path)
        await until(lambda: rejected() > before)
        await asyncio.sleep(10 * INTERVAL)
        assert (directory.models(), rejected()) == (["one"], before + 1)
        write(path, text_for("two"))
        await until(lambda: directory.models() == ["two"])
