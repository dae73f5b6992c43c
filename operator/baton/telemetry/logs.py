"""Structured logs on the standard library's logging: one line an entry, message first, then key=value or JSON.

Declares no logger and decides on no entry: modules log through `event` or through logging itself.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    ExceptionInfo = (
        bool | BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    )

_FIELDS = "baton_fields"
_BARE = re.compile(r"[^\s\"=\\\x00-\x1f\x7f]+")
_RESERVED = frozenset({"time", "level", "logger", "message", "stack"})


def configure(level: str, format: Literal["text", "json"] = "text", *, stream: TextIO | None = None) -> None:  # noqa: A002
    """Send every log entry from this level up to the stream (standard error) in this format.

    Replaces what the root logger had. `level` is a name such as "INFO", in either case; ValueError for another.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    root.setLevel(level.upper())
    root.handlers[:] = [handler]


def event(
    logger: logging.Logger,
    level: int,
    message: str,
    *arguments: object,
    exc_info: ExceptionInfo | None = None,
    **fields: object,
) -> None:
    """Log a message with %-style arguments and fields. Nothing is formatted unless the entry is written."""
    if logger.isEnabledFor(level):
        logger.log(level, message, *arguments, exc_info=exc_info, extra={_FIELDS: fields}, stacklevel=2)


class TextFormatter(logging.Formatter):
    """Writes `time LEVEL logger message key=value ...`, with values quoted as in JSON where they need it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the entry's line."""
        head = f"{_time_of(record)} {record.levelname} {record.name} {_escaped(record.getMessage())}"
        return " ".join([head, *(f"{name}={_quoted(value)}" for name, value in _fields_of(self, record))])


class JsonFormatter(logging.Formatter):
    """Writes one JSON object a line: time, level, logger, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the entry's line."""
        entry: dict[str, object] = {
            "time": _time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update(_fields_of(self, record))
        return json.dumps(entry, default=str, ensure_ascii=False)


def _fields_of(formatter: logging.Formatter, record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    for name, value in getattr(record, _FIELDS, {}).items():
        yield (f"{name}_" if name in _RESERVED else name), value
    if record.exc_info:
        yield "stack", formatter.formatException(record.exc_info)


def _time_of(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03}Z"


def _escaped(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r")


def _quoted(value: object) -> str:
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
