"""Symbols and integer tables <-> rANS words: section "Range coding (rANS)" of bitstream_spec.md.

A group is a run of symbols that share one table, and the unit of every call: that is what makes this fast.
Both directions list groups in decode order.

A plain stream has all symbols that its decoder asks for. An embedded one, which may hold fewer and may be cut
anywhere, is made alike: its decoder knows which symbols are certain, and hands out those and no other. Damage
can look like an end, so a checksum has to tell them apart.
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

_FULL = 1 << 32  # a state below wants another word
_LEFT_OUT = 2  # bytes of 0 at the end of a stream
_CLOSE = 1 << 16  # what a coder of such a stream starts from is below
_TRIES = 16
_SEARCHED = 1 << 14  # symbols, of those that are coded first
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
    """Code groups as a stream, every prefix of which can be decoded.

    Each group is (symbols, table): (count,) integers in 0 ... table.size - 1, else ValueError.
    """
    return encode_reverse(reversed(groups))


def encode_reverse(groups: Iterable[Group]) -> bytes:
    """Do as `encode`, given the last group first: none of them need be there before its turn.

    Whatever the coder starts from below 2^16 takes nothing, as even one symbol takes more. That number is
    chosen so that the stream ends with two bytes of 0, which are left out.
    """
    groups = iter(groups)
    coder, last, kept = _AnsCoder(), [], 0
    for group in groups:
        _push(coder, group)
        last.append(group)
        kept += group[0].size
        if coder.pos()[0] or kept > _SEARCHED:
            break
    start = _start(last) if kept <= _SEARCHED else None
    if start:
        coder = _AnsCoder(np.array([start], np.uint32))
        for group in last:
            _push(coder, group)
    del last
    for group in groups:
        _push(coder, group)
    words: NDArray[np.uint32] = coder.get_compressed()
    del coder  # as large as its words
    data = words[::-1].astype(">u4", copy=False).tobytes().lstrip(b"\0")
    return data[:-_LEFT_OUT] if start is not None else data and b"\0" + data


def _start(groups: Sequence[Group]) -> int | None:
    """Return from where to code groups, the last one first, so that two bytes of 0 come out first, if so."""
    start = 0
    for _ in range(_TRIES):
        coder = _AnsCoder(np.array([start], np.uint32)) if start else _AnsCoder()
        for group in groups:
            _push(coder, group)
        words = coder.get_compressed()
        if not words.size:
            return None
        low = int(words[0]) % _CLOSE
        if not low:
            return start
        start = (start - low) % _CLOSE
    return None


def _push(coder: Any, group: Group) -> None:
    symbols, table = group
    if symbols.size and not 0 <= symbols.min() <= symbols.max() < table.size:
        raise ValueError(f"a symbol is outside its alphabet of {table.size}")
    table._encode(coder, np.ascontiguousarray(symbols, np.int32))


class Decoder:
    """Reads a plain stream, given all of its bytes; CorruptError if they cannot be one."""

    def __init__(self, data: bytes) -> None:
        words, self._close = _words(data, 0)
        self._coder = _AnsCoder(words)

    def take(self, count: int, table: Table | Picked) -> NDArray[np.int32]:
        """Return the next `count` symbols, (count,) int32; past the end of the stream they are arbitrary."""
        return table._decode(self._coder, 0, count)

    def finish(self) -> None:
        """Raise CorruptError unless the symbols taken are exactly those of the stream."""
        if not _at_end(self._coder, self._close):
            raise CorruptError("the stream does not end where its last symbol does")


class EmbeddedDecoder:
    """Reads an embedded stream, or the first bytes of one; CorruptError if they cannot be that.

    `missing` bytes of the stream are not there. `exhausted` is True once every certain symbol has been taken.
    """

    def __init__(self, data: bytes, missing: int = 0) -> None:
        self._words, self._close = _words(data, missing)
        self._coder = _AnsCoder(self._words)
        self.exhausted = _at_end(self._coder, self._close)

    def take(self, count: int, table: Table | Picked) -> NDArray[np.int32]:
        """Return the next `count` symbols, int32, or fewer, down to none, where the stream ends."""
        if self.exhausted:
            return _NOTHING
        before = self._coder.pos()
        symbols = table._decode(self._coder, 0, count)
        self.exhausted = _at_end(self._coder, self._close)
        if not self.exhausted:
            return symbols
        certain, end = 0, count
        while end - certain > 1:
            middle = (certain + end) // 2
            again = _AnsCoder(self._words)
            again.seek(*before)
            table._decode(again, certain, middle)
            if _at_end(again, self._close):
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


def _words(data: bytes, missing: int) -> tuple[NDArray[np.uint32], int]:
    """Return the whole words of a stream of which so many bytes are missing, and what its end is below.

    Words come in the order of the coder, which reads the last one first.
    """
    if data[:1] == b"\0":
        data, left_out, close = data[1:], 0, 1
    else:
        left_out, close = _LEFT_OUT, _CLOSE
    if not data:
        return np.empty(0, np.uint32), close
    if not data[0]:
        raise CorruptError("a stream begins with more than one byte of 0")
    padded = bytes(-(len(data) + missing + left_out) % WORD_BYTES) + data
    if missing:
        padded, close = padded[: len(padded) // WORD_BYTES * WORD_BYTES], _FULL
    else:
        padded += bytes(left_out)
    return np.ascontiguousarray(np.frombuffer(padded, ">u4")[::-1], np.uint32), close


def _at_end(coder: Any, close: int) -> bool:
    words, state = coder.pos()
    return bool(words == 0 and state < close)
