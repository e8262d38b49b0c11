"""Write the conformance vectors that are missing; run by hand, `python tests/make_vectors.py`.

What is there stays as it is: a vector is never written twice, and a new vector is a new name. Those of the
shipped weights need an encoder, and are made only where there are such weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from zlib import crc32

import numpy as np
import small_weights
from safetensors.numpy import save

import facecodec
from facecodec import (
    base_layer,
    codec,
    container,
    enhancement,
    latents,
    residual,
    residual_fit,
    texture,
    weights,
)
from facecodec.container import SectionType
from facecodec.errors import FscError
from facecodec.geometry import Geometry

FACES, APPEARANCE, ENHANCEMENT, RESIDUAL = SectionType
FOLDER = Path(__file__).parent / "vectors"
SMALL = FOLDER / "weights"
SHIPPED = Path(__file__).parents[1] / "weights"
FOLDERS = {"small": SMALL, "shipped": SHIPPED}
BASE, TEXTURE = "base-v0", "texture-v0"
PLACE = Geometry(30_000, 34_000, 6, 6500, 900)


def make_weights():
    """Write the small weights, unless they are there."""
    SMALL.mkdir(parents=True, exist_ok=True)
    models = {BASE: (0, small_weights.base), TEXTURE: (3, small_weights.texture)}
    for name, (seed, tensors) in models.items():
        path = SMALL / f"{name}.safetensors"
        if not path.exists():
            path.write_bytes(save(tensors(np.random.default_rng(seed))))
    sums = {path.name: sha256(path.read_bytes()) for path in sorted(SMALL.glob("*.safetensors"))}
    (SMALL / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# Files by hand


class Maker:
    """Random contents, as files of the small models; `rng` decides everything."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.base = base_layer.load(BASE)
        self.texture = texture.load(TEXTURE)

    def codes(self, count, reach=6.0, top=15):
        """Return codes (count, 256), -top .. top, that get smaller along the dimensions."""
        spread = reach * 0.02 ** (np.arange(256) / 256)
        return np.clip(np.round(self.rng.normal(0, spread, (count, 256))), -top, top).astype(int)

    def faces(self, places, identity=None):
        """Return the payload of Faces; `places` has a Geometry a face, or None for an aligned picture."""
        identity = self.codes(len(places)) if identity is None else identity
        return base_layer.encode_faces(base_layer.Faces(tuple(places), identity), self.base)

    def appearance(self, count, codes=None, kept=None):
        codes = self.codes(count, 20.0, 63) if codes is None else codes
        return base_layer.encode_appearance(codes, self.base, kept)

    def payloads(self, places=(PLACE,)):
        """Return the payloads of a base layer."""
        return {FACES: self.faces(places), APPEARANCE: self.appearance(len(places))}

    def write(self, width, height, payloads):
        return container.write(width, height, self.base.id, payloads)

    def words(self, width, height, payloads, *, turns=np.inf, cells=None, flags=0):
        """Return a stream of refinements, random ones where none are given."""
        prediction = facecodec.decode(self.write(width, height, payloads)).pixels
        faces = base_layer.decode_faces(payloads[FACES], self.base)
        delay = codec.delays(enhancement.Flags(flags), faces, self.texture, prediction)
        cells = self.cells(*delay.shape) if cells is None else cells
        return enhancement.refine(cells, delay, prediction, self.texture, turns=turns).after(turns)

    def cells(self, rows, columns, spread=60):
        """Return random finest cells, of all levels, of the latents of so many blocks."""
        unknown = latents.Latents.unknown(rows, columns)
        samples = 64 * self.rng.laplace(0, spread, unknown.cell.size)
        levels = enumerate(unknown.levels(samples))
        return np.concatenate([latents.finest(level / 2**n, n).ravel() for n, level in levels])

    def head(self, flags=0):
        """Return the first bytes of an enhancement."""
        return self.texture.id[:2] + bytes([flags])

    def enhanced(self, width, height, places=(PLACE,), *, flags=0, **options):
        """Return the payloads of a file with an enhancement."""
        payloads = self.payloads(places)
        words = self.words(width, height, payloads, flags=flags, **options)
        return payloads | {ENHANCEMENT: self.head(flags) + words}

    def exact(self, width, height, payloads, noise, weights=None):
        """Return payloads with the residual to a picture that differs by up to `noise`, modulo 256.

        `weights` gives the weights of its windows, else they are learnt from the picture.
        """
        decoded = facecodec.decode(self.write(width, height, payloads)).pixels
        pixels = (decoded + self.rng.integers(-noise, noise + 1, decoded.shape)).astype(np.uint8)
        if weights is None:
            payload = residual_fit.encode_exact(pixels, decoded)
        else:
            payload = residual.encode(pixels, decoded, weights, residual_fit.cheapest)
        return payloads | {RESIDUAL: payload}


