"""The commands of the laboratory: bench, train."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from facecodec.cli import streams

RUN_FILES = ("checkpoint.safetensors", "log.jsonl")
NETWORKS = {
    "detector": "the detector of faces and landmarks",
    "embedding": "the trunk and its embedding, by distillation from the teacher",
    "preview": "the appearance code and the generator of the preview",
    "texture": "what tells the trits of the enhancement layer, and its filter",
    "hyperprior": "a neural codec to be compared with (fsc eval verify --neural)",
}
TAUGHT = ("embedding", "preview")
FROZEN = ("detector", "embedding", "preview", "texture")
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
TEACHER = "The recogniser to learn from, as TorchScript."


@click.command(
    epilog=streams.examples(
        "fsc bench photo.jpg",
        "fsc bench photo.jpg --repeat 20 --json",
    )
)
@click.argument("image", metavar="IMG", type=click.Path(allow_dash=True))
@click.option("--repeat", type=click.IntRange(min=1), default=5, show_default=True, metavar="N")
@streams.json_option
def bench(image: str, repeat: int, as_json: bool) -> None:
    """Time encoding and decoding.

    Prints the medians of N warm runs on the picture IMG, and the memory that the process took at most.
    """
    import facecodec
    from facecodec import images

    pixels = images.load(streams.read(image) if image == streams.STANDARD else Path(image)).pixels
    with streams.about(image):
        data = facecodec.encode(pixels, no_face="encode")
    steps: dict[str, Callable[[], object]] = {
        "encode": lambda: facecodec.encode(pixels, no_face="encode"),
        "decode": lambda: facecodec.decode(data),
        "decode base": lambda: facecodec.decode(data, layers="base"),
        "features": lambda: facecodec.features(data),
    }
    height, width = pixels.shape[:2]
    milliseconds = {name: _median_milliseconds(step, repeat) for name, step in steps.items()}
    memory = _peak_memory()
    if as_json:
        report = {"width": width, "height": height, "bytes": len(data), "milliseconds": milliseconds}
        streams.show_json({**report, "peak_memory_bytes": memory})
        return
    click.echo(f"{width}x{height} pixels, {len(data):,} bytes")
    for name, value in milliseconds.items():
        click.echo(f"{name:12}{value:10.1f} ms")
    click.echo(f"{'peak memory':12}{memory / 1e6:10.0f} MB")


def _median_milliseconds(step: Callable[[], object], repeat: int) -> float:
    """Return the median over ``repeat`` runs, after one that is not counted."""
    import statistics

    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times[1:]), 3)


def _peak_memory() -> int:
    """Return the bytes of memory that this process has held at most."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@click.group(
    epilog=streams.examples(
        "fsc train detector --data DIR --minutes 60",
        "fsc train freeze preview --data DIR --version 1",
    )
)
def train() -> None:
    """Train the networks, and freeze them."""


def _trainer(network: str, purpose: str) -> click.Command:
    tail = " --teacher teacher.ts" if network in TAUGHT else ""

    @click.command(
        network,
        help=f"Train {purpose}.\n\nThe same command goes on where an interrupted run stopped. Several "
        f"workers share a step: torchrun --nproc-per-node 2 -m facecodec train {network} ...",
        epilog=streams.examples(
            f"fsc train {network} --data faces --minutes 120{tail}",
            f"fsc train {network} --data faces --threads 1 --fresh{tail}",
        ),
    )
    @click.option("--data", metavar="DIR", type=FOLDER, required=True, help="The pictures and their labels.")
    @click.option(
        "--runs", metavar="DIR", type=FOLDER, default="runs", show_default=True, help="Where it learns."
    )
    @click.option(
        "--minutes",
        type=click.FloatRange(0, min_open=True),
        default=60.0,
        show_default=True,
        help="How long, over all sessions of the run.",
    )
    @click.option("--threads", type=click.IntRange(min=1), metavar="N", help="[default: all cores]")
    @click.option("--fresh/--resume", help="Start again, or go on from the checkpoint.  [default: resume]")
    def command(
        data: Path, runs: Path, minutes: float, threads: int | None, fresh: bool, **more: Path
    ) -> None:
        if threads:
            importlib.import_module("facecodec.training.threads").use(threads)
        if fresh:
            for name in RUN_FILES:
                for path in list((runs / network).rglob(name)):
                    path.unlink(missing_ok=True)
        trainer = importlib.import_module(f"facecodec.training.{network}")
        with importlib.import_module("facecodec.training.run").workers():
            trainer.train(data=data, runs=runs, minutes=minutes, **more)

    if network in TAUGHT:
        command = click.option("--teacher", metavar="FILE", type=FILE, required=True, help=TEACHER)(command)
    return command


for _name, _purpose in NETWORKS.items():
    train.add_command(_trainer(_name, _purpose))


@train.command(
    epilog=streams.examples(
        "fsc train regions --data faces --teacher teacher.ts",
        "fsc train regions --data faces --teacher teacher.ts --runs runs",
    )
)
@click.option("--data", metavar="DIR", type=FOLDER, required=True, help="The pictures and their labels.")
@click.option("--runs", metavar="DIR", type=FOLDER, default="runs", show_default=True)
@click.option("--teacher", metavar="FILE", type=FILE, required=True, help=TEACHER)
def regions(data: Path, runs: Path, teacher: Path) -> None:
    """Learn in which regions of a face errors are dear to recognition, and seen.

    Takes minutes; the map becomes part of the texture's weights when they are frozen.
    """
    importlib.import_module("facecodec.training.regions").learn(data=data, runs=runs, teacher=teacher)


@train.command(
    epilog=streams.examples(
        "fsc train freeze preview --data faces --version 1",
        "fsc train freeze texture --data faces --version 2 --runs runs --weights weights",
    )
)
@click.argument("network", type=click.Choice(FROZEN))
@click.option("--data", metavar="DIR", type=FOLDER, required=True, help="The pictures that the tables count.")
@click.option("--version", type=click.IntRange(min=1), metavar="N", required=True, help="The N of NAME-vN.")
@click.option("--runs", metavar="DIR", type=FOLDER, default="runs", show_default=True)
@click.option("--weights", metavar="DIR", type=FOLDER, default="weights", show_default=True)
def freeze(network: str, data: Path, version: int, runs: Path, weights: Path) -> None:
    """Turn what a run has learnt into weight files.

    NETWORK is the run: preview holds the whole base layer, embedding only a better trunk for the newest one.
    What decides what files mean becomes integers.
    """
    bridge = importlib.import_module("facecodec.training.freeze")
    bridge.freeze(runs=runs, weights=weights, data=data, network=network, version=version)
