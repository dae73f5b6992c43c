"""What a simulated engine process is told at start. Reads no environment and opens nothing."""

from __future__ import annotations

from dataclasses import dataclass

ANY_MODEL = "*"
_HIGHEST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSettings:
    """Settings of all the engines of one process.

    Attributes:
        host: address to listen on. The default answers for every address of the machine, 127.0.0.0/8 included.
        ports: TCP ports to listen on; 0 lets the system choose one.
        models: served model names. "*" accepts any name and is not listed.
        tokens_per_second: decode rate of each request; 0 is as fast as possible.
        prefill_tokens_per_second: prompt tokens an engine computes, one prompt at a time; 0 takes no time.
        seed: equal seeds give equal answers on all engines, as equal weights do.
        kv_timeout: seconds that unfetched KV is held. 480 is vLLM's default abort timeout.
        max_model_len: tokens of prompt and answer together.
        kv_blocks: capacity of an engine in blocks.
        block_size: tokens a block holds. 128 is what vLLM-Ascend uses.
        eos_rate: chance of each token to be the end of the answer, whatever max_tokens says; 0 to 1.
    """

    host: str = "0.0.0.0"
    ports: tuple[int, ...] = (8000,)
    models: tuple[str, ...] = (ANY_MODEL,)
    tokens_per_second: float = 0.0
    prefill_tokens_per_second: float = 0.0
    seed: int = 0
    kv_timeout: float = 480.0
    max_model_len: int = 131072
    kv_blocks: int = 8192
    block_size: int = 128
    eos_rate: float = 0.0

    @property
    def listed_models(self) -> tuple[str, ...]:
        """The names /v1/models shows."""
        return tuple(model for model in self.models if model != ANY_MODEL)

    def has_model(self, name: str) -> bool:
        """Tell whether a request for this model is served."""
        return ANY_MODEL in self.models or name in self.models


def parse_ports(text: str) -> tuple[int, ...]:
    """Read "7100-7115,8000" as its ports, in that order, each once.

    Raises:
        ValueError: a part is no port and no rising range of ports.
    """
    ports: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_port(first) or (dash and not _is_port(last)):
            raise ValueError(f"{part.strip()!r} is no port and no range of ports such as 7100-7115")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers:
            raise ValueError(f"the range {part.strip()!r} ends before it starts")
        ports.update(dict.fromkeys(numbers))
    return tuple(ports)


def format_ports(ports: tuple[int, ...]) -> str:
    """Write ports as parse_ports reads them, neighbours as ranges."""
    ranges: list[tuple[int, int]] = []
    for port in ports:
        if ranges and port == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], port)
        else:
            ranges.append((port, port))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= _HIGHEST_PORT
