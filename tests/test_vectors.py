"""The conformance vectors: append-only, each with its partner, held against both decoders.

`make_vectors.py` wrote them; what their JSON says is defined in bitstream_spec.md, "Conformance".
"""

from __future__ import annotations

import json
from collections import Counter

import make_vectors
import pytest
import reference_decoder
from make_vectors import FOLDER, FOLDERS, digests, features_digest, sha256

import facecodec
from facecodec import FscError, codec, container, exact
from facecodec.networks import exact_torch

LISTED = dict(reversed(line.split("  ")) for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
VALID, INVALID = (
    sorted(path.stem for path in (FOLDER / kind).glob("*.fsc")) for kind in ("valid", "invalid")
)


def vector(monkeypatch, kind, name):
    """Return the file and what its JSON says, with the weights that belong to them in place."""
    path = FOLDER / kind / f"{name}.fsc"
    about = json.loads(path.with_suffix(".json").read_text())
    monkeypatch.setenv("FSC_WEIGHTS", str(FOLDERS[about["weights"]]))
    return path.read_bytes(), about


def refusal(function, *arguments):
    """Return the name of the error that a decoder gives."""
    with pytest.raises((FscError, reference_decoder.Refused)) as caught:
        function(*arguments)
    return getattr(caught.value, "error", type(caught.value).__name__)


def test_every_vector_is_listed_unchanged_and_has_its_partner():
    files = {str(path.relative_to(FOLDER)): path for path in FOLDER.glob("*valid/*.fsc")}
    assert {name: sha256(path.read_bytes()) for name, path in files.items()} == LISTED
    partners = {path.with_suffix(".fsc") for path in FOLDER.glob("*valid/*.json")}
    assert partners == set(files.values())
    assert Counter(name.split("/")[0] for name in LISTED) == {"valid": len(VALID), "invalid": len(INVALID)}
    assert min(len(VALID), len(INVALID)) >= 40


def test_no_vector_is_written_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(make_vectors, "FOLDER", tmp_path)
    assert make_vectors.keep("valid", "name", b"file", {"about": "first"})
    assert not make_vectors.keep("valid", "name", b"other", {"about": "second"})
    (tmp_path / "valid" / "name.fsc").unlink()
    assert not make_vectors.keep("valid", "name", b"other", {"about": "second"})
    assert json.loads((tmp_path / "valid" / "name.json").read_text()) == {"about": "first"}
    assert (tmp_path / "SHA256SUMS").read_text() == f"{sha256(b'file')}  valid/name.fsc\n"


@pytest.mark.parametrize("convolve", [exact.conv2d, exact_torch.conv2d], ids=["numpy", "torch"])
@pytest.mark.parametrize("name", VALID)
def test_a_valid_file_decodes_to_what_it_always_did(name, convolve, monkeypatch):
    data, about = vector(monkeypatch, "valid", name)
    picture = codec.decode(data, convolve=convolve)
    preview = codec.decode(data, layers="base", convolve=convolve).pixels
    expected = {key: about[key] for key in ("features", "preview", "picture")}
    assert digests(facecodec.features(data), preview, picture.pixels) == expected
    assert features_digest(picture.faces) == expected["features"]
    assert (not picture.notes) == about["complete"]


@pytest.mark.parametrize("name", VALID)
def test_the_reference_decoder_agrees(name, monkeypatch):
    data, about = vector(monkeypatch, "valid", name)
    decoded = reference_decoder.decode(data, FOLDERS[about["weights"]])
    expected = {key: about[key] for key in ("features", "preview", "picture")}
    assert digests(decoded, decoded.prediction, decoded.picture) == expected
    assert decoded.complete == about["complete"]


@pytest.mark.parametrize("name", VALID)
def test_every_byte_of_a_valid_file_is_accounted_for(name, monkeypatch):
    data, about = vector(monkeypatch, "valid", name)
    at = 0
    for part in facecodec.info(data).parts:
        assert part.offset == at
        at += part.size
    assert at == len(data)
    if about["complete"]:
        file = container.parse(data)
        payloads = {section.type: section.payload for section in file.sections}
        assert container.write(file.width, file.height, file.weights_id, payloads) == data


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_file_is_refused_with_its_error(name, monkeypatch):
    data, about = vector(monkeypatch, "invalid", name)
    assert refusal(facecodec.decode, data) == about["error"]
    if "features" in about:
        assert features_digest(facecodec.features(data)) == about["features"]
    else:
        assert refusal(facecodec.features, data) == about["error"]


@pytest.mark.parametrize("name", INVALID)
def test_the_reference_decoder_refuses_it_too(name, monkeypatch):
    data, about = vector(monkeypatch, "invalid", name)
    folder = FOLDERS[about["weights"]]
    assert refusal(reference_decoder.decode, data, folder) == about["error"]
    if "features" in about:
        assert features_digest(reference_decoder.features(data, folder)) == about["features"]
    else:
        assert refusal(reference_decoder.features, data, folder) == about["error"]
