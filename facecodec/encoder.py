"""Encode a picture: faces, base layer, enhancement, and the search for the size or quality asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import (
    base_layer,
    codec,
    enhancement,
    exact,
    face_codes,
    latents,
    residual_fit,
    texture,
    wavelet,
    weights,
)
from .container import Container, SectionType
from .errors import FscError, ImageError, NoFaceError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]

MIN_SIDE, MAX_SIDE = 16, 8192
TILE = 1024
"""Pixels a side that the wavelet sees at once, without what it reaches."""
TUNES = {"fidelity": enhancement.Flags(0), "recognition": enhancement.Flags.REGIONS}
DOUBTED = 2
"""So many times the bytes of a preview are the least that tell people apart better than it does."""
LEAST_TURNS = 6
"""The turns of quality 0; they tell next to nothing."""
LOSSLESS_QUALITY = 50
"""The quality at which a lossless file leaves the rest to its exact residual, which is better at it."""


@dataclass(frozen=True, eq=False)
class _Base:
    """A picture, its base layer, and the file of that alone."""

    pixels: Pixels
    faces: base_layer.Faces
    appearance: base_layer.Codes
    model: base_layer.BaseModel
    container: Container
    payloads: dict[int, bytes]
    file: bytes

    @classmethod
    def of(cls, image: Pixels | Image, no_face: str, aligned: bool) -> _Base:
        """Return the base layer of a picture; raises NoFaceError."""
        pixels = _pixels(image)
        model = base_layer.load(weights.newest("base"))
        faces, appearance = face_codes.coded(pixels, model, aligned)
        if not faces.geometries and no_face == "error":
            raise NoFaceError("no face was found in the picture")
        container = Container(pixels.shape[1], pixels.shape[0], model.id, ())
        payloads: dict[int, bytes] = {SectionType.FACES: base_layer.encode_faces(faces, model)}
        if faces.geometries:
            payloads[SectionType.APPEARANCE] = base_layer.encode_appearance(appearance, model)
        file = codec.written(container, payloads)
        return cls(pixels, faces, appearance, model, container, payloads, file)

    def detail(self, tune: str) -> _Detail:
        """Return what an enhancement may add."""
        height, width = self.pixels.shape[:2]
        prediction = codec.predict(self.faces, self.appearance, self.model, width, height)
        return _detail(self.pixels, prediction, self.faces, TUNES[tune])

    def refined(self, enhanced: bytes) -> bytes:
        """Return the file with the payload of an enhancement."""
        return codec.written(self.container, {**self.payloads, SectionType.ENHANCEMENT: enhanced})


@dataclass(frozen=True, eq=False)
class _Detail:
    """All that the enhancement of a picture may code, and the first bytes of its payload."""

    cells: npt.NDArray[np.int16]
    prediction: Pixels
    delay: npt.NDArray[np.uint8]
    model: texture.TextureModel
    head: bytes

    def refined(self, **limits: float) -> enhancement.Refinements:
        """Return all refinements, or those within the limits of ``enhancement.refine``."""
        return enhancement.refine(
            self.cells, self.delay, self.prediction, self.model, codec.fastest(), **limits
        )

    def stream(self, quality: int) -> bytes:
        """Return the stream of a quality, 0..100."""
        most = latents.TURNS + int(self.delay.max())
        turns = LEAST_TURNS + quality / 100 * (most - LEAST_TURNS)
        return self.refined(turns=turns).after(turns)

    def decoded(self, stream: bytes) -> Pixels:
        """Return the picture that a stream makes of its prediction."""
        return enhancement.decode(stream, self.prediction, self.delay, self.model, codec.fastest())


def encode(
    image: Pixels | Image,
    *,
    quality: int = 75,
    max_bytes: int | None = None,
    min_psnr: float | None = None,
    min_similarity: float | None = None,
    lossless: bool = False,
    layers: str = "full",
    no_face: str = "error",
    aligned: bool = False,
    tune: str = "fidelity",
) -> bytes:
    """Encode a picture as an FSC file.

    ``image`` is uint8 RGB (H, W, 3) or a PIL image, 16 to 8192 pixels a side.  At most one of ``max_bytes``,
    ``min_psnr`` (dB), ``min_similarity`` (cosine of the embeddings of decoded and original faces) and
    ``lossless`` replaces ``quality`` (0..100).  ``layers`` "base" leaves the enhancement out.  ``no_face``
    says whether a picture without a face is an "error" or to "encode" all the same.  ``aligned`` takes the
    picture for the 112x112 recognition frame of one face.  ``tune`` "recognition" sends first what tells
    people apart, and leaves it at the preview where ``max_bytes`` are so few that this alone does it better;
    "fidelity" refines all of the picture alike.  Raises ImageError, NoFaceError, FscError for a goal that
    cannot be met, WeightsError, and ValueError for wrong arguments.
    """
    goals = [max_bytes is not None, min_psnr is not None, min_similarity is not None, lossless]
    if sum(goals) > 1:
        raise ValueError("at most one of max_bytes, min_psnr, min_similarity and lossless")
    if layers not in ("base", "full") or no_face not in ("error", "encode") or not 0 <= quality <= 100:
        raise ValueError("layers are base or full, no_face is error or encode, quality is 0..100")
    if layers == "base" and any(goals[1:]):
        raise ValueError("the base layer alone has no min_psnr or min_similarity, and is not lossless")
    if tune not in TUNES:
        raise ValueError(f"tune is fidelity or recognition, not {tune!r}")
    base = _Base.of(image, no_face, aligned)
    if max_bytes is not None and (layers == "full" or len(base.file) > max_bytes):
        return next(_within(base, [max_bytes], tune))
    if layers == "base":
        return base.file
    detail, pixels, places = base.detail(tune), base.pixels, base.faces.geometries
    if min_psnr is not None:
        stream = _shortest(detail, lambda picture: _psnr(picture, pixels) >= min_psnr, f"{min_psnr} dB")
    elif min_similarity is not None:
        if not places:
            raise NoFaceError("a similarity can be reached only by a picture with a face")
        wanted = face_codes.embedded(pixels, places)

        def similar(picture: Pixels) -> bool:
            cosines = (face_codes.embedded(picture, places) * wanted).sum(1)
            return bool(cosines.min() >= min_similarity)

        stream = _shortest(detail, similar, f"a similarity of {min_similarity}")
    elif lossless:
        stream = detail.stream(LOSSLESS_QUALITY)
        base.payloads[SectionType.RESIDUAL] = residual_fit.encode_exact(pixels, detail.decoded(stream))
    else:
        stream = detail.stream(quality)
    return base.refined(detail.head + stream)


def encode_within(
    image: Pixels | Image,
    sizes: Sequence[int],
    *,
    no_face: str = "error",
    aligned: bool = False,
    tune: str = "fidelity",
) -> Iterator[bytes]:
    """Yield, for each of these sizes, the file that ``encode`` makes of a picture within so many bytes.

    Arguments and errors are those of ``encode``; the picture is looked at once.
    """
    if no_face not in ("error", "encode") or tune not in TUNES:
        raise ValueError("no_face is error or encode, tune is fidelity or recognition")
    yield from _within(_Base.of(image, no_face, aligned), sizes, tune)


def embed(image: Pixels | Image, *, aligned: bool = False) -> npt.NDArray[np.float32]:
    """Return float embeddings (N, 256), of unit norm, of the faces of a picture, in the order of its file.

    ``image`` and ``aligned`` are as for ``encode``.  Raises ImageError and WeightsError.
    """
    pixels = _pixels(image)
    return face_codes.embedded(pixels, face_codes.places_in(pixels, aligned))


def _pixels(image: Pixels | Image) -> Pixels:
    if isinstance(image, np.ndarray):
        pixels = image
    else:
        from . import images

        pixels = images.convert(image).pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(f"a picture is uint8 (H, W, 3), not {pixels.dtype} {pixels.shape}")
    if not MIN_SIDE <= min(pixels.shape[:2]) <= max(pixels.shape[:2]) <= MAX_SIDE:
        raise ImageError(
            f"a picture has {MIN_SIDE} to {MAX_SIDE} pixels a side, not {pixels.shape[1]}x{pixels.shape[0]}"
        )
    return np.ascontiguousarray(pixels)


def _detail(pixels: Pixels, prediction: Pixels, faces: base_layer.Faces, flags: enhancement.Flags) -> _Detail:
    model = texture.load(weights.newest("texture"))
    head = model.id[: enhancement.ID_BYTES] + bytes([flags])

    def tile(where: npt.NDArray[Any]) -> list[npt.NDArray[np.int16]]:
        picture, known = (exact.around(part, where, wavelet.STRIDE) for part in (pixels, prediction))
        bands = wavelet.analysed(wavelet.UNITS * (picture - known)[0])
        return [latents.finest(band, level)[None] for level, band in enumerate(bands)]

    rows, columns = (latents.blocks(size) for size in pixels.shape[:2])
    levels = exact.tiled(
        tile, [exact.places(rows, columns)], tile=TILE, halo=wavelet.REACH, scales=[wavelet.STRIDE]
    )
    cells = np.concatenate([level.ravel() for level in levels])
    return _Detail(cells, prediction, codec.delays(flags, faces, model, prediction), model, head)


def _within(base: _Base, sizes: Sequence[int], tune: str) -> Iterator[bytes]:
    """Yield the files of a picture within so many bytes; raises FscError where not even its faces fit."""
    least = len(base.file)
    if base.faces.geometries and tune == "recognition":
        least *= DOUBTED
    detail = base.detail(tune) if max(sizes) >= least else None
    refined = detail.refined(max_bytes=max(sizes)) if detail else None
    for size in sizes:
        if size < len(base.file):
            yield codec.truncate(base.file, size)
        elif not detail or not refined or size < least:
            yield base.file
        else:
            yield _filled(base, detail.head, refined, size)


def _filled(base: _Base, head: bytes, refined: enhancement.Refinements, max_bytes: int) -> bytes:
    """Return the file with as many refinements as fit, without an enhancement if not even its head does."""
    room = max_bytes - len(base.refined(head))
    while room >= 0:
        file = base.refined(head + refined.within(room))
        if len(file) <= max_bytes:
            return file
        room -= len(file) - max_bytes
    return base.file


def _shortest(detail: _Detail, reached: Callable[[Pixels], bool], goal: str) -> bytes:
    """Return the shortest stream whose picture reaches a goal; raises FscError if that of all does not."""
    refined = detail.refined()
    stream = refined.after(math.inf)
    if not reached(detail.decoded(stream)):
        raise FscError(f"{goal} cannot be reached without lossless coding")
    low, high = 0, len(stream)
    while low < high:
        middle = (low + high) // 2
        shorter = refined.within(middle)
        if reached(detail.decoded(shorter)):
            stream, high = shorter, middle
        else:
            low = middle + 1
    return stream


def _psnr(a: Pixels, b: Pixels) -> float:
    rows = zip(a, b, strict=True)
    error = sum(int(np.square(np.subtract(x, y, dtype=np.int32)).sum()) for x, y in rows) / a.size
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")
