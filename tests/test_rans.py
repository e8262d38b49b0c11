from __future__ import annotations

import re
from bisect import bisect_right
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecodec.errors import CorruptError
from facecodec.rans import Decoder, EmbeddedDecoder, Table, Tables, encode, encode_embedded

SPEC = (Path(__file__).parents[1] / "bitstream_spec.md").read_text(encoding="utf-8")

# The coder of the specification, word for word: words are in stream order, tables one a symbol.


def cumulative(frequencies):
    n, k = len(frequencies), sum(frequencies).bit_length() - 1
    return [(sum(frequencies[:i]) * (2**24 - n) >> k) + i for i in range(n + 1)]


def plain_python_encode(symbols, tables, s):
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


def plain_python_decode(words, tables):
    """Return the symbols, how many of them are certain in an embedded stream, and the last state."""
    words, s = list(words), 0

    def refill():
        return s << 32 | words.pop(0) if s < 2**32 and words else s

    s = refill()
    s = refill()
    symbols, certain = [], 0
    for c in tables:
        certain += s > 2**32 or bool(words)
        q = s % 2**24
        symbols.append(bisect_right(c, q) - 1)
        s = (s >> 24) * (c[symbols[-1] + 1] - c[symbols[-1]]) + q - c[symbols[-1]]
        s = refill()
    return symbols, certain, (len(words), s)


def words_of(data):
    return np.frombuffer(data, "<u4").tolist()


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
def test_a_plain_stream_is_the_one_of_the_specification_and_decodes(groups):
    symbols, tables = flat(groups)
    data = encode(with_tables(groups))
    assert words_of(data) == plain_python_encode(symbols, tables, 0)
    read, _, end = plain_python_decode(words_of(data), tables)
    assert (read, end) == (symbols, (0, 0))
    decoder = Decoder(data)
    for run, table in with_tables(groups):
        taken = decoder.take(len(run), table)
        assert taken.dtype == np.int32
        assert taken.tolist() == run.tolist()
    decoder.finish()


@given(group_lists())
def test_an_embedded_stream_is_the_one_of_the_specification_and_decodes(groups):
    symbols, tables = flat(groups)
    data = encode_embedded(with_tables(groups))
    assert words_of(data) == plain_python_encode(symbols, tables, 2**32)
    assert plain_python_decode(words_of(data), tables) == (symbols, len(symbols), (0, 2**32))
    decoder = EmbeddedDecoder(data)
    assert decoder.exhausted == (not symbols)
    for run, table in with_tables(groups):
        taken = decoder.take(len(run), table)
        assert taken.dtype == np.int32
        assert taken.tolist() == run.tolist()
    assert decoder.exhausted
    assert decoder.take(9, Table(np.array([4000, 96]))).size == 0
    decoder.finish()


