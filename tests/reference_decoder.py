"""A decoder of FSC files made to be read: bitstream_spec.md in numpy, section by section, and nothing else.

It shares no line with the package that it checks, and is not fast.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np

LANDMARKS = """38.7946 52.1963   74.0318 52.0014   56.5252 72.2366   42.0493 92.8655   71.2299 92.7041"""


class Refused(Exception):
    """A file, or a weights file, that cannot be decoded; `error` is the name of the specification for it."""

    def __init__(self, error):
        super().__init__(error)
        self.error = error


def require(condition, error="CorruptError"):
    if not condition:
        raise Refused(error)


@dataclass
class Decoded:
    embeddings: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    prediction: np.ndarray | None = None
    picture: np.ndarray | None = None
    complete: bool = True


def features(data, weights):
    """Read the faces of a file, given a folder of weights files."""
    width, height, weights_id, sections, _ = read_container(data)
    geometries, identity = read_faces(sections[1], read_weights(weights, weights_id))
    require(len(geometries) * width * height <= 2**31, "UnsupportedError")
    return Decoded(embed(identity), *outline(geometries, width, height))


def decode(data, weights):
    """Decode a file as far as it goes, given a folder of weights files."""
    result = features(data, weights)
    width, height, weights_id, sections, result.complete = read_container(data)
    tensors = read_weights(weights, weights_id)
    geometries, identity = read_faces(sections[1], tensors)
    appearance = np.zeros((len(identity), 256), int)
    if 2 in sections:
        appearance = read_appearance(sections[2], tensors, len(identity))
    previews = [preview(np.concatenate(codes), tensors) for codes in zip(identity, appearance, strict=True)]
    result.prediction = result.picture = place(previews, geometries, width, height)
    if 3 in sections:
        payload, missing = sections[3]
        require(len(payload) >= 3)
        tensors, flags = read_weights(weights, payload[:2]), payload[2]
        require(flags < 4, "UnsupportedError")
        delay = block_delays(tensors["regions"] * (flags & 1), geometries, width, height)
        stream = Stream(payload[3:], missing + 2 * (flags >= 2))
        result.picture = enhance(stream, result.picture, tensors, delay)
    if 4 in sections:
        result.picture = add_residual(sections[4], result.picture)
    return result


# Container


def read_container(data):
    """Return width, height, Weights_Id, the payloads that count by Section_Type, and whether they are all.

    With that of Enhancement comes how many of its bytes are missing.
    """
    require(data[:3] == b"\xf5SC"[: len(data)])
    require(data[3:4] in (b"", b"\x02"), "UnsupportedError")
    require(len(data) >= 12, "TruncatedError")
    width, height = struct.unpack("<HH", data[4:8])
    require(width and height)
    require(width * height <= 2**26, "UnsupportedError")
    at, entries, last = 12, [], False
    while not last:
        require(at < len(data), "TruncatedError")
        section_type, last = data[at] & 127, data[at] >= 128
        require(last or len(entries) < 15)
        require(section_type in (1, 2, 3, 4) or section_type >= 64, "UnsupportedError")
        require((section_type == 1) if not entries else section_type > entries[-1][0])
        length, at = read_number(data, at + 1, "TruncatedError")
        require(check_bytes(section_type, length) <= length < 2**32)
        entries.append((section_type, length))
    sections, complete = {}, True
    for section_type, length in entries:
        body, at, n = data[at : at + length], at + length, check_bytes(section_type, length)
        payload, check = (body[:-n], body[-n:]) if section_type in (1, 2) else (body[n:], body[:n])
        covered = data[: at - n] if section_type == 1 else payload
        cut, sound = len(body) < length, crc32(covered).to_bytes(4, "little")[:n] == check
        require(section_type > 1 or not cut, "TruncatedError")
        require(section_type > 1 or sound)
        if complete and ((sound and not cut) or (cut and section_type == 3 and len(payload) >= 3)):
            sections[section_type] = (payload, length - len(body)) if section_type == 3 else payload
        complete = complete and sound and not cut
    require(len(data) <= at)
    return width, height, data[8:12], sections, complete


def check_bytes(section_type, length):
    return 4 if section_type == 1 or length >= 2**14 else 2


def read_number(data, at, error="CorruptError"):
    number = 0
    for index in range(5):
        require(at + index < len(data), error)
        byte = data[at + index]
        number |= (byte & 127) << 7 * index
        if byte < 128:
            require(byte or not index)
            return number, at + index + 1
    raise Refused("CorruptError")


# Range coding (rANS)


def cumulative(frequencies):
    """Return C_0 .. C_n of a Table."""
    f = [int(frequency) for frequency in frequencies]
    n, k = len(f), sum(f).bit_length() - 1
    require(sum(f) == 2**k and 12 <= k <= 16 and min(f) >= 0, "WeightsError")
    return [(sum(f[:i]) * (2**24 - n) >> k) + i for i in range(n + 1)]


class Stream:
    """The Words of a stream of which some bytes are missing; at its end, the state is below `close`."""

    def __init__(self, data, missing=0):
        marked = data[:1] == b"\0"
        data, behind = (data[1:], 0) if marked else (data, 2)
        require(data[:1] != b"\0")
        whole = bytes(-(len(data) + missing + behind) % 4) + data
        whole += bytes(behind) if data and not missing else b""
        self.words = [int.from_bytes(whole[at : at + 4], "big") for at in range(0, len(whole) - 3, 4)][::-1]
        self.close = 2**32 if missing else 1 if marked else 2**16
        self.s = 0
        self.refill()
        self.refill()

    def refill(self):
        if self.s < 2**32 and self.words:
            self.s = self.s << 32 | self.words.pop()

    def symbol(self, c):
        q = self.s % 2**24
        i = bisect_right(c, q) - 1
        self.s = (self.s >> 24) * (c[i + 1] - c[i]) + q - c[i]
        self.refill()
        return i

    @property
    def at_end(self):
        return not self.words and self.s < self.close


# Geometry


def read_geometry(data):
    qx, qy, packed = struct.unpack("<HHI", data)
    a, b = (((packed >> low) + 2**13) % 2**14 - 2**13 for low in (4, 18))
    e = packed % 16
    require((4096 if e else 1) <= max(abs(a), abs(b)) <= 8191)
    return qx, qy, e, a, b


def outline(geometries, width, height):
    """Return the boxes and the landmarks of all faces."""
    corners = [(u, v) for u in (16, 96) for v in (8, 112)]
    five = LANDMARKS.split()
    boxes = np.zeros((len(geometries), 4), np.float32)
    landmarks = np.zeros((len(geometries), 5, 2), np.float32)
    for face, geometry in enumerate(geometries):
        xs, ys = zip(*(to_picture(geometry, u, v, width, height) for u, v in corners), strict=True)
        boxes[face] = [
            min(max(side, 0), limit)
            for side, limit in zip((min(xs), min(ys), max(xs), max(ys)), (width, height) * 2, strict=True)
        ]
        points = zip(map(Fraction, five[::2]), map(Fraction, five[1::2]), strict=True)
        landmarks[face] = [to_picture(geometry, u, v, width, height) for u, v in points]
    return boxes, landmarks


def to_picture(geometry, u, v, width, height):
    if geometry is None:
        x, y = u * Fraction(width, 112), v * Fraction(height, 112)
    else:
        qx, qy, e, a, b = geometry
        x = Fraction((2 * qx + 1) * width, 2**17) + (a * (u - 56) - b * (v - 56)) * Fraction(2**e, 2**20)
        y = Fraction((2 * qy + 1) * height, 2**17) + (b * (u - 56) + a * (v - 56)) * Fraction(2**e, 2**20)
    return tuple((256 * z + Fraction(1, 2)).__floor__() / 256 for z in (x, y))


def place(previews, geometries, width, height):
    result = np.full((height, width, 3), 128, np.uint8)
    nearest = np.full((height, width), 2**62)
    x, y = 2 * np.arange(width)[None] + 1, 2 * np.arange(height)[:, None] + 1
    for p, geometry in zip(previews, geometries, strict=True):
        s, t = coordinates(geometry, width, height, x, y)
        distance = np.maximum(abs(s), abs(t))
        owned = distance < nearest
        nearest[owned] = distance[owned]
        result[owned] = sample(extend(p), s[owned], t[owned])
    return result


def coordinates(geometry, width, height, x, y):
    """Return where pixels lie from the centre of a face's preview; x and y are 2 c + 1 and 2 r + 1."""
    if geometry is None:
        return 28672 * (x - width) // (5 * width) + 0 * y, 28672 * (y - height) // (5 * height) + 0 * x
    qx, qy, e, a, b = geometry
    dx, dy = 2**16 * x - (2 * qx + 1) * width, 2**16 * y - (2 * qy + 1) * height
    d = 5 * (a * a + b * b) * 2**e
    return 4096 * (a * dx + b * dy) // d, 4096 * (a * dy - b * dx) // d


