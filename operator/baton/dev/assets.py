"""Find files that are package data of an installed wheel and plain directories of a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def find_asset(installed: str, *, checkout: str) -> Path:
    """Return the directory `installed` inside the package, or else `checkout` inside the repository.

    The path is returned whether or not it exists.
    """
    path = _PACKAGE / installed
    return path if path.is_dir() else _PACKAGE.parents[1] / checkout
