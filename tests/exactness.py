"""Decode many pictures in every way there is, and compare: run this file with a folder or a packed set.

numpy with one and two threads, torch with one and two threads, oneDNN on and off, tiles of 128 pixels and
larger, previews alone and in batches of eight: features, preview and picture must have the same SHA-256.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
from itertools import product
from pathlib import Path

import click
import numpy as np

from facecodec import base_layer, codec, container, encoder, exact, identity, texture, weights
from facecodec.evaluation.pictures import open_pictures

BATCH = 8


def digest(*arrays):
    made = hashlib.sha256()
    for array in arrays:
        made.update(np.ascontiguousarray(array).tobytes())
    return made.hexdigest()


def decoded(data, **how):
    """Return the SHA-256 of features, preview and picture."""
    picture = codec.decode(data, **how)
    found = picture.faces
    preview = codec.decode(data, layers="base", **how)
    return (
        digest(found.embeddings, found.boxes, found.landmarks),
        digest(preview.pixels),
        digest(picture.pixels),
    )


def by_numpy(threads, tile, queue, streams):
    texture.TILE = tile
    queue.put([decoded(data, convolve=exact.conv2d) for data in streams])


def in_numpy(threads, tile, streams):
    """Decode in a process of its own, whose BLAS has this many threads."""
    context = multiprocessing.get_context("spawn")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    queue = context.Queue()
    process = context.Process(target=by_numpy, args=(threads, tile, queue, streams))
    process.start()
    result = queue.get()
    process.join()
    return result


def in_torch(threads, onednn, streams):
    import torch

    from facecodec.networks import exact_torch

    torch.set_num_threads(threads)
    torch.backends.mkldnn.enabled = onednn
    return [decoded(data, convolve=exact_torch.conv2d) for data in streams]


def face_codes(data, model):
    """Return identity and appearance codes (N, 256)."""
    sections = container.parse(data).sections
    identity = base_layer.decode_faces(sections[0].payload, model).identity
    return identity, base_layer.decode_appearance(sections[1].payload, len(identity), model)


def in_batches(streams):
    """Return the SHA-256 of the previews of all files, alone in numpy and eight at a time in torch."""
    from facecodec.networks import exact_torch

    model = base_layer.load(weights.newest("base"))
    codes = [face_codes(data, model) for data in streams if len(identity.features(data).boxes)]
    identity, appearance = (np.concatenate(kind) for kind in zip(*codes, strict=True))
    alone = [base_layer.previews(i[None], a[None], model) for i, a in zip(identity, appearance, strict=True)]
    together = [
        base_layer.previews(identity[at : at + BATCH], appearance[at : at + BATCH], model, exact_torch.conv2d)
        for at in range(0, len(identity), BATCH)
    ]
    return digest(*alone), digest(*together)


@click.command()
@click.argument("pictures", type=click.Path(path_type=Path))
@click.option("--limit", default=200, show_default=True)
def main(pictures, limit):
    """Compare all ways to decode PICTURES."""
    entries = open_pictures(pictures)
    chosen = [entries[len(entries) * i // limit] for i in range(limit)] if limit < len(entries) else entries
    streams = [encoder.encode(entry.pixels(), quality=100, no_face="encode") for entry in chosen]
    click.echo(f"{len(streams)} pictures, {sum(map(len, streams)):,} bytes")
    ways = {"numpy, 1 thread": in_numpy(1, texture.TILE, streams)}
    ways["numpy, 2 threads"] = in_numpy(2, texture.TILE, streams)
    ways["numpy, tiles of 128"] = in_numpy(1, 128, streams)
    for threads, onednn in product((1, 2), (True, False)):
        name = f"torch, {threads} threads, oneDNN {'on' if onednn else 'off'}"
        ways[name] = in_torch(threads, onednn, streams)
    expected, bad = next(iter(ways.values())), 0
    for name, found in ways.items():
        different = sum(a != b for a, b in zip(expected, found, strict=True))
        bad += different
        click.echo(f"{name:32}{digest(np.array(found))[:16]}  {different} differ")
    alone, together = in_batches(streams)
    click.echo(f"previews alone {alone[:16]}, in batches of {BATCH} {together[:16]}")
    sys.exit(bool(bad or alone != together))


if __name__ == "__main__":
    main()
