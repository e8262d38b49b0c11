"""bitstream_spec.md against the code: its tables and its worked example are read out of the Markdown."""

from __future__ import annotations

import json
import re
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import reference_decoder
from make_vectors import BASE, FOLDER, FOLDERS, SMALL, TEXTURE
from safetensors.numpy import load_file

import facecodec
from facecodec import (
    base_layer,
    container,
    enhancement,
    entropy,
    exact,
    geometry,
    identity,
    latents,
    rans,
    residual,
    texture,
    wavelet,
    weights,
)
from facecodec.container import SectionType
from facecodec.errors import WeightsError

ROOT = Path(__file__).parents[1]
SPEC = (ROOT / "bitstream_spec.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^(#+) (.+)$", SPEC, re.MULTILINE)


@pytest.fixture(autouse=True)
def small_weights(monkeypatch):
    monkeypatch.setenv("FSC_WEIGHTS", str(SMALL))


def chapter(*titles):
    """Return the text under a heading, down to the next of its level; further titles lead into it."""
    text = SPEC
    for title in titles:
        found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
        assert found, title
        level = len(found[1])
        text = text[found.end() :]
        end = re.search(rf"^#{{1,{level}}} ", text, re.MULTILINE)
        text = text[: end.start()] if end else text
    return text


def tables(text):
    """Return the tables of a text, each a list of rows, each a dict from the heads of the columns."""
    result = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, _, *rows = [
            [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        ]
        result.append([dict(zip(head, row, strict=True)) for row in rows])
    return result


def table(*titles, column):
    """Return the one table under a heading that has this column."""
    (found,) = [rows for rows in tables(chapter(*titles)) if column in rows[0]]
    return found


def number(text):
    return int(text.replace(",", ""))


TERM = r"([+-]?) ?(\d+) \* m\[(\d)\]"


def name(text):
    return text.strip("`")


def numbers(text):
    return [float(word) for word in text.split()]


LIMITS = {
    "`Width`, `Height`": (1, container.MAX_SIDE),
    "pixels of a picture that every decoder accepts": (1, identity.MAX_PIXELS),
    "sections of a file": (1, container.MAX_SECTIONS),
    "`Length` of a section body": (container.SHORT_CHECK_BYTES, 2**32 - 1),
    "symbols of an alphabet": (2, rans.MAX_ALPHABET),
    "`log2` of the sum of a Table's frequencies": (rans.MIN_PRECISION, rans.MAX_PRECISION),
    "`shift` of a convolution": (0, exact.MAX_SHIFT),
    "`Face_Count`": (0, 255),
    "`Face_Count * Width * Height`": (0, identity.MAX_FACE_PIXELS),
    "identity codes": (-entropy.CODE_TOP, entropy.CODE_TOP),
    "appearance codes": (-base_layer.APPEARANCE_TOP, base_layer.APPEARANCE_TOP),
    "what `finish` adds to a preview": (-255, 255),
    "activations of the networks of previews": (0, exact.ACTIVATION_TOP),
    "activations of the networks of textures": (0, exact.BYTE_TOP),
    "planes of a latent": (0, latents.PLANES),
    "cell of a latent": (-(3**latents.PLANES // 2), 3**latents.PLANES // 2),
    "delay of a block": (0, latents.TURNS),
    "turns": (latents.TURNS, 2 * latents.TURNS),
    "Table of a trit": (0, latents.TABLES - 1),
    "what networks add to `zero` and `lean`": (-latents.ZEROS, latents.ZEROS),
    "offset of a latent, in 1/64 of its cell": (-latents.OFFSET_MIDDLE, 255 - latents.OFFSET_MIDDLE),
    "shortcuts of `trits` and `filter`": (-texture.SHORTCUT_TOP, texture.SHORTCUT_TOP),
    "what `filter.finish` adds to a picture, in 1/4 grey level": (
        -texture.LACKING_TOP,
        texture.LACKING_TOP,
    ),
    "weight of a pixel in a prediction, in 1/64": (np.iinfo(np.int8).min, np.iinfo(np.int8).max),
    "index of a Table of failures": (0, residual.TABLES - 1),
}


def test_limits_are_those_of_the_code_and_belong_to_a_chapter():
    rows = table("Limits", column="Quantity")
    stated = {row["Quantity"]: (number(row["From"]), number(row["To"].split(" (")[0])) for row in rows}
    assert stated == LIMITS
    chapters = {title for _, title in HEADINGS}
    assert {place for row in rows for place in row["Where"].split(", ")} <= chapters


def test_every_chapter_that_the_code_names_exists():
    named = set()
    mention = r'(?:bitstream_spec\.md,?|[Ss]pec:|section) ("[^"]+"(?: and "[^"]+")*)'
    for path in (ROOT / "facecodec").rglob("*.py"):
        text = " ".join(path.read_text(encoding="utf-8").split())
        for titles in re.findall(mention, text):
            named.update(re.findall(r'"([^"]+)"', titles))
    assert len(named) >= 7
    assert named <= {title for _, title in HEADINGS}


def test_every_field_that_is_named_is_defined():
    fields = {name(row["Field"]) for rows in tables(SPEC) for row in rows if "Field" in row}
    used = set(re.findall(r"`([A-Z][a-z]+(?:_[A-Z][a-z]+)+|[A-Z][a-z]+_[A-Z])`", SPEC))
    assert used - fields == {"Names_Like_This", "Section_Type"}


def test_the_header():
    rows = table("Container", column="Offset")
    *fields, section_table = rows
    assert [name(row["Field"]) for row in fields] == ["Magic", "Version", "Width", "Height", "Weights_Id"]
    sizes = {1: "B", 2: "H", 3: "3s", 4: "4s"}
    packed = struct.Struct("<" + "".join(sizes[number(row["Size"])] for row in fields))
    for row, following in pairwise(rows):
        assert number(row["Offset"]) + number(row["Size"]) == number(following["Offset"])
    assert number(section_table["Offset"]) == packed.size == container.HEADER_BYTES
    magic = bytes.fromhex(fields[0]["Value"].split(";")[0])
    version = number(fields[1]["Value"].split(";")[0])
    file = container.write(640, 480, b"weig", {SectionType.FACES: b""})
    assert packed.unpack(file[: packed.size]) == (magic, version, 640, 480, b"weig")


def test_section_types():
    stated = {}
    for row in table("Container", column="Section_Type"):
        if row["Section_Type"].isdigit():
            stated[row["Name"].upper()] = number(row["Section_Type"])
            after = container.write(1, 1, bytes(4), {1: b"", stated[row["Name"].upper()]: b"payload"})[-9:]
            assert after.startswith(b"payload") == (row["Check"] == "last") or row["Name"] == "Faces"
        else:
            low, high = row["Section_Type"].split("..")
            known = set(map(int, SectionType)) | set(range(int(low), int(high) + 1))
            assert known == container._KNOWN_TYPES
    assert stated == {t.name: int(t) for t in SectionType}


def test_the_check():
    (value,) = re.findall(r"`123456789`\s+it is ([0-9A-F]{8})", SPEC)
    for size in (2, 4):
        assert container._check(b"123456789", size) == int(value, 16).to_bytes(4, "little")[:size]


def test_geometry():
    fields = table("Geometry", "Geometry of a face", column="Offset")
    assert [number(row["Offset"]) for row in fields] == [0, 2, 4]
    assert sum(number(row["Size"]) for row in fields) == base_layer.GEOMETRY_BYTES
    packed = geometry.Geometry(1, 2, 3, -4096, 8191).pack()
    assert packed == struct.pack("<HHI", 1, 2, 3 | (-4096 & 0x3FFF) << 4 | 8191 << 18)
    points = table("Geometry", "Landmarks and box", column="Landmark")
    stated = [tuple(round(float(row[axis]) * 10_000) for axis in "uv") for row in points]
    assert stated == list(geometry.LANDMARKS)
    (corners,) = re.findall(r"with u = (\d+) or (\d+) and v = (\d+) or\s+(\d+)", SPEC)
    left, right, top, bottom = (10_000 * int(corner) for corner in corners)
    assert set(geometry.FACE) == {(u, v) for u in (left, right) for v in (top, bottom)}


def offsets(rows, **sizes):
    """Return the offset of each field by name, with a value for each letter."""
    expression = re.compile(r"(\d+) \+ (\d+) N")
    result = {}
    for row in rows:
        found = expression.fullmatch(row["Offset"])
        place = int(found[1]) + int(found[2]) * sizes["N"] if found else int(row["Offset"])
        result[name(row["Field"])] = place
    return result


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_payload_of_faces(count):
    at = offsets(table("Base layer", "Faces", column="Offset"), N=count)
    model = base_layer.load(BASE)
    places = tuple(geometry.Geometry(face, 2, 3, 5000, 6) for face in range(count))
    payload = base_layer.encode_faces(
        base_layer.Faces(places, np.zeros((count, base_layer.IDENTITY), int)), model
    )
    assert (payload[at["Flags"]], payload[at["Face_Count"]]) == (0, count)
    assert payload[at["Geometries"] : at["Identity_Codes"]] == b"".join(place.pack() for place in places)
    decoder = rans.Decoder(payload[at["Identity_Codes"] :])
    for _, coder in entropy.code_groups(np.zeros((count, base_layer.IDENTITY), int), model.identity):
        assert (decoder.take(count * entropy.CODE_GROUP, coder) == entropy.CODE_TOP).all()
    decoder.finish()


def test_the_other_payloads():
    at = offsets(table("Enhancement layer", column="Offset"))
    assert at == {
        "Texture_Id": 0,
        "Texture_Flags": enhancement.ID_BYTES,
        "Refinements": enhancement.HEAD_BYTES,
    }
    rows = table("Exact residual", column="Offset")
    sizes = [*(planes * residual.WEIGHTS for planes in (1, 2, 3)), *[residual.CONTEXTS] * 3]
    assert [number(row["Size"]) for row in rows[:-1]] == sizes
    for row, following in pairwise(rows):
        assert number(row["Offset"]) + number(row["Size"]) == number(following["Offset"])
    assert number(rows[-1]["Offset"]) == residual.SIDE_BYTES
    limits = [re.search(r"0 \.\. (\d+)", row["Value"]) for row in rows if "Tables" in row["Field"]]
    assert [int(limit[1]) for limit in limits] == [residual.TABLES - 1] * 3


def test_the_windows_and_thresholds_of_the_residual():
    rows = table("Exact residual", "Windows", column="Row")
    stated = [
        (y, int(x))
        for y, row in zip((-2, -1, 0), rows, strict=True)
        for x in numbers(row["Columns of the window"])
    ]
    assert stated == residual.WINDOW
    (row,) = table("Exact residual", "Failures", column="Thresholds of")
    assert numbers(row[""]) == residual.THRESHOLDS.tolist()


# Weights files


def installed(kind):
    """Return the paths of all models of a kind: the small one, and those that are shipped."""
    return [path for folder in FOLDERS.values() for path in sorted(folder.glob(f"{kind}-v*.safetensors"))]


def layer_rows(title):
    return [row for rows in tables(chapter(title)) if "Layer" in rows[0] for row in rows]


def solve(known, text, size):
    """Hold a size against what is stated for it, such as `a`, `g + b` or `4 i`, and learn its letter."""
    terms = [re.fullmatch(r"(\d*) ?([A-Za-z]?)", term).groups() for term in text.split(" + ")]
    factors = [(int(factor or 1), letter) for factor, letter in terms]
    if len(factors) == 1 and factors[0][1] and factors[0][1] not in known:
        assert size % factors[0][0] == 0
        known[factors[0][1]] = size // factors[0][0]
    assert sum(factor * known.get(letter, 1) for factor, letter in factors) == size, text


@pytest.mark.parametrize(
    ("title", "path"),
    [
        (title, path)
        for title, kind in (("Base layer", "base"), ("Enhancement layer", "texture"))
        for path in installed(kind)
    ],
    ids=lambda value: getattr(value, "stem", None),
)
def test_tensors_have_the_stated_shapes(title, path):
    tensors = load_file(path)
    known, named = {}, set()
    for row in [row for rows in tables(chapter(title)) if "Tensor" in rows[0] for row in rows]:
        tensor = name(row["Tensor"])
        named.add(tensor)
        for text, size in zip(row["Shape"].split(", "), tensors[tensor].shape, strict=True):
            solve(known, text, size)
    for row in layer_rows(title):
        solve(known, row["O"], len(tensors[f"{name(row['Layer'])}.weight"]))
    for row in layer_rows(title):
        layer = name(row["Layer"])
        named |= {f"{layer}.{part}" for part in ("weight", "bias", "shift")}
        outputs, inputs, height, width = tensors[f"{layer}.weight"].shape
        solve(known, row["C"], inputs)
        assert height == width
        assert tensors[f"{layer}.bias"].shape == tensors[f"{layer}.shift"].shape == (outputs,)
    assert set(tensors) == named


def test_layers_have_the_stated_strides_and_ranges():
    base, model = base_layer.load(BASE), texture.load(TEXTURE)
    generator = base.generator
    layers = {key: getattr(generator, key) for key in ("linear", "start", "finish")}
    layers |= {f"layers.{index}": layer for index, layer in enumerate(generator.layers)}
    stated = {}
    for row in layer_rows("Base layer") + layer_rows("Enhancement layer"):
        low, high = row["Range"].split(" .. ")
        stated[name(row["Layer"])] = int(row["Stride"]), int(low), int(high)
    made = {key: (layer.stride, layer.lo, layer.hi) for key, layer in (layers | model.layers).items()}
    assert made == stated
    after = [row["After"] == "upsampling by 2" for row in layer_rows("Base layer")[2:-1]]
    assert [index in base_layer.UPSAMPLED for index in range(5)] == after


@pytest.mark.parametrize(("title", "module"), [("Base layer", base_layer), ("Enhancement layer", texture)])
def test_the_range_proof_has_the_stated_bounds(title, module, monkeypatch):
    bounds = {}
    make = weights.Model.layer

    def spied(model, layer, inputs, bound, *arguments, **options):
        bounds[layer] = np.broadcast_to(bound, inputs).tolist()
        return make(model, layer, inputs, bound, *arguments, **options)

    monkeypatch.setattr(weights.Model, "layer", spied)
    file = weights._load.__wrapped__(SMALL, BASE if module is base_layer else TEXTURE)
    loaded = module._load.__wrapped__(file)
    if module is base_layer:
        assert loaded.generator
    stated = r"`([a-z0-9_.]+)`(?:[^`]*?)(?:bound|up\s+to) (\d+(?: and \d+)*)"
    special = dict(re.findall(stated, chapter(title)))
    ((_, usual),) = re.findall(
        r"(all that follow it have|every layer has) inputs up to (\d+)", chapter(title)
    )
    expected = {}
    for layer in (name(row["Layer"]) for row in layer_rows(title)):
        parts = [int(part) for part in special.get(layer, usual).split(" and ")]
        expected[layer] = np.repeat(parts, len(bounds[layer]) // len(parts)).tolist()
    assert bounds == expected


def test_tensors_of_the_enhancement_have_the_stated_bounds(tmp_path, monkeypatch):
    whole = load_file(SMALL / f"{TEXTURE}.safetensors")
    for row in table("Enhancement layer", column="Tensor"):
        if not row["From"]:
            continue
        key, low, high = name(row["Tensor"]), int(row["From"]), int(row["To"])
        for end, refused in ((low, False), (high, False), (low - 1, True), (high + 1, True)):
            changed = whole[key].astype(np.int32)
            changed.flat[0] = end
            model = weights.Model("texture-v9", bytes(4), whole | {key: changed})
            if refused:
                with pytest.raises(WeightsError, match=key):
                    texture._load.__wrapped__(model)
            else:
                assert texture._load.__wrapped__(model).name == "texture-v9"


def test_the_last_threshold_leaves_nothing_out():
    whole = load_file(SMALL / f"{TEXTURE}.safetensors")
    low = whole | {"thresholds": np.array([867, 867, 866], np.uint16)}
    with pytest.raises(WeightsError, match="leaves trits out"):
        texture._load.__wrapped__(weights.Model("texture-v9", bytes(4), low))


def test_the_numbers_of_the_wavelet():
    rows = table("Enhancement layer", "Wavelet", column="Level")
    assert [number(row["Level"]) for row in rows] == [*range(wavelet.LEVELS)]
    for row, gains, bands in zip(rows, wavelet.GAINS, wavelet.BANDS, strict=True):
        first, third, mean = (numbers(row[head]) for head in list(row)[1:])
        assert gains.ravel().tolist() == np.repeat([*first, *first, *third, *mean], 3).tolist()
        assert gains.size == bands
    text = chapter("Enhancement layer", "Wavelet")
    steps = [int(factor) for factor in re.findall(r"- \(\((-?\d+) \*", text)]
    assert steps == [wavelet.UPDATE_2, wavelet.PREDICT_2, wavelet.UPDATE_1, wavelet.PREDICT_1]
    for colour, line in enumerate(re.findall(r"^    (?:red|green|blue) .*$", text, re.MULTILINE)):
        found = {int(place): int(sign + size) for sign, size, place in re.findall(TERM, line)}
        assert [found.get(place, 0) for place in range(3)] == wavelet.COLOURS[:, colour].tolist()


def test_the_numbers_of_the_way_back():
    rows = table("Enhancement layer", "Wavelet, the way back", column="Level")
    for row, gains, forth in zip(rows, wavelet.GAINS_BACK, wavelet.GAINS, strict=True):
        first, third, mean = (numbers(row[head]) for head in list(row)[1:])
        assert gains.ravel().tolist() == np.repeat([*first, *first, *third, *mean], 3).tolist()
        assert gains.ravel().tolist() == [round(2**32 / gain) for gain in forth.ravel().tolist()]
    text = chapter("Enhancement layer", "Wavelet, the way back")
    steps = [int(factor) for factor in re.findall(r"\+ \(\((-?\d+) \*", text)]
    assert steps == [wavelet.PREDICT_1, wavelet.UPDATE_1, wavelet.PREDICT_2, wavelet.UPDATE_2]
    colours = ("red", "green", "blue")
    for unit, line in zip(
        wavelet.COLOURS.tolist(), re.findall(r"^    m\[\d\] = .*$", text, re.MULTILINE), strict=True
    ):
        found = {name: int(sign + size) for sign, size, name in re.findall(r"([+-]?) ?(\d+) \* (\w+)", line)}
        assert [found.get(name, 0) for name in colours] == unit


# Worked example


def example(title):
    """Return the bytes of an example's table, and what a decoder finds in them by name."""
    fields, found = tables(chapter("Worked example", title))
    data = b""
    for row in fields:
        assert number(row["Offset"]) == len(data)
        data += bytes.fromhex(row["Bytes"])
    return data, {row["Quantity"]: numbers(row["Value"]) for row in found}


def pixel(picture, text):
    row, column = re.search(r"row (\d+), column (\d+)", text).groups()
    return picture[int(row), int(column)].tolist()


@pytest.fixture
def steps(monkeypatch):
    """What the functions of the reference decoder returned last: by their names, or those of layers."""
    taken = {}

    def spied(function, named):
        made = getattr(reference_decoder, function)

        def spy(*arguments):
            key = named(*arguments)
            taken[f"into {key}"] = arguments
            taken[key] = made(*arguments)
            return taken[key]

        monkeypatch.setattr(reference_decoder, function, spy)

    spied("convolve", lambda tensors, layer, *_: layer)
    spied("settle", lambda tensors, level, *_: f"samples of level {level}")
    spied("offset", lambda cell, *_: f"offset of {len(cell)} channels")
    for function in ("preview", "refine", "inverse_wavelet", "lacking"):
        spied(function, lambda *_, function=function: function)
    return taken


def test_the_worked_example_of_a_base_layer(steps):
    data, expected = example("A base layer")
    assert data == (FOLDER / "valid" / "example-base.fsc").read_bytes()
    decoded, features = reference_decoder.decode(data, SMALL), facecodec.features(data)
    codes = steps["into preview"][0]
    identity, appearance = codes[:256].tolist(), codes[256:].tolist()
    picture = facecodec.decode(data).pixels
    found = {
        "identity codes 0 .. 2, all others 0": identity[:3],
        "appearance codes 0 .. 1, all others 0": appearance[:2],
        "embedding, 0 .. 2": features.embeddings[0, :3].tolist(),
        "box": features.boxes[0].tolist(),
        "nose tip": features.landmarks[0, 2].tolist(),
        "`linear`, 0 .. 3": steps["linear"].ravel()[:4].tolist(),
        "`start`, 0 .. 3": steps["start"].ravel()[:4].tolist(),
        "`finish`, channels 0 .. 3, row 0, column 0": steps["finish"][:4, 0, 0].tolist(),
    }
    found |= {key: pixel(steps["preview"], key) for key in expected if key.startswith("preview")}
    found |= {key: pixel(picture, key) for key in expected if key.startswith("picture")}
    assert found == expected
    assert not any(identity[3:] + appearance[2:])
    assert (decoded.picture == picture).all()


def test_the_worked_example_of_an_enhancement(steps):
    data, expected = example("An enhancement")
    assert data == (FOLDER / "valid" / "example.fsc").read_bytes()
    decoded, picture = reference_decoder.decode(data, SMALL), facecodec.decode(data).pixels
    cells, known, tables, gone, _ = steps["refine"]
    assert np.unique(gone).tolist() == [int(turn) for turn in re.findall(r"stopped after turn (\d+)", SPEC)]
    assert [set(level.ravel().tolist()) for level in known] == [{2}, {2}, {2}, {3}]
    found = {
        "cell, level 0, channels 0 .. 1, row 0, column 0": cells[0][:2, 0, 0],
        "`a16`, channel 3, row 0": steps["around.to_16"][3, 0],
        "`v0`, channels 0 .. 1, row 0, column 0": steps["into trits.enter.16"][2][:2, 0, 0],
        "`expected`, level 0, channels 0 .. 1, row 0, column 0": steps["into offset of 12 channels"][2][
            :2, 0, 0
        ],
        "`h16`, row 0, column 0": steps["hint.16"][:, 0, 0],
        "`offset`, level 0, channels 0 .. 1, row 0, column 0": steps["offset of 12 channels"][:2, 0, 0],
        "`trits.tell.16`, channels 0 and 12, row 0, column 0": steps["trits.tell.16"][[0, 12], 0, 0],
        "table, level 0, channel 0, row 0": tables[0][0, 0],
        "sample, level 0, channels 0 .. 1, row 0, column 0": steps["samples of level 0"][:2, 0, 0],
        "what *Wavelet* makes of the samples, row 0, column 0": steps["inverse_wavelet"][:, 0, 0],
        "`lacking`, row 0, column 0": steps["lacking"][0][:, 0, 0],
    }
    found = {key: values.tolist() for key, values in found.items()}
    found |= {key: pixel(picture, key) for key in expected if key.startswith("picture")}
    assert found == expected
    assert (decoded.picture == picture).all()


def test_the_examples_refer_to_the_bytes_they_name():
    for title in ("A base layer", "An enhancement"):
        data, _ = example(title)
        fields = tables(chapter("Worked example", title))[0]
        for row in fields:
            if row["Field"] == "`Check`":
                first, last = (int(word) for word in re.findall(r"\d+", row["Value"]))
                check = bytes.fromhex(row["Bytes"])
                assert container._check(data[first : last + 1], len(check)) == check
            if row["Field"].endswith("_Id`"):
                kind = row["Value"].partition("-")[0]
                path = SMALL / f"{weights.named(kind, bytes.fromhex(row['Bytes']))}.safetensors"
                assert path.stem == row["Value"]


def test_what_the_example_says_of_its_first_words(monkeypatch):
    data, _ = example("An enhancement")
    start = container.parse(data).sections[2].offset + 2 + enhancement.HEAD_BYTES
    first = (len(data) - start + 2) % 4 or 4
    stated = [int(found) for found in re.findall(r"the first two make (\d+) of them", SPEC)]
    read = []
    symbol = reference_decoder.Stream.symbol
    monkeypatch.setattr(reference_decoder.Stream, "symbol", lambda s, c: read.append(c) or symbol(s, c))
    certain = []
    for count in (1, 2):
        read.clear()
        reference_decoder.decode(data[: start + first + 4 * (count - 1)], SMALL)
        certain.append(sum(len(c) == 4 for c in read))
    assert certain == [0, *stated]


def test_the_members_of_a_vector():
    rows = table("Conformance", column="Member")
    for kind in ("valid", "invalid"):
        allowed = {name(row["Member"]) for row in rows if row["In"] in ("both", kind)}
        for path in (FOLDER / kind).glob("*.json"):
            members = set(json.loads(path.read_text()))
            assert members <= allowed
            assert allowed - members <= {"features"}
