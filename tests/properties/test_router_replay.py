"""However a stream is cut into reads and wherever it breaks off, the client gets what one engine would have sent."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from baton.router.client_body import ClientBody, parse_body
from baton.router.journal import Journal
from baton.router.relay import Relay
from baton.router.replay import Ending, Replay, plan_replay
from baton.router.splice import Repetition
from baton.router.transcript import read_transcript
from baton.router.wire.client_response import ClientResponse
from baton.router.wire.failures import ExchangeError
from baton.router.wire.messages import AnswerHead
from stream_builders import DONE, PROMPT_IDS, chat_event, completion_event, stream, usage_event
from transport_fixture import RecordingTransport

HEAD = AnswerHead(200, [(b"content-type", b"text/event-stream")])
WORDS = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=8)
FIELDS: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
BODY = parse_body(orjson.dumps(FIELDS | {"temperature": 0, "stream_options": {"include_usage": True}}))


def ending(words: list[str], number: int, **fields: Any) -> dict[str, Any]:
    return {"finish_reason": "length", **fields} if number == len(words) - 1 else {}


def answer(words: list[str]) -> bytes:
    """Return the whole stream of a chat: a token a word, its id the word's number."""
    events = [
        chat_event(word, ids=[100 + number], **ending(words, number, stop_reason=None))
        for number, word in enumerate(words)
    ]
    return stream(chat_event(None), *events, usage_event(len(PROMPT_IDS), len(words))) + DONE


def goes_on(words: list[str], begun: int) -> bytes:
    """Return what an engine sends that is given the prompt with the first words of the answer."""
    events = [completion_event(word, ids=[100 + number], **ending(words, number)) for number, word in enumerate(words)]
    return stream(*events[begun:], usage_event(len(PROMPT_IDS) + begun, len(words) - begun)) + DONE


class Client:
    """What reaches a client through a journal, over any number of engines."""

    def __init__(self) -> None:
        self.transport = RecordingTransport()
        self.response = ClientResponse(self.transport, keep_alive=True, is_http11=False)
        self.journal = Journal(limit=1_000_000, hides_token_ids=False)

    def read(self, data: bytes, cuts: list[int]) -> None:
        """Take an engine's stream, cut into reads. It ends where the data ends."""
        relay = Relay(
            self.response,
            headers=[],
            keep_bytes=0,
            is_generation=True,
            on_first_byte=lambda: None,
            journal=self.journal,
        )
        relay.on_head(HEAD)
        edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
        for start, end in itertools.pairwise(edges):
            if start < end:
                relay.on_body(data[start:end])
        relay.on_end()

    @property
    def body(self) -> bytes:
        return self.transport.written.partition(b"\r\n\r\n")[2]


CUTS = st.lists(st.integers(0, 5000), max_size=6)


@given(WORDS, CUTS)
def test_how_a_stream_is_cut_into_reads_changes_nothing(words: list[str], cuts: list[int]) -> None:
    client = Client()

    client.read(answer(words), cuts)

    assert client.body == client.journal.read() == answer(words)
    assert client.journal.fault is None


@given(WORDS, st.integers(0, 5000), CUTS)
def test_wherever_a_stream_breaks_off_it_goes_on(words: list[str], at: int, cuts: list[int]) -> None:
    assert isinstance(BODY, ClientBody)
    whole, client = answer(words), Client()
    try:
        client.read(whole[: at % len(whole)], cuts)
    except ExchangeError:
        transcript = read_transcript(client.journal.read() or b"")
        plan = plan_replay(BODY, transcript, is_chat=True)
        if isinstance(plan, Ending):
            client.response.write(plan.events)
        else:
            assert isinstance(plan, Replay)
            client.journal.begin_try(plan.splice)
            is_new = plan.way == "repetition"
            client.read(whole if is_new else goes_on(words, transcript.tokens), cuts)
            assert is_new or plan.body.fields["prompt"] == PROMPT_IDS + [100 + n for n in range(transcript.tokens)]

    # The last event needs no blank line after it.
    assert client.body.rstrip() == whole.rstrip()


@given(st.text(min_size=1, max_size=30), CUTS, CUTS, st.integers(0, 30))
def test_a_repetition_cut_into_other_events_says_the_same(
    text: str, first: list[int], second: list[int], at: int
) -> None:
    begun = [chat_event(part, ids=None) for part in parts(text[:at], first)]
    splice = Repetition(read_transcript(stream(chat_event(None), *begun)))

    joined = [event for part in parts(text, second) for event in splice.take(chat_event(part, ids=None))]

    told = "".join(event["choices"][0]["delta"]["content"] for event in [*begun, *joined])
    assert told == text


def parts(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges) if start < end]
