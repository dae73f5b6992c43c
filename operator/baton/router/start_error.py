"""Why a router cannot start. Holds no reason: whoever finds one raises it."""

from __future__ import annotations


class StartError(Exception):
    """The router cannot start; the message names the thing and the cure."""


def first_start_error(errors: BaseExceptionGroup[Exception]) -> StartError:
    """Return the first of a group of errors, in its words, for the one message that people get."""
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return StartError(str(first))
