"""The tokenizer and the language model: text to token ids and back, and the next token after a history.

Pure. The next token depends on the seed, the model's name and all tokens so far, and on nothing else. So an answer that
broke off goes on exactly on any other engine, whether the replay sends token ids or text.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

END_OF_ANSWER: Final = 0
"""The token that ends an answer. It has no text."""

# 256 words, so that one byte of a digest picks one.
_WORDS: Final = (
    "river stone garden morning window silver forest little mountain quiet summer bridge letter orange winter "
    "harbour lantern meadow copper thunder village candle paper shadow island feather market yellow engine basket "
    "cloud story autumn pebble kitchen travel gentle ocean needle purple rabbit signal temple valley whisper anchor "
    "barley cedar dancer ember falcon glacier hollow ivory jasmine kettle linen marble nutmeg olive pepper quarry "
    "ribbon saddle timber umbrella velvet willow yonder zephyr acorn beacon canyon desert elbow fiddle grain hammer "
    "inlet jungle kernel ladder magnet nectar orchard parcel quilt rocket sailor tunnel urchin violet wagon amber "
    "blossom cotton drizzle eagle fabric gravel heather iron jacket kingdom lemon mirror northern oyster pillow "
    "quartz rustle spring tiger under vessel walnut across bright carry deep early follow green happy inside "
    "journey keep light moves never often plain quick round slowly toward until very where young about begin cold "
    "dream every fresh great high into just known large many near open past rest same then upon voice warm after "
    "below clear down even fair gold half idea joined kind long made night once part quite rain still time used "
    "view wide again being come does each find give hear itself join know leave much name over place right small "
    "turn unless visit water along became change draw ends field grow heart image later moon nice order point read "
    "stand tall unit value wave around beyond circle distant eastern flower ground hidden instead lively modern "
    "noble outer patient rapid simple tender usual vivid western ancient broad crystal double endless famous golden "
    "humble jolly"
)

_FIRST_WORD: Final = 1024
WORD_PIECES: Final = tuple(f" {word}" for word in _WORDS.split())
"""The text of every token an answer can have, in the order of their ids."""

# Any other text is cut into pieces of up to three bytes; a leading 1 keeps their length, so each has an id of its own.
_PIECE_BYTES: Final = 3
VOCABULARY_SIZE: Final = 2 << 8 * _PIECE_BYTES
_MARKER: Final = b"\x01"

_WORD_IDS: Final = {piece.encode(): token for token, piece in enumerate(WORD_PIECES, _FIRST_WORD)}
# Every piece of an answer starts with a space and every space starts a segment: text appended to a prompt
# never changes how the prompt is cut. Long runs are cut too, which bounds what the cache holds.
_SEGMENT: Final = re.compile(rb" ?[^ ]{1,48}| ")
_LITTLE_ENDIAN: Final = struct.Struct("<I")

# An answer without max_tokens has between these numbers of words; between them each word may be the last.
SHORTEST_ANSWER: Final = 16
LONGEST_ANSWER: Final = 64
_END_CHANCE: Final = 1 / 24


def tokenize(text: str) -> list[int]:
    """Cut text into token ids. Raises UnicodeEncodeError for lone surrogates."""
    return list(chain.from_iterable(map(_segment_tokens, _SEGMENT.findall(text.encode()))))


def detokenize(tokens: Iterable[int]) -> str:
    """Return the text of tokens. Raises ValueError for an id that no text has."""
    return b"".join(_token_bytes(token) for token in tokens).decode()


def word_text(token: int) -> str:
    """Return the text of one token of an answer."""
    return "" if token == END_OF_ANSWER else WORD_PIECES[token - _FIRST_WORD]


@lru_cache(maxsize=1 << 16)
def _segment_tokens(segment: bytes) -> tuple[int, ...]:
    if (word := _WORD_IDS.get(segment)) is not None:
        return (word,)
    return tuple(
        int.from_bytes(_MARKER + segment[start : start + _PIECE_BYTES], "big")
        for start in range(0, len(segment), _PIECE_BYTES)
    )


def _token_bytes(token: int) -> bytes:
    if token == END_OF_ANSWER:
        return b""
    if _is_word(token):
        return WORD_PIECES[token - _FIRST_WORD].encode()
    marked = token.to_bytes(_PIECE_BYTES + 1, "big").lstrip(b"\0") if 0 < token < VOCABULARY_SIZE else b""
    if len(marked) < 2 or marked[:1] != _MARKER:
        raise ValueError(f"{token} is no token id")
    return marked[1:]


def _is_word(token: int) -> bool:
    return _FIRST_WORD <= token < _FIRST_WORD + len(WORD_PIECES)


@dataclass(frozen=True, slots=True)
class Ending:
    """When an answer may end by itself: each token with chance rate, and at its natural length if nothing limits it."""

    rate: float = 0.0
    has_natural_length: bool = False


NO_ENDING: Final = Ending()


class History:
    """All tokens of one sequence so far, as a running hash."""

    __slots__ = ("_hash", "_words")

    def __init__(self, *, seed: int, model: str, prompt: Sequence[int]) -> None:
        self._hash = blake2b(f"{seed}\0{model}\0".encode(), digest_size=16)
        self._hash.update(struct.pack(f"<{len(prompt)}I", *prompt))
        self._words = 0
        for token in reversed(prompt):
            if not _is_word(token):
                break
            self._words += 1

    @property
    def fingerprint(self) -> str:
        """A hexadecimal digest that equal histories share: what tells the KV of one prompt from another's."""
        return self._hash.hexdigest()

    def draw(self, ending: Ending = NO_ENDING) -> int:
        """Return the next token and append it."""
        digest = int.from_bytes(self._hash.digest(), "big")
        if ending is not NO_ENDING and self._is_over(ending, digest >> 8):
            token = END_OF_ANSWER
            self._words = 0
        else:
            token = _FIRST_WORD + digest % len(WORD_PIECES)
            self._words += 1
        self._hash.update(_LITTLE_ENDIAN.pack(token))
        return token

    def _is_over(self, ending: Ending, chance: int) -> bool:
        if (chance & 0xFFFF) / 0x10000 < ending.rate:
            return True
        # The words at the end of the history are the answer so far, also after a replay that sent them as prompt.
        if not ending.has_natural_length or self._words < SHORTEST_ANSWER:
            return False
        return self._words >= LONGEST_ANSWER or (chance >> 16 & 0xFFFF) / 0x10000 < _END_CHANCE
