"""Encode a picture: faces, base layer, enhancement, and the search for the size or quality asked for."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import base_layer, codec, enhancement, exact, latents, rans, residual_fit, texture, wavelet, weights
from .container import Container, SectionType
from .entropy import CODE_GROUP, CODE_TOP, code_groups
from .errors import FscError, ImageError, NoFaceError, WeightsError
from .geometry import Geometry
from .identity import MAX_FACE_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image

    from .networks.encoder import FaceEncoder

Pixels = npt.NDArray[np.uint8]

IDENTITY_BYTES = 64
APPEARANCE_BYTES = 60
STEPS = range(65)
"""Steps of identity codes to choose from: 1/32 octave apart, up to four times that of the tables."""
MIN_SIDE, MAX_SIDE = 16, 8192
TILE = 1024
"""Pixels a side that the wavelet sees at once, without what it reaches."""
MAX_FACES = 255
TUNES = {"fidelity": enhancement.Order.ALIKE, "recognition": enhancement.Order.REGIONS}
DOUBTED = 2
"""So many times the bytes of a preview are the least that tell people apart better than it does."""
LEAST_TURNS = 6
"""The turns of quality 0; they tell next to nothing."""
LOSSLESS_QUALITY = 50
"""The quality at which a lossless file leaves the rest to its exact residual, which is better at it."""


@dataclass(frozen=True, eq=False)
class _Detail:
    """All that the enhancement of a picture may code, and in which order."""

    cells: npt.NDArray[np.int16]
    prediction: Pixels
    order: enhancement.Order
    delay: npt.NDArray[np.uint8]
    model: texture.TextureModel

    def words(self, **limits: Any) -> bytes:
        """Return the stream of all refinements, or of those within the limits of ``enhancement.encode``."""
        return enhancement.encode(
            self.cells, self.delay, self.prediction, self.model, codec.fastest(), **limits
        )

    def turns(self, quality: int) -> float:
        """Return how many turns a quality, 0..100, takes."""
        return LEAST_TURNS + quality / 100 * (latents.TURNS + int(self.delay.max()) - LEAST_TURNS)

    def decoded(self, words: bytes) -> Pixels:
        """Return the picture that the words make of its prediction."""
        return enhancement.decode(
            words, self.prediction, self.delay, self.model, codec.fastest(), order=self.order
        )


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
    people apart, has decoders aim at likeness, and leaves it at the preview where ``max_bytes`` are so few
    that this alone does it better; "fidelity" refines all of the picture alike.  Raises ImageError,
    NoFaceError, FscError for a goal that cannot be met, WeightsError, and ValueError for wrong arguments.
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
    pixels = _pixels(image)
    height, width = pixels.shape[:2]
    model = base_layer.load(weights.newest("base"))
    faces, appearance = _faces(pixels, model, aligned)
    if not faces.geometries and no_face == "error":
        raise NoFaceError("no face was found in the picture")
    file = Container(width, height, model.id, ())
    payloads: dict[int, bytes] = {SectionType.FACES: base_layer.encode_faces(faces, model)}
    if faces.geometries:
        payloads[SectionType.APPEARANCE] = base_layer.encode_appearance(appearance, model)
    base = codec.written(file, payloads)
    if max_bytes is not None and len(base) > max_bytes:
        return codec.truncate(base, max_bytes)
    few = max_bytes is not None and max_bytes < DOUBTED * len(base)
    if layers == "base" or (few and faces.geometries and tune == "recognition"):
        return base

    order = TUNES[tune]
    detail = _detail(pixels, codec.predict(faces, appearance, model, width, height), faces, order)
    if min_psnr is not None:
        words = _shortest(detail, lambda picture: _psnr(picture, pixels) >= min_psnr, f"{min_psnr} dB")
    elif min_similarity is not None:
        if not faces.geometries:
            raise NoFaceError("a similarity can be reached only by a picture with a face")
        wanted = _embedded(pixels, faces.geometries)

        def similar(picture: Pixels) -> bool:
            cosines = (_embedded(picture, faces.geometries) * wanted).sum(1)
            return bool(cosines.min() >= min_similarity)

        words = _shortest(detail, similar, f"a similarity of {min_similarity}")
    elif lossless:
        words = detail.words(turns=detail.turns(LOSSLESS_QUALITY))
        payloads[SectionType.RESIDUAL] = residual_fit.encode_exact(pixels, detail.decoded(words))
    elif max_bytes is not None:
        words = detail.words(max_words=max_bytes // codec.WORD)
    else:
        words = detail.words(turns=detail.turns(quality))

    payloads[SectionType.ENHANCEMENT] = detail.model.id[: enhancement.ID_BYTES] + bytes([order]) + words
    if max_bytes is not None:
        return codec.fitted(file, payloads, max_bytes) or base
    return codec.written(file, payloads)


def embed(image: Pixels | Image, *, aligned: bool = False) -> npt.NDArray[np.float32]:
    """Return float embeddings (N, 256), of unit norm, of the faces of a picture, in the order of its file.

    ``image`` and ``aligned`` are as for ``encode``.  Raises ImageError and WeightsError.
    """
    pixels = _pixels(image)
    return _embedded(pixels, _places(pixels, aligned))


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


def _matrix(place: Geometry | None, width: int, height: int) -> npt.NDArray[np.float64]:
    """Return the map (2, 3) from frame to picture between pixel centres, as ``faces.crop`` wants it."""
    if place is None:
        matrix = np.array([[width / 112, 0.0, 0.0], [0.0, height / 112, 0.0]])
    else:
        matrix = place.similarity(width, height)
    return np.column_stack([matrix[:, :2], matrix @ (0.5, 0.5, 1) - 0.5])


def _places(pixels: Pixels, aligned: bool) -> tuple[Geometry | None, ...]:
    """Return where the faces of a picture lie, as its file says it."""
    from . import faces

    if aligned:
        return (None,)
    height, width = pixels.shape[:2]
    most = min(MAX_FACES, MAX_FACE_PIXELS // (width * height))
    found = [faces.similarity(face.landmarks) for face in faces.find(pixels)[:most]]
    centred = [np.column_stack([m[:, :2], m @ (-0.5, -0.5, 1) + 0.5]) for m in found]
    return tuple(Geometry.fit(matrix, width, height) for matrix in centred)


def _faces(
    pixels: Pixels, model: base_layer.BaseModel, aligned: bool
) -> tuple[base_layer.Faces, base_layer.Codes]:
    """Return the faces of a picture and their appearance codes."""
    places = _places(pixels, aligned)
    if not places:
        none = np.empty((0, base_layer.IDENTITY + base_layer.APPEARANCE), np.int32)
        return base_layer.Faces((), none[:, : base_layer.IDENTITY]), none[:, base_layer.IDENTITY :]
    from .networks import encoder

    near, wide = encoder.views(pixels, _matrices(pixels, places))
    network = face_encoder(model)
    identity = identity_codes(network.embed(near), network.step, model)
    appearance = network.codes(wide, partial(base_layer.previews, identity, model=model))
    return base_layer.Faces(places, identity), _limited(appearance, model.appearance, APPEARANCE_BYTES)


def _embedded(pixels: Pixels, places: tuple[Geometry | None, ...]) -> npt.NDArray[np.float32]:
    """Return float embeddings (N, 256), of unit norm, of the faces at these places of a picture."""
    if not places:
        return np.empty((0, base_layer.IDENTITY), np.float32)
    from .networks import encoder

    near, _ = encoder.views(pixels, _matrices(pixels, places))
    return face_encoder(base_layer.load(weights.newest("base"))).embed(near)


def face_encoder(model: base_layer.BaseModel) -> FaceEncoder:
    """Return the newest encoder of faces; raises WeightsError if it is for another base model."""
    from .networks import encoder

    name = weights.newest("trunk")
    network = encoder.face_encoder(name)
    if network.base != model.id:
        raise WeightsError(f"{name} is for the base model {network.base.hex()}, not for {model.id.hex()}")
    return network


def _matrices(pixels: Pixels, places: tuple[Geometry | None, ...]) -> list[npt.NDArray[np.float64]]:
    height, width = pixels.shape[:2]
    return [_matrix(place, width, height) for place in places]


def identity_codes(
    embeddings: npt.NDArray[np.float32], step: float, model: base_layer.BaseModel
) -> base_layer.Codes:
    """Return identity codes (N, 256) of unit embeddings, of ``IDENTITY_BYTES`` a face at most.

    Their step is ``step``, or more where a face needs it. Embeddings have unit length: no decoder need know.
    """
    return np.array([_finest(embedding / np.float32(step), model) for embedding in embeddings])


def _finest(scaled: npt.NDArray[np.float32], model: base_layer.BaseModel) -> base_layer.Codes:
    """Return the codes (256,) of a scaled embedding at the finest step for which they fit."""
    from .networks.encoder import quantised

    def codes(coarser: int) -> base_layer.Codes:
        return quantised(scaled * np.float32(2 ** (-coarser / 32)), CODE_TOP + 1)

    def fits(coarser: int) -> bool:
        found = codes(coarser)[None]
        if np.abs(found).max() > CODE_TOP:
            return False
        return len(rans.encode(code_groups(found, model.identity))) <= IDENTITY_BYTES

    return codes(STEPS[bisect.bisect_left(STEPS[:-1], True, key=fits)])


def _limited(codes: base_layer.Codes, coders: tuple[rans.Table, ...], limit: int) -> base_layer.Codes:
    """Return codes (N, D) of at most ``limit`` bytes a face: the last dimensions of an excess are zeroed."""
    codes = codes.copy()
    for row in range(len(codes)):
        kept = codes.shape[1]
        while kept and len(rans.encode(code_groups(codes[row : row + 1], coders))) > limit:
            kept -= CODE_GROUP
            codes[row, kept:] = 0
    return codes


def _detail(pixels: Pixels, prediction: Pixels, faces: base_layer.Faces, order: enhancement.Order) -> _Detail:
    model = texture.load(weights.newest("texture"))

    def tile(where: npt.NDArray[Any]) -> list[npt.NDArray[np.int16]]:
        picture, known = (exact.around(part, where, wavelet.STRIDE) for part in (pixels, prediction))
        bands = wavelet.analysed(wavelet.UNITS * (picture - known)[0])
        return [latents.finest(band, level)[None] for level, band in enumerate(bands)]

    rows, columns = (latents.blocks(size) for size in pixels.shape[:2])
    levels = exact.tiled(
        tile, [exact.places(rows, columns)], tile=TILE, halo=wavelet.REACH, scales=[wavelet.STRIDE]
    )
    cells = np.concatenate([level.ravel() for level in levels])
    return _Detail(cells, prediction, order, codec.delays(order, faces, model, prediction), model)


def _shortest(detail: _Detail, reached: Callable[[Pixels], bool], goal: str) -> bytes:
    """Return the fewest words whose picture reaches a goal; raises FscError if all of them do not."""
    words = detail.words()
    if not reached(detail.decoded(words)):
        raise FscError(f"{goal} cannot be reached without lossless coding")
    low, high = 0, len(words) // codec.WORD
    while low < high:
        middle = (low + high) // 2
        if reached(detail.decoded(words[: middle * codec.WORD])):
            high = middle
        else:
            low = middle + 1
    return words[: high * codec.WORD]


def _psnr(a: Pixels, b: Pixels) -> float:
    rows = zip(a, b, strict=True)
    error = sum(int(np.square(np.subtract(x, y, dtype=np.int32)).sum()) for x, y in rows) / a.size
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")
