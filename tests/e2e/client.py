"""Streams chats from inside the cluster and prints a JSON record of each. Runs in a pod: standard library only.

CLIENT in the environment is JSON: `address` of the router, `cases` (each a body and the text that must come), `streams`
at a time, and `chats` of each stream, 0 to go on until SIGTERM.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from typing import Any

TIMEOUT = 60.0


def chat(address: str, body: dict[str, Any], text: str) -> dict[str, Any]:
    """Send one chat. `problem` of the record says what is wrong with the answer, and is empty if nothing is."""
    record: dict[str, Any] = {"started": time.monotonic(), "text": "", "pieces": 0, "first": None}
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        record |= {side: response.getheader(f"x-baton-{side}", "") for side in ("prefill", "decode")}
        if response.status == http.client.OK:
            record["problem"] = read(response, record) or ("" if record["text"] == text else "another text")
        else:
            record["problem"] = f"status {response.status}: {response.read()[:300]!r}"
    except (OSError, http.client.HTTPException) as error:
        record["problem"] = f"no answer: {error!r}"
    finally:
        connection.close()
    return record | {"ended": time.monotonic()}


def read(response: http.client.HTTPResponse, record: dict[str, Any]) -> str:
    """Read the stream into the record and return what is wrong with its end."""
    reason = None
    for line in response:
        if not line.startswith(b"data: "):
            continue
        data = line.removeprefix(b"data: ").strip()
        if data == b"[DONE]":
            rest = response.read().strip()
            return f"{rest!r} after [DONE]" if rest else "" if reason == "length" else f"finish_reason {reason}"
        event = json.loads(data)
        if "error" in event:
            return f"error event: {event['error']}"
        for choice in event["choices"]:
            reason = choice.get("finish_reason") or reason
            if piece := choice["delta"].get("content"):
                record["first"] = record["first"] or time.monotonic()
                record["pieces"] += 1
                record["text"] += piece
    return "cut"


def main() -> None:
    settings = json.loads(os.environ["CLIENT"])
    stopping, printing = threading.Event(), threading.Lock()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())

    def work(stream: int) -> None:
        number = 0
        while not stopping.is_set() and (not settings["chats"] or number < settings["chats"]):
            case = settings["cases"][(stream + number) % len(settings["cases"])]
            record = chat(settings["address"], case["body"], case["text"])
            with printing:
                print(json.dumps(record), flush=True)
            number += 1

    threads = [threading.Thread(target=work, args=(stream,)) for stream in range(settings["streams"])]
    for thread in threads:
        thread.start()
    # A signal is handled between two bytecodes of this thread: it must not wait in one call for good.
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.1)


if __name__ == "__main__":
    main()
