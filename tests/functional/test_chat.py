from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from baton.dev.chat import Answer, RefusedError, stream_chat
from baton.dev.provider import ControlPlaneError

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"X-Baton-Prefill: ns/p:7100\r\nX-Baton-Decode: ns/d:7100\r\n\r\n"
)
END = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(**content: Any) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def piece(text: str) -> bytes:
    return event(choices=[{"delta": {"content": text}}])


@contextmanager
def router(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Answer one request with these bytes, then close; yield the port and what came in."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while not b"".join(seen).endswith(b"}"):
                    seen.append(connection.recv(65536))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], seen
        thread.join()


def chat(answer: bytes, shown: list[str] | None = None) -> Answer:
    pieces: list[str] = [] if shown is None else shown
    with router(answer) as (port, _):
        return stream_chat("127.0.0.1", port, model="m", prompt="Hi", max_tokens=3, show=pieces.append)


def test_pieces_are_shown_as_they_come_and_the_pair_is_told() -> None:
    shown: list[str] = []
    events = [
        event(choices=[{"delta": {"role": "assistant"}}]),
        piece("He"),
        b": alive\n\n",
        piece("llo"),
        event(choices=[]),
    ]
    answer = chat(HEAD + b"".join(map(chunk, [*events, DONE])) + END, shown)
    assert answer == Answer(text="Hello", chunks=2, prefill="ns/p:7100", decode="ns/d:7100")
    assert shown == ["He", "llo"]


def test_it_asks_for_a_stream_of_so_many_tokens() -> None:
    with router(HEAD + chunk(DONE) + END) as (port, seen):
        stream_chat("127.0.0.1", port, model="m", prompt="Hi", max_tokens=3)
    body = json.loads(b"".join(seen).partition(b"\r\n\r\n")[2])
    assert body == {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "stream": True}


@pytest.mark.parametrize("end", [END, b"", b"5\r\nda"], ids=["ended early", "cut between chunks", "cut in a chunk"])
def test_a_stream_that_is_cut_is_no_answer(end: bytes) -> None:
    with pytest.raises(ControlPlaneError, match=r"cut after 1 pieces|IncompleteRead"):
        chat(HEAD + chunk(piece("He")) + end)


def test_an_error_in_the_stream_is_told() -> None:
    with pytest.raises(ControlPlaneError, match="decode died"):
        chat(HEAD + chunk(piece("He")) + chunk(event(error={"message": "decode died"})) + END)


def test_an_answer_that_is_no_stream_is_shown_in_part() -> None:
    body = b'{"error": "no ready pair"}' + b" " * 1000 + b"x"
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n" % len(body)
    with pytest.raises(RefusedError, match=r"the router answers 503.*no ready pair") as raised:
        chat(head + body)
    assert "x" not in str(raised.value)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n"])
def test_what_is_no_answer_at_all_names_the_router(answer: bytes) -> None:
    with pytest.raises(ControlPlaneError, match=r"the router at 127.0.0.1:\d+ does not answer"):
        chat(answer)


def test_a_router_that_does_not_listen_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ControlPlaneError, match=f"the router at 127.0.0.1:{port} does not answer"):
        stream_chat("127.0.0.1", port, model="m", prompt="Hi", max_tokens=3)
