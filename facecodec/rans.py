"""Symbols and integer tables <-> rANS words: section "Range coding (rANS)" of bitstream_spec.md.

A group is a run of symbols that share one table, and the unit of every call: that is what makes this fast.
Both directions list groups in decode order.

A plain stream is as short as can be: whoever reads it must know the number of its symbols, and have it whole.
An embedded stream costs about two bytes more, may hold fewer symbols than asked for, and may be cut anywhere:
its decoder knows which symbols are certain, and hands out those and no other. Damage can look like a cut, so
a checksum has to tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import constriction
import numpy as np
from numpy.typing import NDArray

from .errors import CorruptError

MIN_PRECISION = 12
MAX_PRECISION = 16
MAX_ALPHABET = 4096
WORD_BYTES = 4

_FULL = 1 << 32  # the state an embedded stream starts from; one below wants another word
_EMBEDDED_START = np.array([0, 1], np.uint32)  # the coder's form of that state
_NOTHING = np.empty(0, np.int32)

_AnsCoder = constriction.stream.stack.AnsCoder
_Categorical = constriction.stream.model.Categorical
_ANY_TABLE = _Categorical(perfect=False)


class Table:
    """How often each symbol of an alphabet is expected.

    `frequencies`: (n,) integers >= 0, 2 <= n <= 4096, sum 2^k with 12 <= k <= 16; else ValueError.
    Checked once, here; `size` is n. Even a symbol of frequency 0 can be coded, for about 24 bits.
    """

    __slots__ = ("_model", "size")

    def __init__(self, frequencies: NDArray[np.integer[Any]]) -> None:
        self._model = _Categorical(_checked(frequencies, 1), perfect=False)
        self.size = frequencies.size

    def _encode(self, coder: Any, symbols: NDArray[np.int32]) -> None:
        coder.encode_reverse(symbols, self._model)

    def _decode(self, coder: Any, start: int, stop: int) -> NDArray[np.int32]:
        symbols: NDArray[np.int32] = coder.decode(self._model, stop - start)
        return symbols


class Tables:
    """Tables of one alphabet that a group can mix: each of its symbols names its own.

    `frequencies`: (tables, n), each row as for `Table`; else ValueError. `size` is n.
    """

    __slots__ = ("_frequencies", "size")

    def __init__(self, frequencies: NDArray[np.integer[Any]]) -> None:
        self._frequencies = _checked(frequencies, 2)
        self.size = frequencies.shape[1]

    def pick(self, rows: NDArray[np.integer[Any]]) -> Picked:
        """Return the tables of the symbols of a group: those of `rows` (count,)."""
        return Picked(self, rows)


class Picked:
    """A table for each symbol of a group, from `Tables.pick`; the same stream as with each symbol a group."""

    __slots__ = ("_rows", "_tables", "size")

    def __init__(self, tables: Tables, rows: NDArray[np.integer[Any]]) -> None:
        self._tables, self._rows = tables, rows
        self.size = tables.size

    def _encode(self, coder: Any, symbols: NDArray[np.int32]) -> None:
        coder.encode_reverse(symbols, _ANY_TABLE, self._tables._frequencies.take(self._rows, 0))

    def _decode(self, coder: Any, start: int, stop: int) -> NDArray[np.int32]:
        frequencies = self._tables._frequencies.take(self._rows[start:stop], 0)
        symbols: NDArray[np.int32] = coder.decode(_ANY_TABLE, frequencies)
        return symbols


Group: TypeAlias = tuple[NDArray[np.integer[Any]], Table | Picked]


def encode(groups: Sequence[Group]) -> bytes:
    """Code groups as a plain stream.

    Each group is (symbols, table): (count,) integers in 0 ... table.size - 1, else ValueError.
    Returns whole words, possibly none.
    """
    return encode_reverse(reversed(groups))


def encode_reverse(groups: Iterable[Group]) -> bytes:
    """Do as `encode`, given the last group first: none of them need be there before its turn."""
    return _encode(_AnsCoder(), groups)


def encode_embedded(groups: Sequence[Group]) -> bytes:
    """Code groups as an embedded stream, every prefix of which can be decoded.

    Each group is (symbols, table): (count,) integers in 0 ... table.size - 1, else ValueError.
    Returns whole words, at least two.
    """
    return encode_embedded_reverse(reversed(groups))


def encode_embedded_reverse(groups: Iterable[Group]) -> bytes:
    """Do as `encode_embedded`, given the last group first: none of them need be there before its turn."""
    return _encode(_AnsCoder(_EMBEDDED_START), groups)


class Decoder:
    """Reads a plain stream, given as the bytes of all its words; CorruptError if they cannot be one."""

    def __init__(self, data: bytes) -> None:
        if len(data) % WORD_BYTES:
            raise CorruptError(f"a stream of {len(data)} bytes is not made of whole words")
        self._coder = _AnsCoder(_words(data))

    def take(self, count: int, table: Table | Picked) -> NDArray[np.int32]:
        """Return the next `count` symbols, (count,) int32; past the end of the stream they are arbitrary."""
        return table._decode(self._coder, 0, count)

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

    def take(self, count: int, table: Table | Picked) -> NDArray[np.int32]:
        """Return the next `count` symbols, int32, or fewer, down to none, where the stream ends."""
        if self.exhausted:
            return _NOTHING
        before = self._coder.pos()
        symbols = table._decode(self._coder, 0, count)
        self.exhausted = _at_end(self._coder)
        if not self.exhausted:
            return symbols
        certain, end = 0, count
        while end - certain > 1:
            middle = (certain + end) // 2
            again = _AnsCoder(self._words)
            again.seek(*before)
            table._decode(again, certain, middle)
            if _at_end(again):
                end = middle
            else:
                certain, before = middle, again.pos()
        return symbols[:end]

    def finish(self) -> None:
        """Raise CorruptError unless the stream has no more certain symbols than were taken."""
        if not self.exhausted:
            raise CorruptError("the embedded stream does not end where its last symbol does")


def _checked(frequencies: NDArray[np.integer[Any]], dimensions: int) -> NDArray[np.float64]:
    """Return frequencies (..., n) as the coder wants them; ValueError unless each row makes a table."""
    if frequencies.ndim != dimensions or frequencies.dtype.kind not in "iu":
        raise ValueError(f"frequencies are integers of {dimensions} dimensions")
    symbols = frequencies.shape[-1]
    if not 2 <= symbols <= MAX_ALPHABET:
        raise ValueError(f"an alphabet has 2 to {MAX_ALPHABET} symbols, not {symbols}")
    if not 0 <= frequencies.min(initial=0) <= frequencies.max(initial=0) <= 1 << MAX_PRECISION:
        raise ValueError("frequencies are not negative, nor above 2^16")
    totals = np.atleast_1d(frequencies.sum(-1, dtype=np.int64))
    fits = (totals & -totals == totals) & (totals >= 1 << MIN_PRECISION) & (totals <= 1 << MAX_PRECISION)
    if not fits.all():
        raise ValueError(f"frequencies add up to 2^12 ... 2^16, not to {totals[~fits][0]}")
    return np.ascontiguousarray(frequencies, np.float64)


def _encode(coder: Any, groups: Iterable[Group]) -> bytes:
    for symbols, table in groups:
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < table.size:
            raise ValueError(f"a symbol is outside its alphabet of {table.size}")
        table._encode(coder, np.ascontiguousarray(symbols, np.int32))
    words: NDArray[np.uint32] = coder.get_compressed()
    del coder  # as large as its words
    return words[::-1].astype("<u4", copy=False).tobytes()


def _words(data: bytes) -> NDArray[np.uint32]:
    """Bring words from file order into the coder's, which reads the last one first."""
    if data[:WORD_BYTES] == bytes(WORD_BYTES):
        raise CorruptError("the first word of a stream is never 0")
    return np.ascontiguousarray(np.frombuffer(data, "<u4")[::-1], np.uint32)


def _at_end(coder: Any) -> bool:
    words, state = coder.pos()
    return bool(words == 0 and state <= _FULL)
