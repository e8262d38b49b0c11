"""What the commands share: standard streams and files, notes, examples, options."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from facecodec import files
from facecodec.errors import FscError

STANDARD = "-"
Function = TypeVar("Function", bound=Callable[..., Any])


def read(name: str) -> bytes:
    """Return the bytes of the file ``name``, or of standard input for ``-``."""
    if name == STANDARD:
        return sys.stdin.buffer.read()
    return files.read(name)


def target(output: str | None, default: str, *, force: bool, text: bool = False) -> str:
    """Return where output goes, after refusing what would be refused once the work is done."""
    name = output or default
    if name == STANDARD and not text and sys.stdout.isatty():
        raise click.UsageError("these bytes are not for a terminal; name a file with -o, or pipe them")
    if name != STANDARD and not force:
        files.refuse_overwriting(Path(name))
    return name


def beside(name: str, suffix: str) -> str:
    """Return the name of a file beside ``name``, or standard output for standard input."""
    return name if name == STANDARD else str(Path(name).with_suffix(suffix))


def write(name: str, data: bytes, *, force: bool) -> None:
    """Write to the file ``name``, or to standard output for ``-``."""
    if name != STANDARD:
        files.write_atomic(Path(name), data, force=force)
        return
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def say(name: str, *sentences: str) -> None:
    """Print sentences about a file on standard error."""
    for sentence in sentences:
        click.echo(f"fsc: {_title(name)}: {sentence}", err=True)


@contextmanager
def about(name: str) -> Iterator[None]:
    """Begin the message of an error of ours with the name of the file that it is about."""
    try:
        yield
    except FscError as error:
        raise type(error)(f"{_title(name)}: {error}") from error


def _title(name: str) -> str:
    return "standard input" if name == STANDARD else name


def show_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    click.echo(json.dumps(value, indent=2))


def counted(number: int, noun: str) -> str:
    """Return so many of a noun: "1 picture", "2,000 pictures"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def examples(*lines: str) -> str:
    """Return the end of a help text: examples, one a line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def file_argument(function: Function) -> Function:
    """Take one FILE."""
    return click.argument("file", type=click.Path(allow_dash=True))(function)


def files_argument(function: Function) -> Function:
    """Take one FILE or more."""
    path = click.Path(allow_dash=True)
    return click.argument("names", metavar="FILE...", nargs=-1, required=True, type=path)(function)


def output_option(default: str) -> Callable[[Function], Function]:
    """Take ``-o OUT`` and ``--force``; ``default`` says where output goes without."""

    def decorate(function: Function) -> Function:
        function = click.option("--force", is_flag=True, help="Overwrite OUT if it is there.")(function)
        path = click.Path(allow_dash=True)
        return click.option("-o", "--output", metavar="OUT", type=path, help=f"[default: {default}]")(
            function
        )

    return decorate


def json_option(function: Function) -> Function:
    """Take ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")(function)
