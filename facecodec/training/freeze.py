"""The only bridge from float to integer: turn what the runs have learnt into weight files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save
from safetensors.torch import load_file
from torch import Tensor, nn

from facecodec import faces
from facecodec import weights as models
from facecodec.container import ID_BYTES
from facecodec.entropy import CODE_GROUP, CODE_TOP
from facecodec.exact import BYTE_TOP
from facecodec.networks import eight_bits
from facecodec.networks.detector import Detector, fold
from facecodec.networks.embedding import EMBEDDING, Trunk
from facecodec.networks.encoder import FaceEncoder, face_encoder, quantised, views
from facecodec.networks.preview import APPEARANCE, APPEARANCE_TOP, CODE_STEP
from facecodec.networks.quantised import STEP, TOP, frozen, set_rounding
from facecodec.networks.restoration import restored
from facecodec.networks.texture import UNITS, Texture
from facecodec.training import regions
from facecodec.training.data import Pictures, open_sets
from facecodec.training.embedding import IDENTITY_STEP, closest_axes, to_batch
from facecodec.training.preview import Base, unit
from facecodec.training.texture import integer_frequencies, layers, tables

Arrays = dict[str, np.ndarray]
PRECISION = 14
FACES = 6000
TOPS_FACES = 96
ALIGNED_FACES = 3072
PARTS = 48
"""In so many parts are these looked at."""
RATES = (1e-2, 1e-3, 1e-4, 1e-5)
INT8 = 127
PATCHES_EVERY = 10
"""Of so many calls of a layer one counts for the covariance of its inputs."""


def freeze_detector(runs: Path, data: Path, weights: Path, version: int) -> None:
    """Write ``detector-vN`` (float16, batch normalisation folded) from the run ``detector``."""
    model = Detector()
    model.load_state_dict(averaged(runs / "detector" / "checkpoint.safetensors"))
    write(weights, f"detector-v{version}", half(fold(model.eval()).state_dict()))


def freeze_base(runs: Path, data: Path, weights: Path, version: int) -> None:
    """Write ``base-vN`` (integers) and ``trunk-vN`` (8 bits) from the run ``preview``."""
    model = Base()
    model.load_state_dict(averaged(runs / "preview" / "checkpoint.safetensors"))
    model.eval()
    cache = runs / "cache"
    pictures = open_sets(data, "train-*", cache)
    chosen = _spread(pictures, FACES)
    identity, appearance = _codes(model, pictures, chosen)
    sources = np.array([pictures.records[index]["source"] for index in chosen])
    generator = model.generator
    bound = np.repeat([CODE_TOP, APPEARANCE_TOP], [EMBEDDING, APPEARANCE])
    tensors: Arrays = {
        "identity.frequencies": code_frequencies(identity, CODE_TOP),
        "appearance.frequencies": code_frequencies(appearance, APPEARANCE_TOP),
        "verdicts": verdicts(identity, sources),
    }
    linear = frozen(generator.linear, input_bound=APPEARANCE_TOP, input_step=1.0, output_step=1.0, top=INT8)
    tensors |= named("linear", linear)
    tensors |= named("start", frozen(generator.start, input_bound=bound, input_step=CODE_STEP, top=INT8))
    for index, layer in enumerate(generator.layers):
        assert isinstance(layer, nn.Conv2d)
        tensors |= named(f"layers.{index}", frozen(layer, input_bound=TOP, top=INT8))
    tensors |= named("finish", frozen(generator.finish, input_bound=TOP, top=INT8))
    identifier = write(weights, f"base-v{version}", tensors)
    encoder = trunk_tensors(model.trunk, pictures)
    encoder |= named("appearance", eighths(model.appearance.state_dict()))
    encoder["step"] = np.array([IDENTITY_STEP], np.float32)
    encoder["base"] = np.frombuffer(identifier, np.uint8)
    write(weights, f"trunk-v{version}", encoder)


def freeze_trunk(runs: Path, data: Path, weights: Path, version: int) -> None:
    """Write ``trunk-vN`` (8 bits) from the run ``embedding``: all else of it is that of the newest one."""
    before = models.load(models.newest("trunk"))
    trunk = Trunk()
    trunk.load_state_dict(averaged(runs / "embedding" / "checkpoint.safetensors"))
    kept = {key: value for key, value in before.tensors.items() if not key.startswith("trunk.")}
    pictures = open_sets(data, "train-*", runs / "cache")
    align(trunk.eval(), face_encoder(before.name), pictures)
    write(weights, f"trunk-v{version}", kept | trunk_tensors(trunk, pictures))


@torch.no_grad()
def align(trunk: Trunk, before: FaceEncoder, pictures: Pictures) -> None:
    """Turn all embeddings of a trunk towards those of another one, so that files of both are compared well.

    By the rotation that is best on faces of these pictures; what embeddings say of each other stays.
    """
    near = _views(pictures, _spread(pictures, ALIGNED_FACES))[0]
    wanted = torch.from_numpy(before.embed(near))
    found = torch.cat(
        [nn.functional.normalize(trunk(to_batch(part))[0]) for part in np.array_split(near, PARTS)]
    )
    axes = closest_axes(found, wanted)
    trunk.embed.weight.copy_(axes.T @ trunk.embed.weight)
    trunk.embed.bias.copy_(axes.T @ trunk.embed.bias)


def trunk_tensors(trunk: Trunk, pictures: Pictures) -> Arrays:
    """Return the tensors of a trunk: kernels of 8 bits, tops of its maps on faces of these pictures."""
    tops = eight_bits.tops(trunk, to_batch(_views(pictures, _spread(pictures, TOPS_FACES))[0]))
    return named("trunk", eighths(trunk.state_dict())) | {"tops": tops.numpy()}


def freeze_texture(runs: Path, data: Path, weights: Path, version: int) -> None:
    """Write ``texture-vN`` (integers) from the run ``texture``.

    The map of regions is that of the run ``regions``, or without one that of the newest texture weights.
    """
    model = Texture()
    model.load_state_dict(averaged(runs / "texture" / "checkpoint.safetensors"))
    model.eval()
    set_rounding(model, True)
    seen = {name: _Seen(layer) for name, layer in layers(model)}
    tensors = tables(model, data, runs / "cache")
    weight = runs / "regions" / "weight.npy"
    known = weight.exists()
    tensors["regions"] = (
        regions.delays(np.load(weight)) if known else models.load(models.newest("texture"))["regions"]
    )
    for name, module in layers(model):
        units = UNITS.get(name, {})
        step = units.get("output_step", STEP)
        usual, spread = seen[name].mean(), seen[name].covariance()
        integers = frozen(
            module, input_bound=BYTE_TOP, output_step=step, top=INT8, usual=usual, spread=spread
        )
        tensors |= named(name, integers)
    write(weights, f"texture-v{version}", tensors)


class _Seen:
    """What a layer is given, in integer units: the mean of each channel, and the covariance of patches."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self.means: list[Tensor] = []
        self.sums, self.squares, self.count = torch.zeros(()), torch.zeros(()), 0
        layer.register_forward_pre_hook(self._see)

    def mean(self) -> np.ndarray:
        """Return the mean of each channel (C,)."""
        mean: np.ndarray = torch.stack(self.means).mean(0).numpy()
        return mean

    def covariance(self) -> np.ndarray:
        """Return the covariance (C*k*k, C*k*k) of what each weight meets."""
        mean = self.sums / self.count
        covariance: np.ndarray = (self.squares / self.count - torch.outer(mean, mean)).numpy()
        return covariance

    @torch.no_grad()
    def _see(self, layer: nn.Conv2d, inputs: tuple[Tensor]) -> None:
        maps = inputs[0].float() / STEP
        if len(self.means) % PATCHES_EVERY == 0:
            assert not isinstance(layer.padding, str)
            patches = nn.functional.unfold(maps, layer.kernel_size, 1, layer.padding, layer.stride)
            patches = patches.transpose(1, 2).flatten(0, 1)
            self.sums = self.sums + patches.sum(0).double()
            with torch.autocast("cpu", enabled=False):
                self.squares = self.squares + (patches.T @ patches).double()
            self.count += len(patches)
        self.means.append(maps.double().mean((0, 2, 3)))


