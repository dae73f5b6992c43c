"""Serves a request for several answers by several calls of another connector, and puts their answers together.

All go to one pair. If one fails, the others are aborted and the try as a whole has failed. How a request is taken apart
and put together again is in `parts` and `merge`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson

from baton.router.call import Answer, UpstreamError
from baton.router.connectors import parts
from baton.router.connectors.merge import merge_answers, merge_usage, place_event
from baton.router.connectors.prefill import give
from baton.router.connectors.siblings import Siblings
from baton.router.events import DONE_EVENT, choices_of, end_of_last, is_done, read_event, split_events, write_event
from baton.router.wire.failures import ExchangeError, FailureKind

if TYPE_CHECKING:
    from baton.router.call import Call
    from baton.router.client_body import ClientBody
    from baton.router.connectors.contract import Connector
    from baton.router.connectors.parts import Part
    from baton.router.errors import ApiError
    from baton.router.events import Event
    from baton.router.wire.messages import AnswerHead
    from baton.router.wire.upstream_connection import Sink, Source
    from baton.routing.types import Choice, Endpoint


class FanOut:
    """A connector around one that serves requests for one answer."""

    def __init__(self, single: Connector) -> None:
        self._single = single

    def refusal(self, body: ClientBody) -> ApiError | None:
        """Refuse what cannot be taken apart."""
        return parts.refusal(body) or self._single.refusal(body)

    async def serve(self, call: Call, choice: Choice, sink: Sink) -> None:
        """Serve each part under an id of its own, for engines take no id twice at a time."""
        if parts.is_single(call.body):
            await self._single.serve(call, choice, sink)
            return
        whole = _Whole(sink, choice.decode, parts.take_apart(call.body), limit=call.settings.max_answer_bytes)
        async with Siblings() as siblings:
            tasks = [
                siblings.start(
                    self._single.serve(_call_of(call, index, part), choice, whole.parts[index]),
                    name=f"answer {index} to {call.request_id}",
                )
                for index, part in enumerate(whole.wanted)
            ]
            await _all_answered(tasks, whole)
        whole.finish()


def _call_of(call: Call, index: int, part: Part) -> Call:
    single = call.going_on_with(part.body, path=None, deadline=call.deadline)
    return single.renamed(f"{call.request_id}-{index}")


async def _all_answered(tasks: list[asyncio.Task[None]], whole: _Whole) -> None:
    """Return when all parts are answered, or one is refused. Raises UpstreamError."""
    for task in asyncio.as_completed(tasks):
        await task
        if whole.refused is not None:
            return


class _Whole:
    """What the parts have brought, and the one answer that it makes for the client."""

    def __init__(self, sink: Sink, endpoint: Endpoint, wanted: list[Part], *, limit: int) -> None:
        self.wanted = wanted
        self.parts = [_PartSink(self, index, Answer(endpoint, limit=limit)) for index in range(len(wanted))]
        self._sink = sink
        self._endpoint = endpoint
        self._sources: dict[int, Source] = {}
        self._is_paused = False
        self._head: AnswerHead | None = None
        self._first: Event = {}
        self._usage: list[Event | None] = [None] * len(wanted)

    @property
    def refused(self) -> Answer | None:
        """The first answer that is a refusal."""
        return next((part.answer for part in self.parts if part.answer.is_whole and not part.is_good), None)

    def finish(self) -> None:
        """Give the client the end of its answer, or all of it. Raises UpstreamError."""
        try:
            if self.refused is not None:
                self._refuse(self.refused)
            elif self._head is not None:
                self._end_stream()
            else:
                self._give_whole()
        except ExchangeError as error:
            raise UpstreamError(self._endpoint, error.kind, str(error)) from None

    def add_source(self, index: int, source: Source) -> None:
        """Have the client's pace govern one more part."""
        if not self._sources:
            self._sink.on_start(self)
        self._sources[index] = source
        if self._is_paused:
            source.pause()

    def drop_source(self, index: int) -> None:
        """Forget a part that has ended: its connection may carry something else soon."""
        self._sources.pop(index, None)

    def pause(self) -> None:
        """Pause all parts."""
        self._is_paused = True
        for source in self._sources.values():
            source.pause()

    def resume(self) -> None:
        """Let all parts go on."""
        self._is_paused = False
        for source in self._sources.values():
            source.resume()

    def begin_stream(self, head: AnswerHead) -> None:
        """Begin the client's answer with the first head."""
        if self._head is None:
            self._head = head
            self._sink.on_head(head)

    def take_event(self, index: int, event: bytes) -> None:
        """Pass on an event of a part's stream."""
        content = read_event(event)
        if content is None or not ("choices" in content or "usage" in content):
            self._sink.on_body(event)
        elif choices_of(content):
            self._first = self._first or content
            self._sink.on_body(write_event(place_event(content, self._first, index=index)))
        else:
            self._first = self._first or content
            self._usage[index] = content

    def _end_stream(self) -> None:
        usage = merge_usage(
            [event and event.get("usage") for event in self._usage], is_first=[part.is_first for part in self.wanted]
        )
        last = next((event for event in self._usage if event is not None), None)
        counted = b"" if last is None else write_event(place_event(last, self._first, index=0) | {"usage": usage})
        self._sink.on_body(counted + DONE_EVENT)
        self._sink.on_end()

    def _give_whole(self) -> None:
        answers: list[Event] = []
        for part in self.parts:
            try:
                content = orjson.loads(part.answer.body)
            except orjson.JSONDecodeError:
                content = None
            if not isinstance(content, dict):
                raise ExchangeError(FailureKind.MALFORMED, "answered with something other than a JSON object")
            answers.append(content)
        self._sink.on_head(self.parts[0].answer.head)
        merged = merge_answers(answers, is_first=[part.is_first for part in self.wanted])
        self._sink.on_body(orjson.dumps(merged))
        self._sink.on_end()

    def _refuse(self, answer: Answer) -> None:
        if self._head is not None:
            message = f"refused one of several answers (status {answer.head.status})"
            raise ExchangeError(FailureKind.ENGINE_ERROR, message)
        give(answer, self._sink)


class _PartSink:
    """Takes the answer to one part: passes on the events of a stream, keeps any other answer."""

    def __init__(self, whole: _Whole, index: int, answer: Answer) -> None:
        self.answer = answer
        self._whole = whole
        self._index = index
        self._is_stream = False
        self._is_done = False
        self._unfinished = b""

    @property
    def is_good(self) -> bool:
        """Whether the engine did not refuse."""
        return self.answer.head.status == 200

    def on_start(self, source: Source) -> None:
        """Let the client's pace govern the engine's."""
        self._whole.add_source(self._index, source)

    def on_head(self, head: AnswerHead) -> None:
        """Keep the head, or begin the client's stream."""
        self.answer.on_head(head)
        self._is_stream = self.is_good and head.header(b"content-type").lower().startswith(b"text/event-stream")
        if self._is_stream:
            self._whole.begin_stream(head)

    def on_body(self, data: bytes) -> None:
        """Keep a piece, or pass on the events that are whole."""
        if not self._is_stream:
            self.answer.on_body(data)
            return
        data = self._unfinished + data
        end = end_of_last(data)
        self._unfinished = data[end:]
        for event in split_events(data[:end]):
            if is_done(event):
                self._is_done = True
            else:
                self._whole.take_event(self._index, event)

    def on_end(self) -> None:
        """Notice the end."""
        self._whole.drop_source(self._index)
        if self._is_stream and not self._is_done and not is_done(self._unfinished):
            raise ExchangeError(FailureKind.TRUNCATED, "ended its stream without its last event")
        self.answer.on_end()
