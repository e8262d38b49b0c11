"""Symbols and integer tables <-> rANS words: section "Range coding (rANS)" of bitstream_spec.md.

A group is a run of symbols that share one table, and the unit of every call: that is what makes this fast.
Both directions list groups in decode order.

A plain stream is as short as can be: whoever reads it must know the number of its symbols, and have it whole.
An embedded stream costs about two bytes more, may hold fewer symbols than asked for, and may be cut anywhere:
its decoder knows which symbols are certain, and hands out those and no other. Damage can look like a cut, so
a checksum has to tell them apart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from .errors import CorruptError

MIN_PRECISION = 12
MAX_PRECISION = 16
MAX_ALPHABET = 4096
WORD_BYTES = 4

_TOTALS = frozenset(1 << precision for precision in range(MIN_PRECISION, MAX_PRECISION + 1))
_FULL = 1 << 32  # the state an embedded stream starts from; one below wants another word
_EMBEDDED_START = np.array([0, 1], np.uint32)  # the coder's form of that state
_NOTHING = np.empty(0, np.int32)

_AnsCoder = constriction.stream.stack.AnsCoder
_Categorical = constriction.stream.model.Categorical


class Table:
    """How often each symbol of an alphabet is expected.

    `frequencies`: (n,) integers >= 0, 2 <= n <= 4096, sum 2^k with 12 <= k <= 16; else ValueError.
    Checked once, here; `size` is n. Even a symbol of frequency 0 can be coded, for about 24 bits.
    """

    __slots__ = ("_model", "size")

    def __init__(self, frequencies: NDArray[np.integer[Any]]) -> None:
        if frequencies.ndim != 1 or frequencies.dtype.kind not in "iu":
            raise ValueError("frequencies are one row of integers")
        if not 2 <= frequencies.size <= MAX_ALPHABET:
            raise ValueError(f"an alphabet has 2 to {MAX_ALPHABET} symbols, not {frequencies.size}")
        total = sum(frequencies.tolist())
        if frequencies.min() < 0 or total not in _TOTALS:
            raise ValueError(f"frequencies are not negative and add up to 2^12 ... 2^16, not to {total}")
        self.size = frequencies.size
        self._model = _Categorical(np.ascontiguousarray(frequencies, np.float64), perfect=False)


Group = tuple[NDArray[np.integer[Any]], Table]


def encode(groups: Sequence[Group]) -> bytes:
    """Code groups as a plain stream.

    Each group is (symbols, table): (count,) integers in 0 ... table.size - 1, else ValueError.
    Returns whole words, possibly none.
    """
    return _encode(_AnsCoder(), groups)


def encode_embedded(groups: Sequence[Group]) -> bytes:
    """Code groups as an embedded stream, every prefix of which can be decoded.

    Each group is (symbols, table): (count,) integers in 0 ... table.size - 1, else ValueError.
    Returns whole words, at least two.
    """
    return _encode(_AnsCoder(_EMBEDDED_START), groups)


class Decoder:
    """Reads a plain stream, given as the bytes of all its words; CorruptError if they cannot be one."""

    def __init__(self, data: bytes) -> None:
        if len(data) % WORD_BYTES:
            raise CorruptError(f"a stream of {len(data)} bytes is not made of whole words")
        self._coder = _AnsCoder(_words(data))

    def take(self, count: int, table: Table) -> NDArray[np.int32]:
        """Return the next `count` symbols, (count,) int32; past the end of the stream they are arbitrary."""
        symbols: NDArray[np.int32] = self._coder.decode(table._model, count)
        return symbols

    def finish(self) -> None:
        """Raise CorruptError unless the symbols taken are exactly those of the stream."""
        if self._coder.pos() != (0, 0):
            raise CorruptError("the stream does not end where its last symbol does")


class EmbeddedDecoder:
    """Reads an embedded stream, or the first bytes of one; CorruptError if they cannot be that.

    `exhausted` is True once every certain symbol has been taken.
    """

    def __init__(self, data: bytes) -> None:
        self._words = _words(data[: len(data) - len(data) % WORD_BYTES])
        self._coder = _AnsCoder(self._words)
        self.exhausted = _at_end(self._coder)

    def take(self, count: int, table: Table) -> NDArray[np.int32]:
        """Return the next `count` symbols, int32, or fewer, down to none, where the stream ends."""
        if self.exhausted:
            return _NOTHING
        before = self._coder.pos()
        symbols: NDArray[np.int32] = self._coder.decode(table._model, count)
        self.exhausted = _at_end(self._coder)
        if not self.exhausted:
            return symbols

        def at_end_after(certain: int) -> bool:
            again = _AnsCoder(self._words)
            again.seek(*before)
            again.decode(table._model, certain)
            return _at_end(again)

        return symbols[: bisect_left(range(count), True, key=at_end_after)]

    def finish(self) -> None:
        """Raise CorruptError unless the stream has no more certain symbols than were taken."""
        if not self.exhausted:
            raise CorruptError("the embedded stream does not end where its last symbol does")


def _encode(coder: Any, groups: Sequence[Group]) -> bytes:
    for symbols, table in reversed(groups):
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < table.size:
            raise ValueError(f"a symbol is outside its alphabet of {table.size}")
        coder.encode_reverse(np.ascontiguousarray(symbols, np.int32), table._model)
    words: NDArray[np.uint32] = coder.get_compressed()
    return words[::-1].astype("<u4").tobytes()


def _words(data: bytes) -> NDArray[np.uint32]:
    """Bring words from file order into the coder's, which reads the last one first."""
    if data[:WORD_BYTES] == bytes(WORD_BYTES):
        raise CorruptError("the first word of a stream is never 0")
    return np.ascontiguousarray(np.frombuffer(data, "<u4")[::-1], np.uint32)


def _at_end(coder: Any) -> bool:
    words, state = coder.pos()
    return bool(words == 0 and state <= _FULL)