def extend(p):
    border = p.sum((0, 1)) - p[1:-1, 1:-1].sum((0, 1))
    m = (border + 126) // 252
    k = np.arange(128)
    w = np.minimum(np.minimum(k, 127 - k), 32)
    w = np.minimum(w[:, None], w)[..., None]
    near = np.clip(k - 32, 0, 63)
    q = (p[near][:, near] * w + m * (32 - w) + 16) // 32
    return np.pad(q, ((0, 1), (0, 1), (0, 0)))


def sample(q, s, t):
    h, k = np.clip(s + 16256, 0, 32512), np.clip(t + 16256, 0, 32512)
    j, f, i, g = h >> 8, (h % 256)[:, None], k >> 8, (k % 256)[:, None]
    upper = q[i, j] * (256 - f) + q[i, j + 1] * f
    lower = q[i + 1, j] * (256 - f) + q[i + 1, j + 1] * f
    return (upper * (256 - g) + lower * g + 32768) >> 16


# Integer layers, on one map (C, H, W)


def convolve(tensors, name, x, lo, hi, stride=1):
    weight, bias, shift = (tensors[f"{name}.{part}"].astype(np.int64) for part in ("weight", "bias", "shift"))
    k, (rows, columns) = weight.shape[2], (-(-size // stride) for size in x.shape[1:])
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    acc = np.zeros((len(weight), rows, columns))
    for p, q in np.ndindex(k, k):
        part = padded[
            :, p : p + stride * (rows - 1) + 1 : stride, q : q + stride * (columns - 1) + 1 : stride
        ]
        acc += np.tensordot(weight[:, :, p, q].astype(float), part.astype(float), 1)
    half = np.where(shift > 0, 1 << np.maximum(shift - 1, 0), 0)
    return np.clip((acc.astype(np.int64) + (bias + half)[:, None, None]) >> shift[:, None, None], lo, hi)


def depth_to_space(x, f):
    channels, height, width = x.shape
    split = x.reshape(channels // f**2, f, f, height, width)
    return split.transpose(0, 3, 1, 4, 2).reshape(channels // f**2, height * f, width * f)


def space_to_depth(x, f):
    channels, height, width = x.shape
    split = x.reshape(channels, height // f, f, width // f, f)
    return split.transpose(0, 2, 4, 1, 3).reshape(channels * f**2, height // f, width // f)


def upsample(x):
    return x.repeat(2, 1).repeat(2, 2)


def double(x):
    channels, height, width = x.shape
    result = np.empty((channels, 2 * height, 2 * width), int)
    i, j = np.arange(height)[:, None], np.arange(width)
    for p, q in np.ndindex(2, 2):
        i2, j2 = np.clip(i + 2 * p - 1, 0, height - 1), np.clip(j + 2 * q - 1, 0, width - 1)
        total = 9 * x[:, i, j] + 3 * x[:, i2, j] + 3 * x[:, i, j2] + x[:, i2, j2]
        result[:, p::2, q::2] = (total + 8) >> 4
    return result


# Weights files


class Tensors(dict):
    def __missing__(self, name):
        raise Refused("WeightsError")


def read_weights(folder, wanted):
    """Return the tensors of the weights file with this id."""
    for path in sorted(Path(folder).glob("*.safetensors")):
        data = path.read_bytes()
        if hashlib.sha256(data).digest().startswith(wanted):
            size = int.from_bytes(data[:8], "little")
            header, numbers = json.loads(data[8 : 8 + size]), data[8 + size :]
            tensors = Tensors()
            for name, about in header.items():
                if name != "__metadata__" and about["dtype"][0] in "IU":
                    dtype = f"<{about['dtype'][0].lower()}{int(about['dtype'][1:]) // 8}"
                    begin, end = about["data_offsets"]
                    tensors[name] = np.frombuffer(numbers[begin:end], dtype).reshape(about["shape"])
            return tensors
    raise Refused("WeightsError")


# Base layer


def read_faces(payload, tensors):
    require(len(payload) >= 2)
    flags, count = payload[0], payload[1]
    require(flags in (0, 1), "UnsupportedError")
    require(count == 1 or not flags)
    end = 2 if flags else 2 + 8 * count
    require(len(payload) >= end)
    geometries = [None] if flags else [read_geometry(payload[at : at + 8]) for at in range(2, end, 8)]
    return geometries, read_codes(payload[end:], tensors["identity.frequencies"], count)


def read_appearance(payload, tensors, faces):
    missing, at = read_number(payload, 0)
    return read_codes(payload[at:], tensors["appearance.frequencies"], faces, missing)


def read_codes(data, tables, faces, missing=0):
    require(missing <= 8 * faces * len(tables))
    stream, codes = Stream(data), np.zeros((faces, 8 * len(tables)), int)
    left = codes.size - missing
    for g, table in enumerate(tables):
        c = cumulative(table)
        for face, d in np.ndindex(faces, 8):
            if left:
                codes[face, 8 * g + d], left = stream.symbol(c) - len(table) // 2, left - 1
    require(stream.at_end)
    return codes


def embed(identity):
    norm = np.sqrt((identity**2).sum(1, keepdims=True).astype(np.float64))
    return (identity / np.maximum(1, norm)).astype(np.float32).reshape(-1, 256)


def preview(codes, tensors):
    x = convolve(tensors, "start", codes[:, None, None], 0, 511).reshape(-1, 4, 4)
    for layer, doubled in enumerate((True, True, False, True, False)):
        x = convolve(tensors, f"layers.{layer}", upsample(x) if doubled else x, 0, 511)
    small = convolve(tensors, "linear", codes[256:, None, None], 0, 255).reshape(3, 32, 32)
    correction = depth_to_space(convolve(tensors, "finish", x, -255, 255), 2)
    return np.clip(double(small) + correction, 0, 255).transpose(1, 2, 0)


# Enhancement layer


GAINS = ((28392, 28392, 37522, 21483), (37522, 37522, 49589), (49589, 49589, 65536), (65536, 65536, 86612))


def enhance(stream, prediction, tensors, delay):
    check_texture(tensors)
    if stream.at_end:
        return prediction
    height, width = prediction.shape[:2]
    padded = np.pad(prediction.astype(int), ((0, -height % 16), (0, -width % 16), (0, 0)), "edge")
    padded = padded.transpose(2, 0, 1)
    _, fine, lacks, _ = left(tensors, padded, *refine(stream, padded, tensors, delay))
    picture = np.clip((fine + 4 * lacks + 8) >> 4, 0, 255)
    return picture.astype(np.uint8).transpose(1, 2, 0)[:height, :width]


def left(tensors, padded, cells, known, tables, gone, part):
    """Return samples, the picture of them in 1/16 grey level, what it lacks in 1/4, and features."""
    levels = zip(range(4), cells, known, tables, strict=True)
    samples = [settle(tensors, *level, spread(gone, level[0])) for level in levels]
    fine = inverse_wavelet(samples) + 16 * padded
    return samples, fine, *lacking(np.clip((fine + 8) >> 4, 0, 255), padded, gone, part, tensors)


def check_texture(tensors):
    """Refuse numbers that are out of range."""
    for name, low, high in (
        ("order", 0, 866),
        ("thresholds", 0, 867),
        ("first.zero", 0, 50),
        ("first.lean", -8, 8),
        ("magnitude", 0, 255),
        ("settle.waiting", -96, 96),
        ("settle.rest", -32, 32),
        ("regions", 0, 24),
        ("asked", 0, 24),
        ("expects", 0, 24),
    ):
        require(low <= tensors[name].min() and tensors[name].max() <= high, "WeightsError")
    require(tensors["thresholds"][2] == 867, "WeightsError")
    require(len(tensors["trit.frequencies"]) == 867, "WeightsError")


def spread(blocks, level):
    """Return a map of blocks on the grid of a level."""
    return blocks.repeat(2**level, 0).repeat(2**level, 1)


def block_delays(regions, geometries, width, height):
    """Return how much later each block has its turn."""
    result = np.full((-(-height // 16), -(-width // 16)), 255 if geometries else 0)
    for i, j in np.ndindex(*result.shape):
        for geometry, r, c in itertools.product(geometries, (4, 12), (4, 12)):
            s, t = coordinates(geometry, width, height, 2 * (16 * j + c) + 1, 2 * (16 * i + r) + 1)
            u, v = (min(max((5 * x + 28672) // 3584 + 1, 0), 17) for x in (s, t))
            result[i, j] = min(result[i, j], regions[v, u])
    return result


def refine(stream, padded, tensors, delay):
    """Return cell, known and table of all latents, a map a level, turns gone of blocks, and part."""
    rows, columns = delay.shape
    shapes = [(12 if level == 0 else 9, rows << level, columns << level) for level in range(4)]
    cells = [np.zeros(shape, int) for shape in shapes]
    known = [np.full(shape, level) for level, shape in enumerate(shapes)]
    coders = {}
    a8 = layer(tensors, "around.to_8", space_to_depth(padded, 4), stride=2)
    a16 = layer(tensors, "around.to_16", a8, stride=2)
    gone, expected = np.full(delay.shape, -1), [np.zeros(shape, int) for shape in shapes]
    tables = expected
    hints = [
        np.zeros((len(tensors[f"hint.{16 >> level}.bias"]), *shapes[level][1:]), int) for level in range(4)
    ]
    for turn in range(24 + int(delay.max())):
        if turn >= tensors["expects"][0] and turn % 3 == 0:
            samples, _, lacks, features = left(tensors, padded, cells, known, tables, gone, 1)
            expected = [a + b for a, b in zip(samples, wavelet(4 * lacks), strict=True)]
            hints = [layer(tensors, f"hint.{16 >> level}", x) for level, x in enumerate(features)]
        last = tables, gone
        gone = np.clip(turn - delay, -1, 24)
        offsets = [offset(*level) for level in zip(cells, known, expected, strict=True)]
        tables = [
            first_tables(tensors, level, cells[level], spread(gone, level), offsets[level])
            for level in range(4)
        ]
        if turn >= tensors["asked"][0]:
            views = [
                view(tensors, level, cells[level], known[level], gone, offsets[level]) for level in range(4)
            ]
            views = [np.concatenate(both) for both in zip(views, hints, strict=True)]
            changes = network(tensors, views, a8, a16)
            tables = [pair + np.split(change, 2) for pair, change in zip(tables, changes, strict=True)]
        order = tensors["order"].astype(int)
        tables = [order[np.clip(zero, 0, 50), np.clip(lean + 8, 0, 16)] for zero, lean in tables]
        due = []
        for level, table in enumerate(tables):
            grid = spread(gone, level)
            waits = (known[level] == grid // 3) & (known[level] < 8)
            now = waits & (table < tensors["thresholds"].astype(int)[grid % 3])
            due += [(table[at], level, at) for at in map(tuple, np.argwhere(now))]
        for count, (table, level, at) in enumerate(sorted(due), 1):
            if table not in coders:
                coders[table] = cumulative(tensors["trit.frequencies"][table])
            cells[level][at] = 3 * cells[level][at] + stream.symbol(coders[table]) - 1
            known[level][at] += 1
            if stream.at_end and 8 * count < len(due):
                return cells, known, *last, 1
            if stream.at_end:
                return cells, known, tables, gone, (4 * count - len(due)) // (2 * len(due))
    raise Refused("CorruptError")


def offset(cell, known, expected):
    """Return where in their cells latents are expected."""
    w = 3 ** (8 - known)
    return np.clip((2 * expected + w) // (2 * w) - 64 * cell, -128, 127)


def first_tables(tensors, level, cell, gone, offset):
    """Return zero and lean of a level as planes, bands and offsets tell them."""
    plane, kind = np.clip(gone, 0, 23) // 3, np.minimum(abs(cell), 2)
    band = (0, 12, 21, 30)[level] + np.arange(len(cell))[:, None, None]
    away = np.where(cell == 0, np.sign(offset), np.sign(cell))
    o = (np.clip(away * offset, -96, 95) + 100) // 8
    zero, lean = (tensors[f"first.{name}"].astype(int)[plane, kind, band, o] for name in ("zero", "lean"))
    return np.array([zero, away * lean])


def view(tensors, level, cell, known, gone, offset):
    """Return what networks see of a level."""
    gone = spread(gone, level)
    refined = (level <= gone // 3) & (gone // 3 < known)
    value = np.where(refined, cell, 3 * cell)
    large = tensors["magnitude"].astype(int)[np.where(refined, 0, 1), np.minimum(abs(value), 63)]
    passed = 2 * np.clip(gone, 0, 23)[None]
    return np.concatenate([8 * (np.clip(value, -9, 9) + 9), large, passed, offset + 128])


def layer(tensors, name, *inputs, lo=0, hi=255, stride=1):
    return convolve(tensors, name, np.concatenate(inputs), lo, hi, stride)


def shortcut(tensors, name, x):
    inner = layer(tensors, f"{name}.first", x)
    return np.clip(x + layer(tensors, f"{name}.second", inner, lo=-2047, hi=2047), 0, 255)


def network(tensors, views, a8, a16):
    """Return how tables of each level change."""
    e2 = layer(tensors, "trits.enter.2", views[3])
    e4 = layer(tensors, "trits.enter.4", views[2], layer(tensors, "trits.down.2", e2, stride=2))
    e8 = layer(tensors, "trits.enter.8", views[1], layer(tensors, "trits.down.4", e4, stride=2), a8)
    e16 = layer(tensors, "trits.enter.16", views[0], layer(tensors, "trits.down.8", e8, stride=2), a16)
    x16 = shortcut(tensors, "trits.at_16.1", shortcut(tensors, "trits.at_16.0", e16))
    x8 = layer(tensors, "trits.merge.8", e8, upsample(layer(tensors, "trits.up.8", x16)))
    x8 = shortcut(tensors, "trits.at_8", x8)
    x4 = layer(tensors, "trits.merge.4", e4, upsample(layer(tensors, "trits.up.4", x8)))
    x2 = layer(tensors, "trits.merge.2", e2, upsample(layer(tensors, "trits.up.2", x4)))
    grids = {16: x16, 8: x8, 4: x4, 2: x2}
    return [layer(tensors, f"trits.tell.{grid}", x, lo=-51, hi=51) for grid, x in grids.items()]


def settle(tensors, level, cell, known, table, gone):
    """Return the samples that latents of a level most likely have."""
    waits = (known == gone // 3) & (known < 8)
    waiting = tensors["settle.waiting"].astype(int)[np.minimum(abs(cell), 2), table]
    rest = np.sign(cell) * tensors["settle.rest"].astype(int)[np.minimum(abs(cell), 3)]
    return np.where(
        waits, 3 ** np.maximum(7 - known, 0) * (192 * cell + waiting), 3 ** (8 - known) * (64 * cell + rest)
    )


def inverse_wavelet(samples):
    """Return red, green and blue of samples of four levels, both in 1/16 grey level."""
    bands = []
    for x, gains in zip(samples, GAINS, strict=True):
        bands.append([(x[3 * b : 3 * b + 3] * gain + 32768) >> 16 for b, gain in enumerate(gains)])
    m = bands[0][3]
    for across, down, both, *_ in bands:
        left, right = merge(m, across), merge(down, both)
        m = merge(left.transpose(0, 2, 1), right.transpose(0, 2, 1)).transpose(0, 2, 1)
    red = 37837 * m[0] + 46341 * m[1] + 26755 * m[2]
    green = 37837 * m[0] - 53510 * m[2]
    blue = 37837 * m[0] - 46341 * m[1] + 26755 * m[2]
    return (np.array([red, green, blue]) + 32768) >> 16


def merge(e, o):
    """Merge two halves (C, n, m) into (C, 2 n, m)."""
    n = e.shape[1]
    before, after = np.maximum(np.arange(n) - 1, 0), np.minimum(np.arange(n) + 1, n - 1)
    e = e - ((29066 * (o[:, before] + o) + 32768) >> 16)
    o = o - ((57862 * (e + e[:, after]) + 32768) >> 16)
    e = e - ((-3472 * (o[:, before] + o) + 32768) >> 16)
    o = o - ((-103949 * (e + e[:, after]) + 32768) >> 16)
    return np.stack([e, o], 2).reshape(len(e), 2 * n, -1)


BACK = (
    (151274, 151274, 114465, 199924),
    (114465, 114465, 86611),
    (86611, 86611, 65536),
    (65536, 65536, 49589),
)


def wavelet(picture):
    """Return the samples of four levels of red, green and blue, both in 1/16 grey level."""
    red, green, blue = picture
    m = 37837 * red + 37837 * green + 37837 * blue, 46341 * (red - blue), 26755 * (red - 2 * green + blue)
    m, levels = (np.array(m) + 32768) >> 16, []
    for back in BACK[::-1]:
        left, right = (part.transpose(0, 2, 1) for part in parted(m.transpose(0, 2, 1)))
        (m, across), (down, both) = parted(left), parted(right)
        bands = [across, down, both, m]
        levels.append(np.concatenate([(b * x + 32768) >> 16 for b, x in zip(back, bands, strict=False)]))
    return levels[::-1]


def parted(x):
    """Part (C, 2 n, m) into two halves (C, n, m)."""
    e, o = x[:, ::2], x[:, 1::2]
    n = e.shape[1]
    before, after = np.maximum(np.arange(n) - 1, 0), np.minimum(np.arange(n) + 1, n - 1)
    o = o + ((-103949 * (e + e[:, after]) + 32768) >> 16)
    e = e + ((-3472 * (o[:, before] + o) + 32768) >> 16)
    o = o + ((57862 * (e + e[:, after]) + 32768) >> 16)
    e = e + ((29066 * (o[:, before] + o) + 32768) >> 16)
    return e, o


def lacking(rough, padded, gone, part, tensors):
    """Return what a rough picture lacks, in 1/4 grey level, and the features that tell so, coarsest first."""
    now = np.where(gone < 0, -1, np.where(gone > 23, 1, part))
    told = np.clip(2 * gone + now, 0, 48), 32 * (now + 1)
    told = np.stack([spread(blocks, 3) for blocks in told])
    y2 = layer(tensors, "filter.enter", space_to_depth(rough, 2), space_to_depth(padded, 2), told)
    y4 = layer(tensors, "filter.down.4", y2, stride=2)
    y8 = layer(tensors, "filter.down.8", y4, stride=2)
    x = shortcut(tensors, "filter.at.16.0", layer(tensors, "filter.down.16", y8, stride=2))
    x16 = shortcut(tensors, "filter.at.16.1", x)
    x = layer(tensors, "filter.merge.8", y8, upsample(layer(tensors, "filter.up.8", x16)))
    x8 = shortcut(tensors, "filter.at.8.1", shortcut(tensors, "filter.at.8.0", x))
    x = layer(tensors, "filter.merge.4", y4, upsample(layer(tensors, "filter.up.4", x8)))
    x4 = shortcut(tensors, "filter.at.4.1", shortcut(tensors, "filter.at.4.0", x))
    x = layer(tensors, "filter.merge.2", y2, upsample(layer(tensors, "filter.up.2", x4)))
    x2 = shortcut(tensors, "filter.at.2.1", shortcut(tensors, "filter.at.2.0", x))
    lacks = layer(tensors, "filter.finish", x2, lo=-511, hi=511)
    return depth_to_space(lacks, 2), [x16, x8, x4, x2]


# Exact residual


WINDOW = [
    (-2, -2),
    (-2, -1),
    (-2, 0),
    (-2, 1),
    (-2, 2),
    (-1, -2),
    (-1, -1),
    (-1, 0),
    (-1, 1),
    (0, -2),
    (0, 0),
]


def add_residual(payload, picture):
    require(len(payload) >= 114)
    require(max(payload[66:114]) <= 63)
    weights = np.frombuffer(payload[:66], np.int8).astype(int)
    stream, padded = Stream(payload[114:]), np.pad(picture.astype(int), [(2, 2), (2, 2), (0, 0)], "edge")
    for colours, start in (([1], 0), ([0, 1], 11), ([2, 1, 0], 33)):
        w = weights[start : start + 11 * len(colours)].reshape(-1, 11)
        tables = payload[66 + 16 * (len(colours) - 1) :][:16]
        read_colour(stream, padded, colours, w, [failure_table(t) for t in tables])
    require(stream.at_end)
    return padded[2:-2, 2:-2].astype(np.uint8)


def read_colour(stream, padded, colours, weights, tables):
    """Read the first colour of a padded picture, given the ones behind it."""
    height, width = padded.shape[0] - 4, padded.shape[1] - 4
    failed = np.zeros(padded.shape[:2], int)

    def context(r, c):
        around = 2 * failed[r, c - 1] + 2 * failed[r - 1, c] + failed[r - 1, c - 1]
        around += failed[r - 1, c + 1] + failed[r, c - 2] + failed[r - 2, c]
        thresholds = (1, 3, 5, 8, 12, 17, 24, 32, 43, 58, 76, 100, 135, 200, 350)
        return bisect_right(thresholds, around)

    for front in range(width + 2 * height - 2):
        pixels = [(2 + r, 2 + front - 2 * r) for r in range(height) if 0 <= front - 2 * r < width]
        for r, c in sorted(pixels, key=lambda pixel: (context(*pixel), pixel)):
            total = 64 * padded[r, c - 1, colours[0]] + 32
            for colour, w in zip(colours, weights, strict=True):
                window = [padded[r + y, c + x, colour] - padded[r, c - 1, colour] for y, x in WINDOW]
                total += w @ window
            predicted = min(max(total >> 6, 0), 255)
            exact = (predicted + stream.symbol(tables[context(r, c)]) - 128) % 256
            padded[r, c, colours[0]], failed[r, c] = exact, abs(exact - predicted)


@cache
def failure_table(t):
    power, s = 2 + 2 * (t // 32), 6
    for _ in range(t % 32):
        s += 7 * s // 16
    w = [2**96 // (s + 64 * d * d) ** power for d in range(-128, 128)]
    f = [1 + weight * 65280 // sum(w) for weight in w]
    f[128] += 2**16 - sum(f)
    return cumulative(f)
