"""What the measurements of recognition share: pairs, the judge, and pictures taken through a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from facecodec.cli import streams
from facecodec.cli.measure_options import Sitting, described, spread
from facecodec.errors import FscError

if TYPE_CHECKING:
    from facecodec.evaluation.looks import Plan, Seen
    from facecodec.evaluation.pairs import Pairs
    from facecodec.evaluation.pictures import Entry

Function = TypeVar("Function", bound=Callable[..., Any])

OWN = "Judged by this codec's own embedding: no independent witness."


def pairs_option(*, required: bool) -> Callable[[Function], Function]:
    """Take ``--pairs``."""
    return click.option(
        "--pairs",
        "pairs_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        required=required,
        help="CSV with the columns a, b, same, or LFW's pairs.txt.",
    )


def judge_options(budgets: Sequence[int]) -> Callable[[Function], Function]:
    """Take ``--judge``, ``--bytes`` and ``--chips``."""

    def decorate(function: Function) -> Function:
        for option in (
            click.option(
                "--chips",
                "chip",
                type=click.IntRange(16, 1024),
                metavar="N",
                help="Cut the face out first: the recognition frame, N pixels a side.",
            ),
            click.option(
                "--bytes",
                "budgets",
                type=click.IntRange(min=1),
                metavar="N",
                multiple=True,
                help=f"A size of whole files; may be repeated.  [default: {', '.join(map(str, budgets))}]",
            ),
            click.option(
                "--judge",
                metavar="FILE|own",
                help="A recogniser of 112x112 faces aligned by five points, to look at decoded pictures: "
                "TorchScript from RGB 0..255, or ONNX from RGB -1..1; own is this codec's.",
            ),
        ):
            function = option(function)
        return function

    return decorate


def tune_option(function: Function) -> Function:
    """Take ``--tune``."""
    return click.option(
        "--tune",
        type=click.Choice(["fidelity", "recognition"]),
        default="fidelity",
        show_default=True,
        help="What our files are tuned for.",
    )(function)


def named(sitting: Sitting, chip: int | None, tune: str) -> Sitting:
    """Return a measurement whose files are called after its chips and its tuning."""
    parts = [sitting.name, *([str(chip)] if chip else []), *([tune] if tune != "fidelity" else [])]
    return replace(sitting, name="-".join(parts))


def paired(sitting: Sitting, wanted: Pairs) -> tuple[Pairs, list[Entry]]:
    """Return the pairs to measure, and their pictures."""
    from facecodec.evaluation.pictures import open_pictures

    known = {entry.id: entry for entry in open_pictures(sitting.images)}
    missing = [name for name in wanted.pictures() if name not in known]
    if missing:
        lost = streams.counted(len(missing), "picture")
        raise FscError(f"not in {sitting.images}: {lost} of the pairs, {missing[0]} ...")
    chosen = wanted.taken(spread(list(range(len(wanted.ids))), sitting.limit))
    return chosen, [known[name] for name in chosen.pictures()]


def taken(sitting: Sitting, plan: Plan, entries: list[Entry]) -> tuple[list[Seen], dict[str, Any]]:
    """Return the pictures after a plan, and the options that it stands for."""
    from facecodec.evaluation import judges, looks

    if plan.judge:
        judges.load(plan.judge)
    options = {
        "judge": plan.judge and judges.identity(plan.judge),
        "bytes": list(plan.budgets),
        "chips": plan.chip,
        "tune": plan.tune,
        "peers": described(plan.others),
        "variants": [variant.title for variant in plan.variants],
        "degraded": list(plan.degraded),
    }
    see = partial(looks.see, plan=plan)
    records = sitting.measure(see, entries, key=lambda entry: entry.id, options=options)
    return [looks.Seen.kept(record) for record in records], options
