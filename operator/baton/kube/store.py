"""Keeps what was projected from the objects of one resource, with indices. Talks to nobody: it is fed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable
from sys import intern
from typing import TYPE_CHECKING, Generic, TypeVar

from baton.kube.types import Key, key_of

if TYPE_CHECKING:
    from collections.abc import Container

    from baton.kube.types import JsonObject

T = TypeVar("T")

_ENDED = 4096

Changed = Callable[[T | None, T | None], None]
"""Hears of a change: (None, new) for an added object, (old, None) for a removed one. It must not raise."""


class Store(Generic[T]):
    """Projections of the objects of one resource by namespace and name.

    `project` turns an object into what is kept. It must take any object the API server can hold, and keep no
    reference to the object itself: a pod is some 60 kB as dictionaries and should be below 2 kB in here.

    A new uid under a known name is another object: subscribers hear of the end of the old one first. They are called
    at once, one after the other, and hear of every object that is already there when they subscribe.
    """

    def __init__(self, project: Callable[[JsonObject], T]) -> None:
        self.synced = asyncio.Event()
        """Set by whoever feeds the store, once it holds everything there is."""
        self._project = project
        self._entries: dict[Key, _Entry[T]] = {}
        self._ended: dict[Key, str] = {}  # the last removals, against answers to writes that come in after them
        self._indices: dict[str, _Index[T]] = {}
        self._subscribers: list[Changed[T]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> T | None:
        """Return the projection of the object with this namespace and name, or None."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def values(self) -> list[T]:
        """Return all projections, in the order in which the objects were first seen."""
        return [entry.value for entry in self._entries.values()]

    def add_index(self, name: str, values_of: Callable[[T], Iterable[Hashable]]) -> None:
        """Keep the projections findable by these values of theirs: none, one or several each."""
        index = _Index(values_of)
        for key, entry in self._entries.items():
            index.add(key, entry.value)
        self._indices[name] = index

    def by_index(self, name: str, value: Hashable) -> list[T]:
        """Return the projections with this value in an index that `add_index` made."""
        return list(self._indices[name].buckets.get(value, {}).values())

    def subscribe(self, changed: Changed[T]) -> None:
        """Call `changed` for every object that is there, and for every change from now on."""
        self._subscribers.append(changed)
        for entry in list(self._entries.values()):
            changed(None, entry.value)

    def unsubscribe(self, changed: Changed[T]) -> None:
        """Call `changed`, which was subscribed, no more."""
        self._subscribers.remove(changed)

    def offer(self, event_type: str | None, found: JsonObject) -> Key:
        """Take an event of a watch, an object of a list (without event type) or the answer to a write; return its key.

        They may come in any order: what is older than what is known is dropped, and so is the end of an older uid.
        """
        key = key_of(found)
        metadata = found["metadata"]
        if event_type == "DELETED":
            self._remove(key, uid=metadata["uid"], version=metadata["resourceVersion"])
        elif not self._is_late(key, metadata["resourceVersion"]):
            self._put((intern(key[0]), key[1]), found)
        return key

    def keep_only(self, keys: Container[Key], *, at: str | None = None) -> None:
        """Drop every object but these: what a complete list does not hold is gone.

        `at` is the version of the list. Objects that are newer, known from the answer to a write, are kept.
        """
        for key, entry in list(self._entries.items()):
            if key not in keys and not (at is not None and is_newer(entry.version, at)):
                self._remove(key, uid=entry.uid, version=at or entry.version)

    def forget_versions(self) -> None:
        """Believe whatever comes next: the server has gone back in time, as after a restore of its database."""
        self._ended.clear()
        for entry in self._entries.values():
            entry.version = ""

    def _is_late(self, key: Key, version: str) -> bool:
        known = self._entries.get(key)
        if known is not None:
            return is_newer(known.version, version)
        # The answer to a delete has the very version of the DELETED event.
        ended = self._ended.get(key, "")
        return ended == version or is_newer(ended, version)

    def _put(self, key: Key, found: JsonObject) -> None:
        metadata = found["metadata"]
        uid, version = metadata["uid"], metadata["resourceVersion"]
        known = self._entries.get(key)
        if known is not None and known.uid != uid:
            self._remove(key, uid=known.uid, version=known.version)
            known = None
        if known is None:
            value = self._project(found)
            self._ended.pop(key, None)
            self._entries[key] = _Entry(uid, version, value)
            self._tell(key, None, value)
        elif known.version != version:
            old, value = known.value, self._project(found)
            known.version, known.value = version, value
            self._tell(key, old, value)

    def _remove(self, key: Key, *, uid: str, version: str) -> None:
        known = self._entries.get(key)
        if known is not None and known.uid != uid:
            return
        self._ended.pop(key, None)
        self._ended[key] = version
        if len(self._ended) > _ENDED:
            del self._ended[next(iter(self._ended))]
        if known is not None:
            del self._entries[key]
            self._tell(key, known.value, None)

    def _tell(self, key: Key, old: T | None, new: T | None) -> None:
        for index in self._indices.values():
            index.change(key, old, new)
        for changed in tuple(self._subscribers):
            changed(old, new)


def is_newer(version: str, other: str) -> bool:
    """Compare two versions of one resource, which are numbers; False if one of them is something else."""
    return version.isdecimal() and other.isdecimal() and int(version) > int(other)


class _Entry(Generic[T]):
    __slots__ = ("uid", "value", "version")

    def __init__(self, uid: str, version: str, value: T) -> None:
        self.uid = uid
        self.version = version
        self.value = value


class _Index(Generic[T]):
    def __init__(self, values_of: Callable[[T], Iterable[Hashable]]) -> None:
        self._values_of = values_of
        self.buckets: dict[Hashable, dict[Key, T]] = {}

    def change(self, key: Key, old: T | None, new: T | None) -> None:
        kept = self._read(new) if new is not None else frozenset()
        if old is not None:
            for value in self._read(old) - kept:
                bucket = self.buckets[value]
                del bucket[key]
                if not bucket:
                    del self.buckets[value]
        if new is not None:
            for value in kept:
                self.buckets.setdefault(value, {})[key] = new

    def add(self, key: Key, new: T) -> None:
        self.change(key, None, new)

    def _read(self, projection: T) -> frozenset[Hashable]:
        values = self._values_of(projection)
        if isinstance(values, str):
            raise TypeError(f"an index needs a collection of values, not the string {values!r}")
        return frozenset(values)
