from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecodec.container import MAX_SECTIONS, SectionType, parse, write
from facecodec.errors import CorruptError, StreamError, TruncatedError, UnsupportedError

FACES, APPEARANCE, ENHANCEMENT, RESIDUAL = SectionType
ID = bytes.fromhex("00112233")
PAYLOADS = {
    FACES: b"faces",
    APPEARANCE: b"appearance",
    ENHANCEMENT: bytes(range(200)),
    RESIDUAL: b"r",
    64: b"?",
}
FILE = write(640, 480, ID, PAYLOADS)

payload_maps = st.builds(
    lambda faces, others: {FACES: faces, **others},
    st.binary(max_size=40),
    st.dictionaries(st.sampled_from([2, 3, 4, 64, 100, 127]), st.binary(max_size=200)),
)
files = st.builds(write, st.integers(1, 65_535), st.integers(1, 65_535), st.just(ID), payload_maps)


def states(container):
    return [section.state for section in container.sections]


def test_every_byte_of_a_file():
    payloads = {64: b"abc", RESIDUAL: b"", ENHANCEMENT: bytes(range(130)), APPEARANCE: b"a", FACES: b"faces"}
    assert write(640, 480, ID, payloads) == bytes.fromhex(
        "f55343 02 8002 e001 00112233"
        "01 09  02 03  03 8401  04 02  c0 05"
        "6661636573 90d87466"
        "61 43be"
        "49aa" + bytes(range(130)).hex() + "0000"
        "c241 616263"
    )


@given(st.integers(1, 65_535), st.integers(1, 65_535), st.binary(min_size=4, max_size=4), payload_maps)
def test_what_is_written_is_read_and_every_byte_is_accounted_for(width, height, weights_id, payloads):
    file = write(width, height, weights_id, payloads)
    container = parse(file)
    assert (container.width, container.height, container.weights_id) == (width, height, weights_id)
    assert {section.type: section.payload for section in container.sections} == payloads
    assert set(states(container)) == {"verified"}
    ends = [section.offset + section.length for section in container.sections]
    assert ends == [section.offset for section in container.sections[1:]] + [len(file)]
    for section in container.sections:
        assert container.find(section.type) is section
    assert container.find(65) is None


@given(files)
def test_writing_what_was_read_gives_the_same_file(file):
    container = parse(file)
    payloads = {section.type: section.payload for section in container.sections}
    assert write(container.width, container.height, container.weights_id, payloads) == file


@given(files)
def test_every_cut(file):
    whole = parse(file)
    faces_end = whole.sections[0].offset + whole.sections[0].length
    for size in range(len(file)):
        if size < faces_end:
            with pytest.raises(TruncatedError):
                parse(file[:size])
            continue
        for cut, section in zip(parse(file[:size]).sections, whole.sections, strict=True):
            assert (cut.type, cut.offset, cut.length) == (section.type, section.offset, section.length)
            if section.offset + section.length <= size:
                assert cut == section
            else:
                assert cut.state == "cut"
                present = max(0, size - section.offset)
                in_front = 0 if section.type in (FACES, APPEARANCE) else 2
                assert cut.payload == section.payload[: max(0, present - in_front)]


@pytest.mark.parametrize("section_type", [APPEARANCE, ENHANCEMENT, 99])
@pytest.mark.parametrize(("size", "check"), [(0, 2), (16_381, 2), (16_382, 4), (20_000, 4)])
def test_long_sections_have_long_checks(section_type, size, check):
    payload = bytes(range(250)) * (size // 250 + 1)
    file = write(640, 480, ID, {FACES: b"", section_type: payload[:size]})
    section = parse(file).sections[1]
    assert section.length == size + check
    assert (section.state, section.payload, section.missing) == ("verified", payload[:size], 0)
    digest = crc32(payload[:size]).to_bytes(4, "little")[:check]
    body = file[section.offset :]
    assert digest == (body[size:] if section_type == APPEARANCE else body[:check])
    if size and section_type != APPEARANCE:
        cut = parse(file[:-7]).sections[1]
        assert (cut.state, cut.missing, cut.payload) == ("cut", 7, payload[: size - 7])


def test_every_flipped_bit_is_found_in_its_section():
    whole = parse(FILE)
    faces_end = whole.sections[0].offset + whole.sections[0].length
    for bit in range(8 * len(FILE)):
        damaged = bytearray(FILE)
        damaged[bit // 8] ^= 1 << bit % 8
        if bit // 8 < faces_end:
            with pytest.raises(StreamError):
                parse(bytes(damaged))
        else:
            hit = [section.offset <= bit // 8 < section.offset + section.length for section in whole.sections]
            assert states(parse(bytes(damaged))) == ["damaged" if here else "verified" for here in hit]


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda tail: FILE[:12] + tail)))
def test_any_bytes_are_read_or_refused(data):
    try:
        container = parse(data)
    except StreamError:
        return
    assert container.sections[0].state == "verified"


def file_of(table, bodies=b"", *, start=FILE[:12], faces=b"faces"):
    """Build a file by hand around a Faces section whose Check is right."""
    covered = start + table + faces
    return covered + crc32(covered).to_bytes(4, "little") + bodies


FACES_ONLY = bytes([0x81, 9])


