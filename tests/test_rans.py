from __future__ import annotations

import re
from bisect import bisect_right
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecodec.errors import CorruptError
from facecodec.rans import Decoder, EmbeddedDecoder, Table, Tables, encode

SPEC = (Path(__file__).parents[1] / "bitstream_spec.md").read_text(encoding="utf-8")

# The coder of the specification, word for word: words are in stream order, tables one a symbol.


def cumulative(frequencies):
    n, k = len(frequencies), sum(frequencies).bit_length() - 1
    return [(sum(frequencies[:i]) * (2**24 - n) >> k) + i for i in range(n + 1)]


def plain_python_encode(symbols, tables, s=0):
    words = []
    for i, c in zip(reversed(symbols), reversed(tables), strict=True):
        w = c[i + 1] - c[i]
        if s >> 40 >= w:
            words.append(s % 2**32)
            s >>= 32
        s = s // w * 2**24 + c[i] + s % w
    while s > 0:
        words.append(s % 2**32)
        s >>= 32
    return words[::-1]


def plain_python_decode(words, tables, close):
    """Return the symbols, how many of them are certain in an embedded stream, and the last state."""
    words, s = list(words), 0

    def refill():
        return s << 32 | words.pop(0) if s < 2**32 and words else s

    s = refill()
    s = refill()
    symbols, certain = [], 0
    for c in tables:
        certain += s >= close or bool(words)
        q = s % 2**24
        symbols.append(bisect_right(c, q) - 1)
        s = (s >> 24) * (c[symbols[-1] + 1] - c[symbols[-1]]) + q - c[symbols[-1]]
        s = refill()
    return symbols, certain, (len(words), s)


def words_of(data, size=None):
    """Return the whole words of the first bytes of a stream of so many bytes, and what its end is below."""
    size = len(data) if size is None else size
    close = 2**32 if len(data) < size else 1 if data[:1] == b"\0" else 2**16
    if data[:1] == b"\0":
        data, size = data[1:], size - 1
    else:
        size += 2
        data += bytes(2 * (close == 2**16 and len(data) > 0))
    first = size % 4 or 4
    ends = range(first, len(data) + 1, 4)
    return [int.from_bytes(data[max(0, end - 4) : end], "big") for end in ends], close


def flat(groups):
    """Spell groups out: the symbols, and the table of each."""
    symbols = [int(symbol) for run, _ in groups for symbol in run]
    return symbols, [cumulative(f) for run, f in groups for _ in run]


def with_tables(groups):
    return [(run, Table(np.array(f))) for run, f in groups]


@st.composite
def frequency_rows(draw):
    """Rows of 2 to 300 frequencies: even or steep, with and without zeros."""
    n = draw(st.one_of(st.integers(2, 5), st.integers(2, 300)))
    total = 2 ** draw(st.integers(12, 16))
    weights = np.random.default_rng(draw(st.integers(0, 2**32))).gamma(
        draw(st.sampled_from([0.02, 1.0])), size=n
    )
    row = np.floor(weights / max(weights.sum(), 1e-9) * total).astype(int)
    row[draw(st.integers(0, n - 1))] += total - row.sum()
    return row.tolist()


