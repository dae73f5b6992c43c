"""A small OpenAI client for the demo: one chat, tokens as they come, and who served it."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.dev.provider import ControlPlaneError

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMEOUT = 60.0
_SHOWN_CHARACTERS = 300


class RefusedError(ControlPlaneError):
    """The router answers, but with another status than 200: nothing was streamed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the text, the number of chunks with text, and the endpoints that served it."""

    text: str
    chunks: int
    prefill: str
    decode: str


def stream_chat(
    host: str, port: int, *, model: str, prompt: str, max_tokens: int, show: Callable[[str], None] = lambda _: None
) -> Answer:
    """Send one streamed chat and hand each piece of text to `show`.

    Raises:
        RefusedError: the router answers with an error.
        ControlPlaneError: it does not answer, or the stream breaks off.

    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": True,
    }
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise RefusedError(f"the router answers {response.status}: {_start(response.read())}")
        pieces = _pieces(response, show)
    except (OSError, http.client.HTTPException) as error:
        raise ControlPlaneError(f"the router at {host}:{port} does not answer: {error}") from error
    finally:
        connection.close()
    return Answer(
        text="".join(pieces),
        chunks=len(pieces),
        prefill=response.getheader("x-baton-prefill", ""),
        decode=response.getheader("x-baton-decode", ""),
    )


def _pieces(response: http.client.HTTPResponse, show: Callable[[str], None]) -> list[str]:
    pieces: list[str] = []
    for line in response:
        if not line.startswith(b"data: "):
            continue  # an empty line between events, or a comment that keeps the connection alive
        data = line.removeprefix(b"data: ").strip()
        if data == b"[DONE]":
            return pieces
        event = json.loads(data)
        if "error" in event:
            raise ControlPlaneError(f"the stream ended with an error: {event['error']}")
        for choice in event["choices"]:
            piece = choice["delta"].get("content")
            if piece:
                pieces.append(piece)
                show(piece)
    # http.client does not tell a connection that was cut from the end of the answer.
    raise ControlPlaneError(f"the stream was cut after {len(pieces)} pieces")


def _start(body: bytes) -> str:
    return body.decode(errors="replace")[:_SHOWN_CHARACTERS]