def raw(table, faces, rest=b"", start=None):
    """Return a file around a Faces section whose Check is right."""
    start = start or container.write(40, 30, base_layer.load(BASE).id, {FACES: b""})[:12]
    covered = start + table + faces
    return covered + check(covered) + rest


def check(covered):
    return crc32(covered).to_bytes(4, "little")


def with_header(file, offset, data):
    """Return a file of one section with other bytes in its header, and the Check that belongs to them."""
    changed = file[:offset] + data + file[offset + len(data) : -4]
    return changed + check(changed)


def flipped(file, offset):
    return file[:offset] + bytes([file[offset] ^ 16]) + file[offset + 1 :]


def section_of(file, section_type):
    return container.parse(file).find(section_type)


# Vectors: name, what it tests, file


def valid():
    make = Maker(1)
    small = make.enhanced(40, 30)
    full = make.exact(40, 30, small, 4)
    file = make.write(40, 30, full)
    base = make.write(40, 30, make.payloads())

    yield (
        "no-face",
        "no face, no Appearance: the picture is grey",
        make.write(20, 30, {FACES: make.faces(())}),
    )
    yield "no-face-appearance", "no face, an empty Appearance", make.write(20, 30, make.payloads(()))
    yield "face", "one face, base layer only", base
    yield "face-alone", "Faces only: the average appearance", make.write(40, 30, {FACES: make.faces([PLACE])})
    for count, kept in ((1, 0), (1, 1), (1, 129), (3, 100)):
        faces = make.faces([PLACE] * count)
        some = make.write(40, 30, {FACES: faces, APPEARANCE: make.appearance(count, kept=kept)})
        yield f"appearance-{kept}-of-{count}", f"{kept} appearance codes of {count} faces", some
    yield "aligned", "an aligned picture", make.write(112, 112, make.payloads([None]))
    yield (
        "aligned-stretched",
        "an aligned picture that is not square",
        make.write(50, 23, make.payloads([None])),
    )
    turned = [Geometry(20_000, 30_000, 6, -4700, 5200), Geometry(45_000, 40_000, 5, 300, -8191)]
    yield "two-faces", "two faces, turned, that share the picture", make.write(90, 70, make.payloads(turned))
    twins = [PLACE, PLACE]
    yield (
        "two-faces-one-place",
        "of two faces at one distance the first owns",
        make.write(40, 30, make.payloads(twins)),
    )
    crowd = [
        Geometry(*make.rng.integers(0, 65_536, 2).tolist(), 3, 4096 + face, -face) for face in range(255)
    ]
    many = {
        FACES: make.faces(crowd, make.codes(255, 0.5)),
        APPEARANCE: make.appearance(255, make.codes(255, 0.5)),
    }
    yield "faces-255", "as many faces as there can be", make.write(64, 48, many)
    largest, smallest = Geometry(0, 65_535, 15, 8191, -8191), Geometry(65_535, 0, 0, 0, -1)
    yield (
        "geometry-extremes",
        "the largest and the smallest scale",
        make.write(60, 50, make.payloads([largest, smallest])),
    )
    wide = [Geometry(65_535, 0, 15, -8191, 8191), Geometry(0, 0, 15, 4096, 0), Geometry(32_768, 0, 0, 1, 1)]
    yield "widest", "the widest picture there can be", make.write(65_535, 1, make.payloads(wide))
    yield "highest", "the highest picture there can be", make.write(1, 65_535, make.payloads(wide))
    zero = {FACES: make.faces([PLACE], np.zeros((1, 256), int))}
    yield "codes-zero", "an embedding of zeros", make.write(40, 30, zero)
    ends = {
        FACES: make.faces([PLACE], make.rng.choice([-15, 15], (1, 256))),
        APPEARANCE: make.appearance(1, make.rng.choice([-63, 63], (1, 256))),
    }
    yield "codes-extreme", "codes at both ends, where frequencies are 0", make.write(40, 30, ends)

    yield (
        "enhancement",
        "all refinements of a picture of a few blocks",
        make.write(40, 30, small),
    )
    yield "enhancement-64", "a picture that needs no padding", make.write(64, 64, make.enhanced(64, 64))
    yield (
        "enhancement-65x33",
        "padding by 15 rows and columns",
        make.write(65, 33, make.enhanced(65, 33)),
    )
    yield "enhancement-1x1", "the smallest picture", make.write(1, 1, make.enhanced(1, 1))
    yield "enhancement-no-face", "an enhancement of grey", make.write(40, 30, make.enhanced(40, 30, ()))
    alone = {t: p for t, p in make.enhanced(40, 30).items() if t != APPEARANCE}
    alone[ENHANCEMENT] = make.head() + make.words(40, 30, {FACES: alone[FACES]})
    yield (
        "enhancement-no-appearance",
        "an enhancement of faces of average appearance",
        make.write(40, 30, alone),
    )
    sizes = [3 ** (8 - level) // 2 for level in range(4)]
    unknown = latents.Latents.unknown(2, 3).levels(np.empty(4608))
    ends = np.concatenate(
        [make.rng.choice([-top, top], level.size) for top, level in zip(sizes, unknown, strict=True)]
    ).astype(np.int16)
    yield (
        "enhancement-extreme",
        "latents at both ends",
        make.write(40, 30, make.enhanced(40, 30, cells=ends)),
    )
    for began, about in ((False, "does not begin"), (True, "begins")):
        for _ in range(999):
            some = make.words(16, 16, {FACES: make.faces(())}, turns=make.rng.uniform(3, 9))
            if (some[:1] == b"\0") == began:
                break
        yield (
            f"stream-{'long' if began else 'short'}",
            f"a stream that {about} with a byte of 0",
            make.write(16, 16, {FACES: make.faces(()), ENHANCEMENT: make.head() + some}),
        )
    zeros = np.zeros(4608, np.int16)
    low = np.concatenate([np.full(level.size, -top) for top, level in zip(sizes, unknown, strict=True)])
    yield (
        "enhancement-low",
        "latents at their lower end, of which the last trits take nothing",
        make.write(40, 30, make.enhanced(40, 30, cells=low.astype(np.int16))),
    )
    yield "enhancement-zero", "latents of 0", make.write(40, 30, make.enhanced(40, 30, cells=zeros))
    large = make.enhanced(600, 530, turns=3.5)
    yield (
        "enhancement-600x530",
        "a picture of several hundred pixels, coarsely refined",
        make.write(600, 530, large),
    )
    several = [PLACE, Geometry.fit(np.array([[0.3, 0.1, 60.0], [-0.1, 0.3, 20.0]]), 90, 70)]
    for name, places, about in (
        ("face", [PLACE], "a face"),
        ("faces", several, "two faces"),
        ("aligned", [None], "an aligned picture"),
        ("no-face", [], "no face, where nothing is put off"),
    ):
        for turns in (11, 48):
            regional = make.enhanced(90, 70, places, flags=1, turns=turns)
            yield (
                f"regions-{name}-{turns}",
                f"refined by regions in the first {turns} turns: {about}",
                make.write(90, 70, regional),
            )
    base_payloads = {FACES: small[FACES], APPEARANCE: small[APPEARANCE]}
    for turns in (1, 2, 3, 9.5, 12, 23):
        words = make.words(40, 30, base_payloads, turns=turns)
        yield (
            f"enhancement-turns-{turns}",
            f"a stream of the first {turns} turns only",
            make.write(40, 30, base_payloads | {ENHANCEMENT: make.head() + words}),
        )
    yield (
        "enhancement-empty",
        "a section that ends with Texture_Flags",
        make.write(40, 30, base_payloads | {ENHANCEMENT: make.head()}),
    )
    stream = small[ENHANCEMENT][3:]
    for words in (0, 1, 2, 3, 6):
        size = words and ((len(stream) + 2) % 4 or 4) + 4 * (words - 1)
        yield (
            f"enhancement-{words}-words",
            f"an open section, with only the first {words} Words of a stream",
            make.write(40, 30, base_payloads | {ENHANCEMENT: make.head(2) + stream[:size]}),
        )
    regional = make.enhanced(40, 30, flags=1)
    regional[ENHANCEMENT] = make.head(3) + regional[ENHANCEMENT][3:-102]
    yield "regions-open", "an open section, refined by regions", make.write(40, 30, regional)

    yield "residual", "all sections; the exact pixels", file
    yield (
        "residual-base",
        "a residual without an enhancement",
        make.write(31, 17, make.exact(31, 17, make.payloads(), 20)),
    )
    yield (
        "residual-noise",
        "differences of all sizes",
        make.write(33, 20, make.exact(33, 20, make.payloads(), 128)),
    )
    for name, pattern in {"low": [-128], "high": [127], "mixed": [127, -128, 5, 0]}.items():
        wild = make.exact(25, 20, make.payloads(), 128, np.resize(np.array(pattern, np.int8), (6, 11)))
        yield f"residual-weights-{name}", f"weights of {pattern}", make.write(25, 20, wild)
    yield "residual-1x1", "a residual of one pixel", make.write(1, 1, make.exact(1, 1, make.payloads(), 3))

    checks = base_payloads | {64: bytes(16_381), 65: bytes(16_382)}
    yield "check-sizes", "Checks of 2 bytes, and of 4 from a Length of 16,384 on", make.write(40, 30, checks)
    optional = base_payloads | {64: b"", 100: b"what this is\nis not known", 127: bytes(200)}
    yield "optional", "unknown optional sections are skipped", make.write(40, 30, optional)
    sixteen = {FACES: small[FACES], **{t: b"" for t in range(64, 79)}}
    yield "sections-16", "as many sections as there can be", make.write(40, 30, sixteen)

    places = {t: section_of(file, t) for t in (APPEARANCE, ENHANCEMENT, RESIDUAL)}
    cuts = {
        "appearance-all": (places[APPEARANCE].offset, "all after Faces"),
        "appearance": (places[APPEARANCE].offset + 9, "inside Appearance"),
        "enhancement-all": (places[ENHANCEMENT].offset, "all after Appearance"),
        "enhancement-check": (places[ENHANCEMENT].offset + 1, "inside the Check of Enhancement"),
        "enhancement-id": (places[ENHANCEMENT].offset + 2 + 1, "inside Texture_Id"),
        "enhancement-id-whole": (places[ENHANCEMENT].offset + 2 + 2, "after Texture_Id"),
        "enhancement-flags": (places[ENHANCEMENT].offset + 2 + 3, "after Texture_Flags"),
        "enhancement-first": (places[ENHANCEMENT].offset + 2 + 3 + 5, "inside the second Word"),
        **{
            f"enhancement-{words}": (
                places[ENHANCEMENT].offset + 2 + 3 + words,
                "of Enhancement all but some Words",
            )
            for words in range(40, 44)
        },
        "enhancement-last": (places[RESIDUAL].offset - 1, "in front of the last byte of Enhancement"),
        "residual-all": (places[RESIDUAL].offset, "all of Residual"),
        "residual": (len(file) - 1, "the last byte of Residual"),
    }
    for name, (size, about) in cuts.items():
        yield f"cut-{name}", f"the end is missing: {about}", file[:size]
    for section_type, section in places.items():
        name = section_type.name.lower()
        after = "" if section_type == RESIDUAL else ": what follows does not count either"
        yield f"damaged-{name}", f"a wrong Check of {name.title()}{after}", flipped(file, section.offset + 20)
    whole = make.write(40, 30, full | {70: b"optional"})
    yield (
        "damaged-optional",
        "damage to an optional section harms nothing else",
        flipped(whole, len(whole) - 1),
    )
    broken = flipped(file, places[APPEARANCE].offset + 20)[: places[RESIDUAL].offset - 5]
    yield "damaged-appearance-cut", "nothing counts after damage, cut or whole", broken


def examples():
    """Yield the files of the specification's "Worked example"."""
    make = Maker(0)
    identity, appearance = np.zeros((1, 256), int), np.zeros((1, 256), int)
    identity[0, :3], appearance[0, :2] = (3, -2, 1), (1, -1)
    payloads = {FACES: make.faces([PLACE], identity), APPEARANCE: make.appearance(1, appearance)}
    yield "example-base", "the first file of the worked example", make.write(40, 30, payloads)
    cells = np.zeros(4608, np.int16)
    cells[0], cells[6], cells[-1] = 700, -1100, 40
    words = make.words(40, 30, payloads, cells=cells, turns=6)
    refined = payloads | {ENHANCEMENT: make.head() + words}
    yield "example", "the second file of the worked example", make.write(40, 30, refined)


def invalid():
    make = Maker(2)
    payloads = make.exact(40, 30, make.enhanced(40, 30, turns=9), 4)
    faces, appearance, enhanced, exact = (payloads[t] for t in (FACES, APPEARANCE, ENHANCEMENT, RESIDUAL))
    file = make.write(40, 30, payloads)
    alone = make.write(40, 30, {FACES: faces})
    one = bytes([0x81, len(faces) + 4])
    corrupt, cut, unknown, lacking = "CorruptError", "TruncatedError", "UnsupportedError", "WeightsError"

    def written(**changed):
        replaced = {SectionType[name.upper()]: payload for name, payload in changed.items()}
        return make.write(40, 30, {FACES: faces} | replaced)

    yield "empty", "a file without a byte", cut, b""
    yield "magic-cut", "the end of the file inside Magic", cut, file[:2]
    yield "header-cut", "the end of the file inside the header", cut, file[:15]
    yield "table-missing", "the end of the file after the header", cut, file[:12]
    yield "table-cut", "the end of the file inside Section_Table", cut, file[:18]
    yield "length-cut", "the end of the file inside a Length", cut, raw(b"", b"")[:12] + b"\x81\x80"
    yield "faces-cut", "the end of the file inside Identity_Codes", cut, alone[:-9]
    yield "faces-check-cut", "the end of the file inside the Check of Faces", cut, alone[:-1]
    yield "magic", "another Magic", corrupt, with_header(alone, 0, b"\xf5SD")
    yield "jpeg", "a file of another kind", corrupt, bytes.fromhex("ffd8ffe000104a464946000101")
    yield "version-0", "Version 0", unknown, with_header(alone, 3, b"\0")
    yield "version-1", "Version 1, of earlier drafts", unknown, with_header(alone, 3, b"\1")
    yield "version-3", "Version 3", unknown, with_header(alone, 3, b"\3")
    yield "width-0", "a Width of 0", corrupt, with_header(alone, 4, bytes(2))
    yield "height-0", "a Height of 0", corrupt, with_header(alone, 6, bytes(2))
    yield "weights-unknown", "a Weights_Id of no weights file", lacking, with_header(alone, 8, bytes(4))
    for number in (0, 5, 63):
        table = bytes([1, len(faces) + 4, 128 + number, 4]) if number else bytes([1, len(faces) + 4, 128, 4])
        yield f"type-{number}", f"a section of type {number}", unknown, raw(table, faces, check(b""))
    yield (
        "faces-missing",
        "a first section other than Faces",
        corrupt,
        raw(bytes([0x82, len(faces) + 4]), faces),
    )
    second = bytes([2, 4, 0x81, len(faces) + 4])
    yield "faces-second", "Faces after another section", corrupt, raw(second, check(b"") + faces)
    twice = raw(bytes([1, len(faces) + 4, 0x81, 4]), faces, check(b""))
    yield "faces-twice", "two sections of one type", corrupt, twice
    unordered = bytes([1, len(faces) + 4, 65, 4, 0x80 + 64, 4])
    yield (
        "order",
        "a section of a smaller type after one of a greater",
        corrupt,
        raw(unordered, faces, 2 * check(b"")),
    )
    tags = b"".join(bytes([t + (128 if t == 79 else 0), 4]) for t in range(64, 80))
    yield (
        "sections-17",
        "a section too many",
        corrupt,
        raw(bytes([1, len(faces) + 4]) + tags, faces, 16 * check(b"")),
    )
    low = bytes([0x81, 128 | (len(faces) + 4) % 128])
    yield "length-not-minimal", "a Length with a last byte of 0", corrupt, raw(low + b"\0", faces)
    yield "length-6-bytes", "a Length of 6 bytes", corrupt, raw(low + b"\x80\x80\x80\x80\0", faces)
    yield (
        "length-1",
        "a section without room for its Check",
        corrupt,
        raw(bytes([1, len(faces) + 4, 0xC0, 1]), faces, bytes(1)),
    )
    yield (
        "length-3",
        "Faces without room for its Check",
        corrupt,
        raw(b"\x81\x03", b"")[:-1],
    )
    huge = bytes([1, len(faces) + 4]) + b"\xc0\x80\x80\x80\x80\x10"
    yield "length-2-to-32", "a Length of 2^32", corrupt, raw(huge, faces)
    yield "trailing-byte", "a byte after the last section", corrupt, file + b"\0"
    yield "faces-check", "a wrong Check of Faces", corrupt, flipped(alone, len(alone) - 1)
    yield "faces-damaged", "a flipped bit in Faces", corrupt, flipped(alone, len(alone) - 20)
    yield "header-damaged", "a flipped bit in Width", corrupt, flipped(alone, 4)
    yield "table-damaged", "a flipped bit in the Length of a later section", corrupt, flipped(file, 15)

    yield "faces-empty", "Faces without Flags", corrupt, raw(b"\x81\x04", b"")
    yield "face-count-missing", "Faces without Face_Count", corrupt, raw(b"\x81\x05", b"\0")
    yield "flags", "an unknown bit of Flags", unknown, raw(one, b"\2" + faces[1:])
    yield "flags-high", "the highest bit of Flags", unknown, raw(one, b"\x80" + faces[1:])
    aligned = make.faces([None])
    for count in (0, 2):
        yield (
            f"aligned-{count}-faces",
            f"an aligned picture with {count} faces",
            corrupt,
            raw(bytes([0x81, len(aligned) + 4]), b"\1" + bytes([count]) + aligned[2:]),
        )
    crowd = {FACES: make.faces([PLACE] * 33, np.zeros((33, 256), int))}
    yield "faces-pixels", "33 faces in a picture of 2^26 pixels", unknown, make.write(8192, 8192, crowd)
    yield "geometry-cut", "Faces that ends inside Geometries", corrupt, raw(b"\x81\x0d", faces[:9])
    scales = {
        "zero": (0, 0, 0, "a scale of 0"),
        "small": (1, 4095, -4095, "a scale that is not normalised"),
        "a": (3, -8192, 0, "a = -8192"),
        "b": (0, 1, -8192, "b = -8192"),
    }
    for name, (e, a, b, about) in scales.items():
        packed = (e | (a & 0x3FFF) << 4 | (b & 0x3FFF) << 18).to_bytes(4, "little")
        yield f"geometry-{name}", about, corrupt, raw(one, faces[:6] + packed + faces[10:])

    streams = {
        "zeros": (lambda words: bytes(2) + words, "a stream that begins with two bytes of 0"),
        "long": (lambda words: words + b"\1\2\3\4", "a Word too many"),
        "long-zero": (lambda words: words + bytes(4), "a Word of 0 too many"),
    }
    for name, (change, about) in streams.items():
        more = faces[:10] + change(faces[10:])
        yield (
            f"identity-{name}",
            f"Identity_Codes: {about}",
            corrupt,
            raw(bytes([0x81, len(more) + 4]), more),
        )
        more = appearance[:1] + change(appearance[1:])
        yield f"appearance-{name}", f"Appearance_Codes: {about}", corrupt, written(appearance=more)
        yield (
            f"residual-{name}",
            f"Residual: {about}",
            corrupt,
            written(appearance=appearance, enhancement=enhanced, residual=exact[:114] + change(exact[114:])),
        )
    numbers = {
        "too-many": (b"\x81\2", "more codes than there are"),
        "cut": (b"\x81", "a number that does not end"),
        "none": (b"", "no number"),
        "padded": (b"\x80\0", "a number longer than it need be"),
    }
    for name, (missing, about) in numbers.items():
        yield f"missing-{name}", f"Missing: {about}", corrupt, written(appearance=missing)
    nobody = make.faces(())
    for name, payload in {"identity": nobody + b"\1", "appearance": nobody}.items():
        others = {APPEARANCE: b"\0\1"} if name == "appearance" else {}
        yield (
            f"{name}-no-face",
            f"{name} codes without a face",
            corrupt,
            make.write(40, 30, {FACES: payload} | others),
        )
    refined = {"appearance": appearance}
    yield "texture-id-cut", "an Enhancement of 2 bytes", corrupt, written(**refined, enhancement=enhanced[:2])
    for flags in (4, 128):
        body = enhanced[:2] + bytes([flags]) + enhanced[3:]
        about = "an unknown bit of Texture_Flags"
        yield f"texture-flags-{flags}", about, unknown, written(**refined, enhancement=body)
    yield (
        "texture-unknown",
        "a Texture_Id of no weights file",
        lacking,
        written(**refined, enhancement=bytes(2) + enhanced[2:]),
    )
    yield (
        "texture-base",
        "a Texture_Id of the weights file of the base layer",
        lacking,
        written(**refined, enhancement=make.base.id[:2] + enhanced[2:]),
    )
    whole = make.enhanced(40, 30)[ENHANCEMENT]
    for name, stream, about in (
        ("zeros", bytes(2) + enhanced[3:], "a stream that begins with two bytes of 0"),
        ("long", whole[3:] + b"\1\2\3\4", "a Word too many"),
    ):
        body = enhanced[:3] + stream
        yield f"enhancement-{name}", f"Refinements: {about}", corrupt, written(**refined, enhancement=body)

    refined["enhancement"] = enhanced
    yield "residual-side-cut", "a Residual of 113 bytes", corrupt, written(**refined, residual=exact[:113])
    for offset, value, about in (
        (66, 64, "green-table"),
        (82, 255, "red-table"),
        (113, 64, "blue-table"),
    ):
        side = exact[:offset] + bytes([value]) + exact[offset + 1 :]
        yield (
            f"residual-{about}",
            f"a {about.replace('-', ' ')} of {value}",
            corrupt,
            written(**refined, residual=side),
        )


def shipped():
    """Yield vectors of the newest shipped weights, made by the encoder from the example portrait."""
    from PIL import Image

    name = "-".join(weights.newest(kind) for kind in ("base", "texture"))
    with Image.open(Path(__file__).parents[1] / "examples" / "astronaut.png") as image:
        picture = np.asarray(image.convert("RGB"))
    portrait = np.ascontiguousarray(picture[:256:2, 110:366:2])
    files = {
        "portrait": ("a portrait", facecodec.encode(portrait, no_face="encode")),
        "base": ("the base layer of a portrait", facecodec.encode(portrait, layers="base", no_face="encode")),
        "aligned": ("an aligned face", facecodec.encode(portrait[:112, :112], aligned=True, quality=40)),
        "regions": (
            "a portrait, what tells people apart first",
            facecodec.encode(portrait, max_bytes=700, tune="recognition", no_face="encode"),
        ),
        "exact": (
            "the pixels of a portrait",
            facecodec.encode(portrait[20:84, 30:94], no_face="encode", lossless=True),
        ),
    }
    for case, (about, file) in files.items():
        yield f"{name}-{case}", f"{about}, with the shipped weights", file
    yield (
        f"{name}-cut",
        "the first half of a portrait, with the shipped weights",
        files["portrait"][1][: len(files["portrait"][1]) // 2],
    )


# What files are worth


def features_digest(features):
    parts = (features.embeddings, features.boxes, features.landmarks)
    return sha256(b"".join(part.astype("<f4").tobytes() for part in parts))


def digests(features, preview, picture):
    """Return the three digests of a decoded file, as the specification defines them under "Conformance"."""
    pixels = (sha256(np.ascontiguousarray(part).tobytes()) for part in (preview, picture))
    return dict(zip(("features", "preview", "picture"), (features_digest(features), *pixels), strict=True))


def worth(data):
    """Return what a valid file decodes to, as its JSON says it."""
    picture = facecodec.decode(data)
    preview = facecodec.decode(data, layers="base").pixels
    return digests(facecodec.features(data), preview, picture.pixels) | {"complete": not picture.notes}


def readable_features(data):
    """Return the digest of the features of a file that is otherwise invalid, if they can be read."""
    try:
        return {"features": features_digest(facecodec.features(data))}
    except FscError:
        return {}


def keep(kind, name, data, about):
    """Write a vector unless there is one of its name."""
    path = FOLDER / kind / f"{name}.fsc"
    if path.exists() or path.with_suffix(".json").exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n")
    with (FOLDER / "SHA256SUMS").open("a") as sums:
        sums.write(f"{sha256(data)}  {kind}/{name}.fsc\n")
    return True


def main():
    os.environ["FSC_WEIGHTS"] = str(SMALL)
    make_weights()
    written = sum(
        keep("valid", name, data, {"about": about, "weights": "small"} | worth(data))
        for name, about, data in (*examples(), *valid())
    )
    for name, about, error, data in invalid():
        facts = {"about": about, "weights": "small", "error": error} | readable_features(data)
        written += keep("invalid", name, data, facts)
    os.environ["FSC_WEIGHTS"] = str(SHIPPED)
    if {"base", "texture"} <= {name.rpartition("-v")[0] for name in weights.sums(SHIPPED)}:
        for name, about, data in shipped():
            written += keep("valid", name, data, {"about": about, "weights": "shipped"} | worth(data))
    print(f"{written} vectors written")


if __name__ == "__main__":
    main()