def _spread(pictures: Pictures, count: int) -> list[int]:
    """Return the indices of so many pictures with a face, from first to last."""
    faced = pictures.with_faces()
    return [faced[i] for i in np.linspace(0, len(faced) - 1, count).astype(int)]


def _views(pictures: Pictures, chosen: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return aligned faces (N, 112, 112, 3) and wide views (N, 64, 64, 3) of these pictures."""
    pairs = [views(pictures.picture(i), [faces.similarity(pictures.landmarks(i))]) for i in chosen]
    near, wide = (np.concatenate(kind) for kind in zip(*pairs, strict=True))
    return near, wide


@torch.no_grad()
def _codes(model: Base, pictures: Pictures, chosen: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return identity codes and appearance codes of these pictures."""
    identities, appearances = [], []
    for batch in np.array_split(chosen, max(1, len(chosen) // 64)):
        near, wide = _views(pictures, batch)
        embedding = unit(model.trunk, to_batch(restored(near))).numpy()
        identities.append(quantised(embedding / np.float32(IDENTITY_STEP), CODE_TOP))
        appearances.append(quantised(model.appearance(to_batch(wide)).numpy(), APPEARANCE_TOP))
    return np.concatenate(identities), np.concatenate(appearances)


def code_frequencies(codes: np.ndarray, top: int) -> np.ndarray:
    """Return frequencies uint16 (D / 8, 2 top + 1), sum 2^14, of codes (N, D), eight dimensions a row."""
    rows = [
        np.bincount((codes[:, at : at + CODE_GROUP] + top).ravel(), minlength=2 * top + 1)
        for at in range(0, codes.shape[1], CODE_GROUP)
    ]
    return np.array([integer_frequencies(row + 0.01, PRECISION) for row in rows], np.uint16)


def verdicts(identity: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Return (cosine, false match rate) in millionths, int32 (n, 2), by rising cosine.

    ``identity`` are codes (N, 256), ``sources`` (N,) where each is from.  Those of two sources are taken to
    show different people, those of one may be of the same person; if there is one source only, all differ.
    """
    unit = identity / np.linalg.norm(identity, axis=1, keepdims=True)
    strange = sources[:, None] != sources
    if not strange.any():
        strange[:] = True
    cosines = (unit @ unit.T)[np.triu(strange, 1)]
    thresholds = np.quantile(cosines, [1 - rate for rate in RATES])
    return np.round(np.column_stack([thresholds, RATES]) * 1e6).astype(np.int32)


def averaged(checkpoint: Path) -> dict[str, Tensor]:
    """Return the averaged weights of a run."""
    stored = load_file(checkpoint)
    return {k.removeprefix("averaged."): v for k, v in stored.items() if k.startswith("averaged.")}


def named(name: str, tensors: Arrays) -> Arrays:
    """Return a layer's tensors under the layer's name."""
    return {f"{name}.{key}": value for key, value in tensors.items()}


def half(state: dict[str, Tensor]) -> Arrays:
    """Return a state as float16, integers as they are."""
    return {k: (v.half() if v.is_floating_point() else v).numpy() for k, v in state.items()}


def eighths(state: dict[str, Tensor]) -> Arrays:
    """Return a state as ``half`` does, but kernels as int8, each output channel in its own ``KEY.unit``."""
    kernels = {key: value for key, value in state.items() if value.ndim > 1}
    tensors = half({key: value for key, value in state.items() if key not in kernels})
    for key, value in kernels.items():
        unit = (value.abs().amax(tuple(range(1, value.ndim)), keepdim=True) / INT8).clamp_min(1e-7)
        tensors[key] = torch.round(value / unit).to(torch.int8).numpy()
        tensors[f"{key}.unit"] = unit.numpy()
    return tensors


def write(weights: Path, name: str, tensors: Arrays) -> bytes:
    """Write a model file, list its SHA-256 and return its id.

    An existing name is never written again with other bytes.
    """
    data = save({k: np.ascontiguousarray(v) for k, v in tensors.items()})
    path, sums = weights / f"{name}.safetensors", weights / "SHA256SUMS"
    weights.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_bytes() != data:
        raise FileExistsError(f"{path} exists; a new training is a new version")
    path.write_bytes(data)
    digest = hashlib.sha256(data)
    listed = [
        line
        for line in (sums.read_text() if sums.exists() else "").splitlines()
        if not line.endswith(f" {path.name}")
    ]
    sums.write_text(
        "\n".join(
            sorted(
                [*listed, f"{digest.hexdigest()}  {path.name}"],
                key=lambda line: line.split()[1],
            )
        )
        + "\n"
    )
    return digest.digest()[:ID_BYTES]


def freeze(*, runs: Path, weights: Path, data: Path, network: str, version: int) -> None:
    """Write the files of a run: ``detector``, ``embedding``, ``preview`` (the base layer) or ``texture``."""
    torch.manual_seed(0)
    writers = {
        "detector": freeze_detector,
        "embedding": freeze_trunk,
        "preview": freeze_base,
        "texture": freeze_texture,
    }
    writers[network](runs, data, weights, version)
