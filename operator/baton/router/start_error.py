"""Why a router cannot start. Holds no reason: whoever finds one raises it."""

from __future__ import annotations


class StartError(Exception):
    """The router cannot start; the message names the thing and the cure."""
