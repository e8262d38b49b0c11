"""The package against the reference decoder, bit for bit, on random files, cuts and damage."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import reference_decoder
from hypothesis import example, given, settings
from hypothesis import strategies as st
from make_vectors import SMALL, Maker, digests

import facecodec
from facecodec import FscError
from facecodec.container import SectionType
from facecodec.geometry import Geometry


@pytest.fixture(scope="module", autouse=True)
def small_weights():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FSC_WEIGHTS", str(SMALL))
        yield


def package(data):
    """Return what the package makes of a file: its digests, or the name of its error."""
    try:
        picture = facecodec.decode(data)
        preview = facecodec.decode(data, layers="base").pixels
    except FscError as error:
        return type(error).__name__
    return digests(picture.faces, preview, picture.pixels), not picture.notes


def reference(data):
    """Return what the reference decoder makes of a file, in the form of `package`."""
    try:
        decoded = reference_decoder.decode(data, SMALL)
    except reference_decoder.Refused as error:
        return error.error
    return digests(decoded, decoded.prediction, decoded.picture), decoded.complete


@st.composite
def places(draw):
    """A face anywhere, of any size the format knows, or of one that a picture of 100 pixels shows."""
    e = draw(st.one_of(st.integers(0, 15), st.integers(4, 7)))
    larger = draw(st.integers(4096 if e else 1, 8191)) * draw(st.sampled_from([-1, 1]))
    a, b = draw(st.permutations([larger, draw(st.integers(-abs(larger), abs(larger)))]))
    return Geometry(draw(st.integers(0, 65_535)), draw(st.integers(0, 65_535)), e, a, b)


@st.composite
def files(draw):
    make = Maker(draw(st.integers(0, 2**32)))
    width, height = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    faces = draw(st.one_of(st.just([None]), st.lists(places(), max_size=3)))
    flags, turns = draw(st.integers(0, 3)), draw(st.sampled_from([0, 1, 4.5, 9, 14, 26, 48]))
    payloads = make.enhanced(width, height, faces, flags=flags, turns=turns)
    if draw(st.booleans()) and width * height < 2000:
        payloads = make.exact(width, height, payloads, draw(st.integers(0, 128)))
    return make.write(width, height, payloads)


@settings(max_examples=20)
@given(files())
def test_whole_files(file):
    decoded = package(file)
    assert decoded == reference(file)
    assert decoded[1] is True


@settings(max_examples=30)
@given(files(), st.floats(0, 1))
def test_cut_files(file, share):
    data = file[: int(share * len(file))]
    assert package(data) == reference(data)


@settings(max_examples=40)
@given(files(), st.integers(0, 2**32), st.integers(0, 7))
def test_damaged_files(file, byte, bit):
    data = bytearray(file)
    data[byte % len(data)] ^= 1 << bit
    assert package(bytes(data)) == reference(bytes(data))


@cache
def payloads_of_all_types(seed):
    make = Maker(seed)
    return make, make.exact(20, 25, make.enhanced(20, 25, turns=11), 3)


@given(
    st.integers(0, 3),
    st.sampled_from(["faces", "appearance", "enhancement", "residual"]),
    st.binary(max_size=120),
    st.booleans(),
)
@example(3, "enhancement", bytes(range(1, 120)), False)
def test_any_bytes_as_a_payload_with_a_right_check(seed, name, payload, after):
    """Hostile content: no Check protects a decoder from a file that was made to be wrong."""
    make, payloads = payloads_of_all_types(seed)
    section_type = SectionType[name.upper()]
    kept = {"faces": 2, "enhancement": 7, "residual": 114}.get(name, 0)
    data = make.write(20, 25, payloads | {section_type: payloads[section_type][:kept] * after + payload})
    assert package(data) == reference(data)


def test_pictures_of_several_tiles():
    make = Maker(5)
    place = Geometry(30_000, 30_000, 9, 5000, 4000)
    file = make.write(1030, 520, make.enhanced(1030, 520, [place], turns=4))
    assert package(file) == reference(file)


def test_the_comparison_notices():
    make = Maker(6)
    payloads = make.enhanced(20, 25)
    file = make.write(20, 25, payloads)
    others = make.write(20, 25, make.enhanced(20, 25))
    assert package(file)[0] != reference(others)[0]
    pixels = facecodec.decode(file).pixels
    assert np.unique(pixels).size > 50
