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
        require(len(sections[3]) >= 3)
        tensors, order = read_weights(weights, sections[3][:3]), max(sections[3][3:4], default=0)
        require(order in (0, 1), "UnsupportedError")
        delay = block_delays(tensors["regions"] * order, geometries, width, height)
        result.picture = enhance(sections[3][4:], result.picture, tensors, delay, order)
    if 4 in sections:
        result.picture = add_residual(sections[4], result.picture)
    return result


# Container


def read_container(data):
    """Return width, height, Weights_Id, the payloads that count by Section_Type, and whether they are all."""
    require(data[:3] == b"\xf5SC"[: len(data)])
    require(data[3:4] in (b"", b"\x01"), "UnsupportedError")
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
        require(4 <= length < 2**32)
        entries.append((section_type, length))
    sections, complete = {}, True
    for section_type, length in entries:
        body, at = data[at : at + length], at + length
        payload, check = (body[:-4], body[-4:]) if section_type in (1, 2) else (body[4:], body[:4])
        covered = data[: at - 4] if section_type == 1 else payload
        cut, sound = len(body) < length, crc32(covered) == int.from_bytes(check, "little")
        require(section_type > 1 or not cut, "TruncatedError")
        require(section_type > 1 or sound)
        if complete and ((sound and not cut) or (cut and section_type == 3 and len(payload) >= 3)):
            sections[section_type] = payload
        complete = complete and sound and not cut
    require(len(data) <= at)
    return width, height, data[8:12], sections, complete


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
    def __init__(self, data):
        self.words = struct.unpack(f"<{len(data) // 4}I", data[: len(data) // 4 * 4])[::-1]
        require(self.words[-1:] != (0,))
        self.words, self.s = list(self.words), 0
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
        return not self.words and self.s <= 2**32


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
    require(len(data) % 4 == 0 and missing <= 8 * faces * len(tables))
    stream, codes = Stream(data), np.zeros((faces, 8 * len(tables)), int)
    left = codes.size - missing
    for g, table in enumerate(tables):
        c = cumulative(table)
        for face, d in np.ndindex(faces, 8):
            if left:
                codes[face, 8 * g + d], left = stream.symbol(c) - len(table) // 2, left - 1
    require(not stream.words and stream.s == 0)
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


def enhance(data, prediction, tensors, delay, order):
    height, width = prediction.shape[:2]
    padded = np.pad(prediction, ((0, -height % 64), (0, -width % 64), (0, 0)), "edge").transpose(2, 0, 1)
    stream = Stream(data)
    z = np.zeros((len(tensors["hyper.frequencies"]), padded.shape[1] // 64, padded.shape[2] // 64), int)
    for channel, table in enumerate(tensors["hyper.frequencies"]):
        c = cumulative(table)
        for i, j in np.ndindex(*z.shape[1:]):
            if stream.at_end:
                return prediction
            z[channel, i, j] = stream.symbol(c) - 15

    def layer(name, *inputs, lo=0, hi=511, stride=1):
        return convolve(tensors, name, np.concatenate(inputs), lo, hi, stride)

    def shortcut(name, x):
        return np.clip(x + layer(f"{name}.second", layer(f"{name}.first", x), lo=-2047, hi=2047), 0, 511)

    def context(frame):
        c8 = layer("context.to_8", space_to_depth(frame.astype(int), 4), stride=2)
        return c8, layer("context.to_16", c8, stride=2)

    _, c16 = context(padded)
    x = layer("prior.from_64", z)
    x = layer("prior.from_32", upsample(x))
    x = layer("prior.from_16", upsample(x))
    x = shortcut("prior.refine", layer("prior.mix", x, c16))
    mean = layer("prior.mean", x, lo=-8191, hi=8191)
    scale = layer("prior.scale", x, hi=len(tensors["tree.planes"]) - 1)
    rows, columns = -(-height // 16), -(-width // 16)
    mean, scale = mean[:, :rows, :columns], scale[:, :rows, :columns]
    padded = padded[:, : 16 * rows, : 16 * columns]
    c8, c16 = context(padded)

    def review(node, r):
        surprise = tensors["tree.surprise"].astype(int)[scale, node.reshape(scale.shape)]
        gone = np.broadcast_to(np.clip(r - delay, 0, 255), scale.shape[1:])[None]
        x = layer("review.enter", surprise, 4 * scale, gone)
        x = shortcut("review.at_16.1", shortcut("review.at_16.0", x))
        last = len(tensors["tree.planes"]) - 1
        return np.clip(scale + layer("review.change", x, lo=-last, hi=last), 0, last).ravel()

    late = np.broadcast_to(delay, scale.shape).ravel()
    node, told = refine(stream, scale.ravel(), late, tensors, review)
    value = tensors["tree.value"].astype(int)[told, node].reshape(scale.shape)

    if order == 1:
        planes = tensors["tree.planes"][told].reshape(scale.shape)
        for depth in range(8):
            mean = np.where(
                (node.reshape(scale.shape) == 3**depth - 1) & (planes >= depth + 4), mean // 2, mean
            )
    top = tensors["latent.top"].astype(int)[:, None, None]
    y = np.clip(mean + value, -top, top)
    ranks = tensors["tree.rank"].astype(int)
    places = zip(ranks[scale.ravel()], node, late, strict=True)
    first = min((above[n] + d for above, n, d in places if is_inner(above, n)), default=255)
    depth = np.clip(int(tensors["finest"][0]) - first + delay, 0, 80)
    depth = np.broadcast_to(depth, scale.shape[1:])[None]
    blocks = depth_to_space(layer("synthesis.linear", y, lo=-1023, hi=1023), 16)
    rough = np.clip(padded + blocks, 0, 255)
    x = layer("synthesis.enter", y)
    x = shortcut("synthesis.at_16.1", layer("synthesis.at_16.0", x, c16, depth))
    x = shortcut("synthesis.at_16.2", x)
    x = depth_to_space(layer("synthesis.up_8", x), 2)
    x = shortcut("synthesis.at_8.1", layer("synthesis.at_8.0", x, c8))
    x = depth_to_space(layer("synthesis.up_4", x), 2)
    seen = space_to_depth(rough, 4), space_to_depth(padded.astype(int), 4)
    x = layer("synthesis.at_4.0", x, *seen, upsample(upsample(depth)))
    x = depth_to_space(layer("synthesis.finish", shortcut("synthesis.at_4.1", x), lo=-511), 4)
    return np.clip(padded + blocks + x, 0, 255).astype(np.uint8).transpose(1, 2, 0)[:height, :width]


def is_inner(ranks, node):
    """Tell whether a node of a tree with these ranks is refined further."""
    return node < len(ranks) and ranks[node] < 255


def block_delays(regions, geometries, width, height):
    """Return how much later each block has its turn."""
    result = np.full((-(-height // 16), -(-width // 16)), 255 if geometries else 0)
    for i, j in np.ndindex(*result.shape):
        for geometry, r, c in itertools.product(geometries, (4, 12), (4, 12)):
            s, t = coordinates(geometry, width, height, 2 * (16 * j + c) + 1, 2 * (16 * i + r) + 1)
            u, v = (min(max((5 * x + 28672) // 3584 + 1, 0), 17) for x in (s, t))
            result[i, j] = min(result[i, j], regions[v, u])
    return result


def refine(stream, scale, delay, tensors, review):
    """Return the node that each latent, by channel, row and column, reaches, and the scale told last."""
    tables, node, told = {}, np.zeros(len(scale), int), scale
    leaves = np.full((len(tensors["tree.rank"]), 3280 - 1093), 255)
    ranks = np.concatenate([tensors["tree.rank"], leaves], 1)
    for r in range(255):
        if stream.at_end:
            return node, told
        if r in tensors["review.turns"]:
            told = review(node, r)
        due = (ranks[scale, node] < 255) & (ranks[scale, node] + delay == r)
        for latent in sorted(np.flatnonzero(due), key=lambda i: (told[i], node[i])):
            if stream.at_end:
                return node, told
            place = told[latent], node[latent]
            if place not in tables:
                inner = ranks[place] < 255
                tables[place] = cumulative(tensors["tree.frequencies"][place] if inner else [4094, 1, 1])
            node[latent] = 3 * node[latent] + 1 + stream.symbol(tables[place])
    require(stream.at_end)
    return node, told


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
    require(len(payload) >= 114 and (len(payload) - 114) % 4 == 0)
    require(max(payload[66:114]) <= 63)
    weights = np.frombuffer(payload[:66], np.int8).astype(int)
    stream, padded = Stream(payload[114:]), np.pad(picture.astype(int), [(2, 2), (2, 2), (0, 0)], "edge")
    for colours, start in (([1], 0), ([0, 1], 11), ([2, 1, 0], 33)):
        w = weights[start : start + 11 * len(colours)].reshape(-1, 11)
        tables = payload[66 + 16 * (len(colours) - 1) :][:16]
        read_colour(stream, padded, colours, w, [failure_table(t) for t in tables])
    require(not stream.words and stream.s == 0)
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
