"""What the commands of ``fsc eval`` share: their options, progress, and what they leave in a folder."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from facecodec import files
from facecodec.cli import streams

if TYPE_CHECKING:
    from facecodec.evaluation.peers import Peer
    from facecodec.evaluation.pictures import Entry

Function = TypeVar("Function", bound=Callable[..., Any])
Item = TypeVar("Item")
Result = TypeVar("Result")

PEERS = ("jpeg", "jpeg2000", "webp", "avif", "jpegxl")
KINDS = ("detector", "trunk", "base", "texture")
MEMORY = "Each takes at most 500 MB, and 250 bytes for each pixel of the largest picture."


@dataclass(frozen=True)
class Sitting:
    """One measurement as it was asked for; ``name`` is what its files are called."""

    name: str
    images: Path
    limit: int | None
    out: Path | None
    force: bool
    jobs: int
    as_json: bool

    def entries(self) -> list[Entry]:
        """Return the pictures to measure; raises FscError."""
        from facecodec.evaluation.pictures import open_pictures

        return spread(open_pictures(self.images), self.limit)

    def measure(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        key: Callable[[Item], str],
        options: dict[str, Any],
    ) -> list[Any]:
        """Return the records of what a function makes of each item, in their order; raises FscError.

        With progress on standard error.  What is finished is kept in the folder, if there is one, and not
        measured again.  ``options`` are those that change what is measured.
        """
        from facecodec.evaluation.jobs import run
        from facecodec.evaluation.journal import Journal

        path = self.out / f"{self.name}.jsonl" if self.out else None
        if self.out and path and not path.exists() and not self.force:
            for suffix in ("csv", "json"):
                files.refuse_overwriting(self.out / f"{self.name}.{suffix}")
        journal = Journal(path, conditions(self.images) | {"options": options}, force=self.force)
        pending = [item for item in items if key(item) not in journal.records]
        done = len(items) - len(pending)
        label = streams.counted(len(items), "picture") + (f", {done:,} of them known" if done else "")
        with click.progressbar(
            run(function, pending, self.jobs),
            length=len(pending),
            label=label,
            file=sys.stderr,
            show_pos=True,
        ) as results:
            for item, result in zip(pending, results, strict=True):
                journal.add(key(item), result)
        return [journal.records[key(item)] for item in items]

    def finish(self, result: dict[str, Any], table: str | None, options: dict[str, Any]) -> dict[str, Any]:
        """Return the whole summary, after writing it with the table and the report to the folder."""
        from facecodec.evaluation import report

        command = shlex.join(["fsc", *sys.argv[1:]])
        summary = conditions(self.images) | {"options": options} | report.circumstances(command) | result
        if self.out:
            self.out.mkdir(parents=True, exist_ok=True)
            if table is not None:
                files.write_atomic(self.out / f"{self.name}.csv", table.encode(), force=True)
            data = json.dumps(summary, indent=2, allow_nan=False) + "\n"
            files.write_atomic(self.out / f"{self.name}.json", data.encode(), force=True)
            files.write_atomic(self.out / "report.html", report.page(self.out).encode(), force=True)
        return summary


def sitting_options(name: str) -> Callable[[Function], Function]:
    """Take the options of a measurement, and give them to the command as its first argument."""
    path = click.Path(path_type=Path)

    def decorate(function: Function) -> Function:
        @wraps(function)
        def command(
            images: Path,
            limit: int | None,
            out: Path | None,
            force: bool,
            jobs: int,
            as_json: bool,
            **others: Any,
        ) -> Any:
            return function(Sitting(name, images, limit, out, force, jobs, as_json), **others)

        options = (
            click.option(
                "--images",
                metavar="DIR|NAME.jsonl",
                type=path,
                required=True,
                help="A folder of pictures (LFW's too), or a packed set.",
            ),
            click.option(
                "--limit",
                type=click.IntRange(min=1),
                metavar="N",
                help="Take N pictures (of pairs: N pairs), spread over all.",
            ),
            click.option(
                "--out",
                metavar="DIR",
                type=click.Path(path_type=Path, file_okay=False),
                help=f"Keep {name}.csv, {name}.json and report.html here; a rerun goes on.",
            ),
            click.option("--force", is_flag=True, help="Begin again, whatever is in DIR."),
            click.option(
                "--jobs",
                type=click.IntRange(1, os.cpu_count() or 1),
                metavar="N",
                default=1,
                show_default=True,
                help=f"Processes. {MEMORY}",
            ),
            streams.json_option,
        )
        decorated: Any = command
        for option in reversed(options):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def peers_options(function: Function) -> Function:
    """Take ``--peers``, ``--external`` and ``--neural``, and give them to the command as ``others``."""

    @wraps(function)
    def command(
        *arguments: Any,
        peers: str | None,
        external: tuple[str, ...],
        neural: Path | None,
        **others: Any,
    ) -> Any:
        from facecodec.evaluation.formats import present
        from facecodec.evaluation.peers import chosen

        names = list(present()) if peers is None else peers.split(",")
        checkpoints = [neural] if neural else []
        wanted = chosen([name for name in names if name], external, checkpoints)
        return function(*arguments, others=wanted, **others)

    wrapped: Any = command
    for option in (
        click.option(
            "--neural",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False),
            help="The checkpoint of fsc train hyperprior, as a codec.",
        ),
        click.option(
            "--external",
            metavar="'NAME=ENCODE ;; DECODE'",
            multiple=True,
            help="A codec of two commands with the words {input} (a PNG to encode), {output} (a PNG to "
            "decode) and {quality}, or {quality:51..10} from the smallest file to the best picture. May be "
            "repeated.",
        ),
        click.option(
            "--peers",
            metavar="NAMES",
            help=f"Formats beside ours.  [default: those installed of {','.join(PEERS)}]",
        ),
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


def conditions(images: Path) -> dict[str, Any]:
    """Return what decides the figures of a picture beside the options."""
    from importlib.metadata import version

    from facecodec import weights

    listed = weights.sums(weights.folder())
    kinds = [kind for kind in KINDS if any(name.rpartition("-v")[0] == kind for name in listed)]
    used = {weights.newest(kind) for kind in kinds}
    return {
        "facecodec": version("facecodec"),
        "weights": {name: listed[name][:16] for name in sorted(used)},
        "images": str(images),
    }


def described(others: Sequence[Peer]) -> dict[str, str]:
    """Return what decides the files of other codecs, by name."""
    return {peer.name: repr(peer) for peer in others}


def titles(others: Sequence[Peer]) -> dict[str, str]:
    """Return what reports call each codec, by name, ours first."""
    return {"fsc": "fsc"} | {peer.name: peer.title for peer in others}


def spread(items: list[Item], limit: int | None) -> list[Item]:
    """Return ``limit`` items, evenly spread over all."""
    if limit is None or limit >= len(items):
        return items
    return [items[len(items) * i // limit] for i in range(limit)]