@given(group_lists())
def test_every_cut_of_an_embedded_stream_gives_the_certain_symbols(groups):
    symbols, tables = flat(groups)
    data = encode_embedded(with_tables(groups))
    previous = 0
    for size in range(len(data) + 1):
        decoder = EmbeddedDecoder(data[:size])
        taken = [
            int(symbol) for run, table in with_tables(groups) for symbol in decoder.take(len(run), table)
        ]
        certain = plain_python_decode(words_of(data[: size // 4 * 4]), tables)[1]
        assert taken == symbols[:certain]
        assert len(taken) >= previous
        assert decoder.exhausted or len(taken) == len(symbols)
        previous = len(taken)


def test_an_exhausted_decoder_gives_nothing_more_and_finishes():
    table = Table(np.full(64, 64))
    decoder = EmbeddedDecoder(encode_embedded([(np.arange(64), table)])[:20])
    assert decoder.take(64, table).tolist() == list(range(17))
    assert decoder.exhausted
    assert decoder.take(1, table).size == 0
    decoder.finish()


@pytest.mark.parametrize("size", range(8))
def test_less_than_two_words_make_nothing_certain(size):
    assert EmbeddedDecoder(encode_embedded([])[:size]).exhausted


def test_the_example_of_the_specification():
    lines = dict(re.findall(r"^    (Frequencies|Symbols|C|Plain|Embedded) +(.+)$", SPEC, re.MULTILINE))
    frequencies, symbols, c = (
        [int(word) for word in lines[name].split()] for name in ("Frequencies", "Symbols", "C")
    )
    plain, embedded = ([int(word, 16) for word in lines[name].split()] for name in ("Plain", "Embedded"))
    assert cumulative(frequencies) == c
    groups = [(np.array(symbols), Table(np.array(frequencies)))]
    assert words_of(encode(groups)) == plain
    assert words_of(encode_embedded(groups)) == embedded
    certain = [
        len(EmbeddedDecoder(encode_embedded(groups)[: 4 * count]).take(len(symbols), groups[0][1]))
        for count in range(len(embedded) + 1)
    ]
    assert certain == [0, 0, 4, 8]


def test_the_words_of_version_1_never_change():
    rng = np.random.default_rng(1)
    steep, even = Table(np.array([4093, 0, 1, 2])), Table(np.full(4096, 16))
    groups = [(rng.integers(4, size=3), steep), (rng.integers(4096, size=3), even), (np.zeros(9, int), steep)]
    assert encode(groups).hex() == "d8ff6e12fdcfffcf3ff0ffc0"
    assert encode_embedded(groups).hex() == "380d0800fdcfff6cc4d8ff780ceb084e"


def test_no_symbols():
    assert encode([]) == b""
    Decoder(b"").finish()
    assert encode_embedded([]) == bytes.fromhex("01000000 00000000")
    EmbeddedDecoder(encode_embedded([])).finish()


def test_an_embedded_stream_costs_at_most_one_word_more():
    table = Table(np.array([3000, 1000, 96]))
    for count in range(2, 200):
        groups = [(np.arange(count) % 3, table)]
        assert len(encode_embedded(groups)) - len(encode(groups)) in (0, 4)


CODERS = [
    pytest.param(encode, Decoder, id="plain"),
    pytest.param(encode_embedded, EmbeddedDecoder, id="embedded"),
]


@pytest.mark.parametrize(("encoder", "decoder_class"), CODERS)
@given(groups=group_lists(), bit=st.integers(0, 10_000))
def test_a_flipped_bit_is_found_or_a_cut_or_makes_the_stream_of_other_symbols(
    encoder, decoder_class, groups, bit
):
    stream = bytearray(encoder(with_tables(groups)))
    if not stream:
        return
    stream[bit // 8 % len(stream)] ^= 1 << bit % 8
    try:
        decoder = decoder_class(bytes(stream))
        taken = [(decoder.take(len(run), table), table) for run, table in with_tables(groups)]
        decoder.finish()
    except CorruptError:
        return
    assert encoder(taken) == stream or (decoder_class is EmbeddedDecoder and decoder.exhausted)


SYMBOLS = np.arange(40) % 4
TABLE = Table(np.array([1000, 1000, 1000, 1096]))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-4], id="a word short"),
        pytest.param(lambda data: data + b"\1\2\3\4", id="a word long"),
        pytest.param(lambda data: data + bytes(4), id="a zero word long"),
        pytest.param(lambda data: bytes([data[0] ^ 4]) + data[1:], id="a flipped bit"),
        pytest.param(lambda data: data[:-1], id="not whole words"),
        pytest.param(lambda data: bytes(4) + data, id="first word zero"),
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
        pytest.param(lambda data: bytes(4) + data, id="first word zero"),
    ],
)
def test_a_damaged_embedded_stream_is_refused(damage):
    data = encode_embedded([(SYMBOLS, TABLE)])
    with pytest.raises(CorruptError):
        decoder = EmbeddedDecoder(damage(data))
        decoder.take(len(SYMBOLS), TABLE)
        decoder.finish()


@pytest.mark.parametrize(("encoder", "decoder_class"), CODERS)
def test_symbols_left_over_are_refused(encoder, decoder_class):
    decoder = decoder_class(encoder([(SYMBOLS, TABLE)]))
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
    data = encode_embedded(whole)
    assert data == encode_embedded(single)
    decoder = Decoder(encode(whole))
    assert decoder.take(len(rows), Tables(ROWS).pick(rows)).tolist() == symbols.tolist()
    decoder.finish()
    for size in range(len(data) + 1):
        at_once, one_by_one = EmbeddedDecoder(data[:size]), EmbeddedDecoder(data[:size])
        taken = at_once.take(len(rows), Tables(ROWS).pick(rows)).tolist()
        assert taken == [int(s) for _, table in single for s in one_by_one.take(1, table)]
        assert taken == symbols[: len(taken)].tolist()


@pytest.mark.parametrize("row", [[4096, -1, 1], [2000, 95, 2000], [2**40, 2, 2]])
def test_tables_of_which_one_cannot_be_are_refused(row):
    with pytest.raises(ValueError, match="frequencies"):
        Tables(np.array([[4094, 1, 1], row]))
    with pytest.raises(ValueError, match="frequencies"):
        Tables(np.array(row))