def test_the_file_by_hand_is_good():
    assert parse(file_of(FACES_ONLY)).find(FACES).payload == b"faces"
    assert parse(file_of(b"\x01\x09\xff\x02", bytes(2))).find(127).state == "verified"


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        pytest.param(b"\xff\xd8\xff\xe0", CorruptError, "not an FSC file", id="a JPEG"),
        pytest.param(b"\xf5SD", CorruptError, "not an FSC file", id="last byte of Magic"),
        pytest.param(b"\xf6", CorruptError, "not an FSC file", id="first byte of Magic"),
        pytest.param(b"\xf5SC\x01", UnsupportedError, "version 1", id="Version 1"),
        pytest.param(b"\xf5SC\x00" + FILE[4:], UnsupportedError, "version 0", id="Version 0"),
        pytest.param(FILE[:4] + bytes(2) + FILE[6:], CorruptError, "0x480", id="Width 0"),
        pytest.param(FILE[:6] + bytes(2) + FILE[8:], CorruptError, "640x0", id="Height 0"),
        pytest.param(file_of(b"\x01\x09\x80\x04", bytes(4)), UnsupportedError, "type 0", id="type 0"),
        pytest.param(file_of(b"\x01\x09\x85\x04", bytes(4)), UnsupportedError, "type 5", id="type 5"),
        pytest.param(file_of(b"\x01\x09\xbf\x04", bytes(4)), UnsupportedError, "type 63", id="type 63"),
        pytest.param(file_of(b"\x82\x09"), CorruptError, "start with its faces", id="no Faces"),
        pytest.param(file_of(b"\x02\x04\x81\x09"), CorruptError, "start with its faces", id="Faces second"),
        pytest.param(file_of(b"\x01\x09\x81\x04", bytes(4)), CorruptError, "increasing", id="Faces twice"),
        pytest.param(file_of(b"\x01\x09\x03\x04\x82\x04", bytes(8)), CorruptError, "increasing", id="order"),
        pytest.param(file_of(b"\x81\x89\x00"), CorruptError, "longer than it need", id="Length not minimal"),
        pytest.param(
            file_of(b"\x81\x89\x80\x80\x80\x80\x00"), CorruptError, "than 5 bytes", id="Length of 6 bytes"
        ),
        pytest.param(file_of(b"\x01\x09\x82\x01", bytes(1)), CorruptError, "have 1 bytes", id="Length 1"),
        pytest.param(file_of(b"\x81\x03", faces=b""), CorruptError, "have 3 bytes", id="Length 3 of Faces"),
        pytest.param(
            file_of(b"\x01\x09\x82\x80\x80\x80\x80\x10"), CorruptError, "4294967296", id="Length 2^32"
        ),
        pytest.param(file_of(FACES_ONLY, b"!"), CorruptError, "1 bytes follow", id="trailing byte"),
        pytest.param(file_of(FACES_ONLY)[:-1] + b"!", CorruptError, "damaged", id="Check of Faces"),
        pytest.param(file_of(FACES_ONLY)[:-1], TruncatedError, "faces section", id="Faces cut"),
        pytest.param(FILE[:13], TruncatedError, "section table", id="table cut"),
        pytest.param(FILE[:11], TruncatedError, "header", id="header cut"),
        pytest.param(b"", TruncatedError, "header", id="empty"),
    ],
)
def test_a_file_that_breaks_one_rule_is_refused(file, error, message):
    with pytest.raises(error, match=message):
        parse(file)


def test_sixteen_sections_and_no_more():
    file = write(1, 1, ID, {FACES: b"", **dict.fromkeys(range(64, 79), b"")})
    assert len(parse(file).sections) == MAX_SECTIONS == 16
    one_more = (
        b"\x01\x09" + b"".join(bytes([section_type, 4]) for section_type in range(64, 79)) + b"\xff\x04"
    )
    with pytest.raises(CorruptError, match="more than 16"):
        parse(file_of(one_more, bytes(4 * 16)))


def test_the_longest_length_is_read():
    container = parse(file_of(b"\x01\x09\x83\xff\xff\xff\xff\x0f", b"Checkpay"))
    assert container.sections[1].length == 2**32 - 1
    assert (container.sections[1].state, container.sections[1].payload) == ("cut", b"kpay")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param((0, 1, ID, {FACES: b""}), "0x1", id="width 0"),
        pytest.param((1, 65_536, ID, {FACES: b""}), "1x65536", id="height too large"),
        pytest.param((1, 1, b"short", {FACES: b""}), "4 bytes", id="weights id"),
        pytest.param((1, 1, ID, {APPEARANCE: b""}), "sections", id="no faces"),
        pytest.param((1, 1, ID, {}), "sections", id="no sections"),
        pytest.param((1, 1, ID, {FACES: b"", 5: b""}), "sections", id="unknown type"),
        pytest.param((1, 1, ID, {FACES: b"", 128: b""}), "sections", id="no type"),
        pytest.param(
            (1, 1, ID, {FACES: b"", **dict.fromkeys(range(64, 80), b"")}), "sections", id="too many"
        ),
    ],
)
def test_what_parse_would_refuse_is_not_written(arguments, message):
    with pytest.raises(ValueError, match=message):
        write(*arguments)


def test_two_short_sections_cost_sixteen_bytes_of_header_and_table():
    assert parse(write(640, 480, ID, {FACES: bytes(100), APPEARANCE: bytes(123)})).sections[0].offset == 16
