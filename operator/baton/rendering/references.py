"""References such as `$(POD_IP)` to values that are known only in the pod, in Kubernetes' notation.

Everything rendered is text with such references; the launch script gets shell variables for them, `launches` gets
the values that are known offline. Text that looks alike but names nothing known stays as it is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Final

_SHELL: Final[Mapping[str, str]] = {
    "POD_IP": '"${POD_IP}"',
    "GROUP_NAME": '"${GROUP_NAME}"',
    "ROLE_ID": '"${ROLE_ID}"',
    "WORKER_INDEX": '"${WORKER_INDEX}"',
    "ENTRY_ADDRESS": '"${ENTRY_ADDRESS}"',
    # An empty entry in it would be the working directory.
    "LD_LIBRARY_PATH": '"${LD_LIBRARY_PATH:-/usr/local/lib}"',
    "LD_PRELOAD": '"${LD_PRELOAD-}"',
    "devices": '"${devices}"',
    "engine_id": '"${engine_id}"',
    "entry_ip": '"${entry_ip}"',
    "interface": '"${interface}"',
    "port": '"${port}"',
    "rank": '"${rank}"',
}
"""What a reference is in the launch script: upper case comes from the pod, lower case from the script itself."""

_REFERENCE: Final = re.compile(r"\$\((" + "|".join(_SHELL) + r")\)")


def names_in(texts: Iterable[str]) -> frozenset[str]:
    """Return the names that the texts refer to."""
    return frozenset(name for text in texts for name in _REFERENCE.findall(text))


def quote(text: str) -> str:
    """Return one bash word: the text quoted, its references as variables."""
    parts = _REFERENCE.split(text)
    words = [_SHELL[part] if place % 2 else shlex.quote(part) for place, part in enumerate(parts) if place % 2 or part]
    return "".join(words) or "''"


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Put in the values that are known and leave the other references."""
    return _REFERENCE.sub(lambda match: values.get(match.group(1), match.group(0)), text)