@st.composite
def group_lists(draw):
    """Up to five groups (symbols, frequencies), likely and unlikely symbols mixed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    groups = []
    for f in draw(st.lists(frequency_rows(), max_size=5)):
        count = draw(st.one_of(st.integers(0, 3), st.integers(0, 60)))
        likely = rng.choice(len(f), size=count, p=np.array(f) / sum(f))
        groups.append((np.where(rng.random(count) < 0.9, likely, rng.integers(len(f), size=count)), f))
    return groups


@given(group_lists())
def test_a_stream_is_the_one_of_the_specification_and_decodes(groups):
    symbols, tables = flat(groups)
    data = encode(with_tables(groups))
    words, close = words_of(data)
    read, certain, (left, start) = plain_python_decode(words, tables, close)
    assert (read, left) == (symbols, 0)
    assert start < close
    assert words == plain_python_encode(symbols, tables, start)
    decoder, embedded = Decoder(data), EmbeddedDecoder(data)
    for run, table in with_tables(groups):
        taken = decoder.take(len(run), table)
        assert taken.dtype == np.int32
        assert taken.tolist() == run.tolist()
        part = embedded.take(len(run), table)
        assert part.dtype == np.int32
        assert part.tolist() == run[: part.size].tolist()
        certain -= part.size
    decoder.finish()
    assert certain == 0
    assert embedded.exhausted
    assert embedded.take(9, Table(np.array([4000, 96]))).size == 0
    embedded.finish()


@given(group_lists())
def test_what_is_left_out_of_a_stream_is_0(groups):
    symbols, tables = flat(groups)
    data = encode(with_tables(groups))
    words, close = words_of(data)
    start = plain_python_decode(words, tables, close)[2][1]
    whole = b"".join(word.to_bytes(4, "big") for word in plain_python_encode(symbols, tables, start))
    short = whole.lstrip(b"\0")
    assert data == (short[:-2] if close > 1 else short and b"\0" + short)
    assert close == 1 or not any(short[-2:])


def test_few_streams_begin_with_0():
    rng = np.random.default_rng(3)
    tables = Tables(np.array([[4096, 8000, 4288], [200, 200, 15984], [5000, 6000, 5384]]))
    long = []
    for size in rng.integers(20, 90, 300):
        rows = rng.integers(3, size=size)
        drawn = (rng.random((size, 1)) > tables._frequencies[rows].cumsum(1) / 2**14).sum(1)
        long.append(encode([(drawn, tables.pick(rows))])[0] == 0)
    assert np.mean(long) < 0.1


@given(group_lists(), st.integers(0, 60))
def test_only_symbols_that_take_next_to_nothing_are_not_certain(groups, count):
    symbols, tables = flat(groups)
    decoder = EmbeddedDecoder(encode(with_tables(groups)))
    taken = [int(symbol) for run, table in with_tables(groups) for symbol in decoder.take(len(run), table)]
    assert taken == symbols[: len(taken)]
    left = plain_python_encode(symbols[len(taken) :], tables[len(taken) :], 0)
    assert len(left) <= 1
    assert sum(left) < 2**16


@given(group_lists())
def test_every_cut_of_a_stream_gives_the_certain_symbols(groups):
    symbols, tables = flat(groups)
    data = encode(with_tables(groups))
    previous = 0
    for size in range(len(data) + 1):
        decoder = EmbeddedDecoder(data[:size], len(data) - size)
        taken = [
            int(symbol) for run, table in with_tables(groups) for symbol in decoder.take(len(run), table)
        ]
        words, close = words_of(data[:size], len(data))
        assert taken == symbols[: plain_python_decode(words, tables, close)[1]]
        assert len(taken) >= previous
        assert decoder.exhausted or len(taken) == len(symbols)
        previous = len(taken)


def test_an_exhausted_decoder_gives_nothing_more_and_finishes():
    table = Table(np.full(64, 64))
    data = encode([(np.arange(64), table)])
    decoder = EmbeddedDecoder(data[:20], len(data) - 20)
    assert decoder.take(64, table).tolist() == list(range(19))
    assert decoder.exhausted
    assert decoder.take(1, table).size == 0
    decoder.finish()


def test_less_than_two_words_of_more_make_nothing_certain():
    data = encode([(SYMBOLS, TABLE)])
    second = (len(data) + 2) % 4 + 4
    for size in range(len(data)):
        assert EmbeddedDecoder(data[:size], len(data) - size).exhausted == (size < second)


def test_the_example_of_the_specification():
    lines = dict(re.findall(r"^    (Frequencies|Symbols|C|Stream) +(.+)$", SPEC, re.MULTILINE))
    frequencies, symbols, c = (
        [int(word) for word in lines[name].split()] for name in ("Frequencies", "Symbols", "C")
    )
    data = bytes.fromhex(lines["Stream"])
    assert cumulative(frequencies) == c
    groups = [(np.array(symbols), Table(np.array(frequencies)))]
    assert encode(groups) == data
    certain = [
        len(EmbeddedDecoder(data[:size], len(data) - size).take(len(symbols), groups[0][1]))
        for size in range(len(data) + 1)
    ]
    assert certain == [0] * 6 + [3] * 2 + [8]
    assert certain[-1] == len(symbols) - 1


def test_the_words_of_version_2_never_change():
    rng = np.random.default_rng(1)
    steep, even = Table(np.array([4093, 0, 1, 2])), Table(np.full(4096, 16))
    groups = [(rng.integers(4, size=3), steep), (rng.integers(4096, size=3), even), (np.zeros(9, int), steep)]
    assert encode(groups).hex() == "00126effd8cfffcffdc0fff03f"
    assert encode([(SYMBOLS[:20], TABLE)]).hex() == "3b0cb2d24e3c"


def test_no_symbols():
    assert encode([]) == b""
    Decoder(b"").finish()
    EmbeddedDecoder(b"").finish()


DECODERS = [pytest.param(Decoder, id="plain"), pytest.param(EmbeddedDecoder, id="embedded")]


@pytest.mark.parametrize("decoder_class", DECODERS)
@given(groups=group_lists(), bit=st.integers(0, 10_000))
def test_a_flipped_bit_is_found_or_an_end_or_makes_the_stream_of_other_symbols(decoder_class, groups, bit):
    stream = bytearray(encode(with_tables(groups)))
    if not stream:
        return
    stream[bit // 8 % len(stream)] ^= 1 << bit % 8
    try:
        decoder = decoder_class(bytes(stream))
        taken = [(decoder.take(len(run), table), table) for run, table in with_tables(groups)]
        decoder.finish()
    except CorruptError:
        return
    if decoder_class is Decoder:
        words, close = words_of(bytes(stream))
        symbols, tables = flat([(run, f) for (run, _), (_, f) in zip(taken, groups, strict=True)])
        start = plain_python_decode(words, tables, close)[2][1]
        assert start < close
        assert words == plain_python_encode(symbols, tables, start)


SYMBOLS = np.arange(40) % 4
TABLE = Table(np.array([1000, 1000, 1000, 1096]))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-4], id="a word short"),
        pytest.param(lambda data: data + b"\1\2\3\4", id="a word long"),
        pytest.param(lambda data: data + bytes(4), id="a zero word long"),
        pytest.param(lambda data: bytes([data[0] ^ 4]) + data[1:], id="a flipped bit"),
        pytest.param(lambda data: data[:-1], id="a byte short"),
        pytest.param(lambda data: bytes(1) + data, id="without what is left out"),
        pytest.param(lambda data: bytes(2) + data, id="two bytes of 0"),
    ],
)
def test_a_damaged_plain_stream_is_refused(damage):
    data = encode([(SYMBOLS, TABLE)])
    with pytest.raises(CorruptError):
        decoder = Decoder(damage(data))
        decoder.take(len(SYMBOLS), TABLE)
        decoder.finish()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data + b"\1\2\3\4", id="a word long"),
        pytest.param(lambda data: data[:3] + b"\xff" + data[4:], id="a byte set"),
        pytest.param(lambda data: bytes(2) + data, id="two bytes of 0"),
    ],
)
def test_a_damaged_embedded_stream_is_refused(damage):
    data = encode([(SYMBOLS, TABLE)])
    with pytest.raises(CorruptError):
        decoder = EmbeddedDecoder(damage(data))
        decoder.take(len(SYMBOLS), TABLE)
        decoder.finish()


@pytest.mark.parametrize("decoder_class", DECODERS)
def test_symbols_left_over_are_refused(decoder_class):
    decoder = decoder_class(encode([(SYMBOLS, TABLE)]))
    decoder.take(len(SYMBOLS) - 1, TABLE)
    with pytest.raises(CorruptError):
        decoder.finish()


@pytest.mark.parametrize("symbol", [-1, 4, 2**32 + 1])
def test_a_symbol_outside_its_alphabet_cannot_be_encoded(symbol):
    with pytest.raises(ValueError, match="alphabet"):
        encode([(np.array([0, symbol]), TABLE)])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_symbols_of_any_integer_type_and_memory_order_are_the_same(dtype):
    backwards = SYMBOLS.astype(dtype)[::-1]
    assert encode([(backwards, TABLE)]) == encode([(backwards.astype(np.int32).copy(), TABLE)])


@pytest.mark.parametrize(
    "frequencies",
    [
        pytest.param(np.array([4096]), id="one symbol"),
        pytest.param(np.ones(4097, int), id="too many symbols"),
        pytest.param(np.array([2000, 2095]), id="no power of two"),
        pytest.param(np.array([1024, 1024]), id="too coarse"),
        pytest.param(np.array([65536, 65536]), id="too fine"),
        pytest.param(np.array([4097, -1]), id="negative"),
        pytest.param(np.array([2048.0, 2048.0]), id="floats"),
        pytest.param(np.full((2, 2), 1024), id="two rows"),
    ],
)
def test_a_table_that_cannot_be_is_refused(frequencies):
    with pytest.raises(ValueError, match=r"frequencies|alphabet"):
        Table(frequencies)


def test_a_table_keeps_its_own_copy_and_knows_its_size():
    frequencies = np.array([[4000, 1], [96, 1]])[:, 0]
    table = Table(frequencies)
    before = encode([(np.array([0, 1, 1]), table)])
    frequencies[:] = 2048
    assert table.size == 2
    assert (
        encode([(np.array([0, 1, 1]), table)])
        == before
        == encode([(np.array([0, 1, 1]), Table(np.array([4000, 96])))])
    )


ROWS = np.array([[4096, 0, 0], [1, 1, 4094], [1365, 1366, 1365], [60000, 5000, 536], [4095, 1, 0]])
mixed = st.lists(st.tuples(st.integers(0, 2), st.integers(0, len(ROWS) - 1)), max_size=60)


@given(mixed)
def test_picked_tables_code_as_if_each_symbol_were_a_group(pairs):
    symbols, rows = np.array(pairs, np.uint8).reshape(-1, 2).T
    whole = [(symbols, Tables(ROWS).pick(rows))]
    single = [(symbols[i : i + 1], Table(ROWS[row])) for i, row in enumerate(rows.tolist())]
    assert encode(whole) == encode(single)
    data = encode(whole)
    decoder = Decoder(data)
    assert decoder.take(len(rows), Tables(ROWS).pick(rows)).tolist() == symbols.tolist()
    decoder.finish()
    for size in range(len(data) + 1):
        at_once, one_by_one = (EmbeddedDecoder(data[:size], len(data) - size) for _ in range(2))
        taken = at_once.take(len(rows), Tables(ROWS).pick(rows)).tolist()
        assert taken == [int(s) for _, table in single for s in one_by_one.take(1, table)]
        assert taken == symbols[: len(taken)].tolist()


@pytest.mark.parametrize("row", [[4096, -1, 1], [2000, 95, 2000], [2**40, 2, 2]])
def test_tables_of_which_one_cannot_be_are_refused(row):
    with pytest.raises(ValueError, match="frequencies"):
        Tables(np.array([[4094, 1, 1], row]))
    with pytest.raises(ValueError, match="frequencies"):
        Tables(np.array(row))
