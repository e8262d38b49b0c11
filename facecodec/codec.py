"""Files from the outside: decode, read features, cut, compare; no network of the encoder runs."""

from __future__ import annotations

import bisect
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import base_layer, container, enhancement, geometry, identity, residual, texture, weights
from .container import Container, Section, SectionType
from .errors import CorruptError, FscError, UnsupportedError
from .exact import Conv2d, conv2d

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A decoded picture: ``pixels`` uint8 RGB (H, W, 3), its ``faces``, and ``notes`` on what was missing."""

    pixels: Pixels
    faces: identity.Features
    notes: tuple[str, ...]


def decode(data: bytes, *, layers: str = "full", convolve: Conv2d | None = None) -> Picture:
    """Decode a file, or as much of it as there is.

    ``layers`` "base" stops at the preview, "full" goes on.  ``convolve`` runs the integer layers:
    ``exact.conv2d`` in numpy, or ``networks.exact_torch.conv2d``, which is faster, and the default where
    torch is loaded anyway; the result is the same.  What is cut or damaged after the faces is left out, and
    named in the notes.  Raises StreamError, and WeightsError for an unknown model.
    """
    if layers not in ("base", "full"):
        raise ValueError(f"layers are base or full, not {layers!r}")
    convolve = convolve or fastest()
    file = identity.parsed(data)
    sections = _usable(file)
    enhanced = sections.get(SectionType.ENHANCEMENT) if layers == "full" else None
    with _loading(enhanced):
        model = identity.base_model(file)
        faces = identity.faces_of(file, model)
        appearance = np.zeros((len(faces.identity), base_layer.APPEARANCE), np.int32)
        if coded := sections.get(SectionType.APPEARANCE):
            appearance = base_layer.decode_appearance(coded.payload, len(appearance), model)
        pixels = predict(faces, appearance, model, file.width, file.height, convolve)
    if enhanced:
        pixels = _enhanced(pixels, faces, enhanced, convolve)
    if layers == "full" and (exact := sections.get(SectionType.RESIDUAL)):
        pixels = residual.decode(exact.payload, pixels)
    return Picture(pixels, identity.features_of(file, faces, model), container.findings(file))


def fastest() -> Conv2d:
    """Return what convolves the fastest without loading torch for it."""
    if "torch" not in sys.modules:
        return conv2d
    from .networks import exact_torch

    return exact_torch.conv2d


def verify(data: bytes) -> tuple[str, ...]:
    """Return what is wrong with a file, nothing if all is well; raises StreamError if its faces are."""
    file = identity.parsed(data)
    notes = container.findings(file)
    return notes if notes else decode(data).notes


def truncate(data: bytes, max_bytes: int) -> bytes:
    """Return a file of at most ``max_bytes`` that decodes to what these first bytes are worth.

    Whatever is damaged is left out.  Raises FscError if not even the faces fit.
    """
    if len(data) <= max_bytes and not container.findings(container.parse(data)):
        return data
    file = identity.parsed(data)
    payloads = _payloads(file)
    for dropped in (None, SectionType.RESIDUAL, SectionType.ENHANCEMENT, SectionType.APPEARANCE):
        if dropped == SectionType.ENHANCEMENT and dropped in payloads:
            short = fitted(file, payloads, max_bytes)
            if short:
                return short
        if dropped == SectionType.APPEARANCE and dropped in payloads:
            short = _less_appearance(file, payloads, max_bytes)
            if short:
                return short
        if dropped:
            payloads = {t: p for t, p in payloads.items() if t < dropped}
        whole = written(file, payloads)
        if len(whole) <= max_bytes:
            return whole
    raise FscError(f"the faces alone need {len(whole)} bytes, more than {max_bytes}")


def _less_appearance(file: Container, payloads: dict[int, bytes], max_bytes: int) -> bytes | None:
    """Return the file with as many appearance codes as fit, None if not even their section does."""
    model = identity.base_model(file)
    faces = len(identity.faces_of(file, model).identity)
    codes = base_layer.decode_appearance(payloads[SectionType.APPEARANCE], faces, model)

    def kept(count: int) -> bytes:
        part = base_layer.encode_appearance(codes, model, count)
        return written(file, {**payloads, SectionType.APPEARANCE: part})

    most = bisect.bisect_right(range(codes.size), max_bytes, key=lambda count: len(kept(count)))
    return kept(most - 1) if most else None


def strip(data: bytes, keep: str) -> bytes:
    """Return the file with nothing after its faces (``keep`` "features") or its base layer ("base")."""
    kept = {"features": (SectionType.FACES,), "base": (SectionType.FACES, SectionType.APPEARANCE)}
    if keep not in kept:
        raise ValueError(f"keep features or base, not {keep!r}")
    file = identity.parsed(data)
    return written(file, {t: payload for t, payload in _payloads(file).items() if t in kept[keep]})


def fitted(file: Container, payloads: dict[int, bytes], max_bytes: int) -> bytes | None:
    """Return the file with as many words of its enhancement as fit, None if not even its model id does."""
    enhanced = payloads[SectionType.ENHANCEMENT]
    short = written(file, payloads)
    kept = len(enhanced)
    while len(short) > max_bytes:
        kept -= len(short) - max_bytes
        if kept < enhancement.HEAD_BYTES:
            return None
        cut = enhancement.cut(enhanced[:kept], len(enhanced) - kept)
        short = written(file, {**payloads, SectionType.ENHANCEMENT: cut})
    return short


def written(file: Container, payloads: dict[int, bytes]) -> bytes:
    """Return the file with these payloads for the picture of another."""
    return container.write(file.width, file.height, file.weights_id, payloads)


def predict(
    faces: base_layer.Faces,
    appearance: base_layer.Codes,
    model: base_layer.BaseModel,
    width: int,
    height: int,
    convolve: Conv2d = conv2d,
) -> Pixels:
    """Return the picture uint8 (height, width, 3) that the base layer predicts."""
    previews = base_layer.previews(faces.identity, appearance, model, convolve)
    return geometry.place(previews, faces.geometries, width, height)


def _payloads(file: Container) -> dict[int, bytes]:
    """Return the payloads of the sections that count, so that they make a file."""
    sections = _usable(file)
    payloads = {section_type: section.payload for section_type, section in sections.items()}
    enhanced = sections.get(SectionType.ENHANCEMENT)
    if enhanced and enhanced.missing:
        payloads[SectionType.ENHANCEMENT] = enhancement.cut(enhanced.payload, enhanced.missing)
    return payloads


def _usable(file: Container) -> dict[int, Section]:
    """Return the sections that count: those before the first cut or damaged one, and a cut enhancement."""
    usable: dict[int, Section] = {}
    for section in file.sections:
        if section.state == "damaged" or (section.state == "cut" and not _begun(section)):
            break
        usable[section.type] = section
    return usable


def _begun(section: Section) -> bool:
    """Tell whether a cut section is of use: the model of an enhancement is known."""
    return section.type == SectionType.ENHANCEMENT and len(section.payload) >= enhancement.HEAD_BYTES


@contextmanager
def _loading(enhanced: Section | None) -> Iterator[None]:
    """Load the model of an enhancement beside what is done inside; its errors show up at its use."""

    def load(payload: bytes) -> None:
        with suppress(FscError, MemoryError):
            _texture_model(payload)

    if not enhanced:
        yield
        return
    thread = threading.Thread(target=load, args=(enhanced.payload,))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _texture_model(payload: bytes) -> texture.TextureModel:
    if len(payload) < enhancement.HEAD_BYTES:
        raise CorruptError("the enhancement section has no model id")
    return texture.load(weights.named("texture", payload[: enhancement.ID_BYTES]))


def _enhanced(prediction: Pixels, faces: base_layer.Faces, section: Section, convolve: Conv2d) -> Pixels:
    model, flags = _texture_model(section.payload), section.payload[enhancement.ID_BYTES]
    if flags > sum(enhancement.Flags):
        raise UnsupportedError(f"an enhancement of flags {flags} is not known")
    delay = delays(enhancement.Flags(flags), faces, model, prediction)
    missing = section.missing + (enhancement.OPEN_BYTES if flags & enhancement.Flags.OPEN else 0)
    stream = section.payload[enhancement.HEAD_BYTES :]
    return enhancement.decode(stream, prediction, delay, model, convolve, missing=missing)


def delays(
    flags: enhancement.Flags, faces: base_layer.Faces, model: texture.TextureModel, prediction: Pixels
) -> npt.NDArray[np.uint8]:
    """Return how many turns each block of 16 x 16 pixels is put off, uint8 (rows, columns)."""
    height, width = prediction.shape[:2]
    regions = model.regions if flags & enhancement.Flags.REGIONS else np.zeros_like(model.regions)
    return geometry.delays(regions, faces.geometries, width, height)
