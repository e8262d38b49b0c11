"""The command ``fsc``: options to calls, errors to messages and exit codes (free side)."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click

from facecodec.errors import FscError

COMMANDS = {
    "encode": "coding.encode",
    "decode": "coding.decode",
    "truncate": "coding.truncate",
    "strip": "coding.strip",
    "features": "reading.features",
    "compare": "reading.compare",
    "info": "reading.info",
    "verify": "reading.verify",
    "eval": "measure.evaluate",
    "bench": "lab.bench",
    "train": "lab.train",
}
"""Where each command is, in the order in which a newcomer needs them; imported when it is asked for."""

INTERRUPTED = 130

# At the end there is nothing to look for: a last collection would cost a short command a tenth of its time.
atexit.register(gc.freeze)


class Fsc(click.Group):
    """A group that ends with one line on standard error, and the right exit code, whatever a user does."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command that the arguments name, and exit with the code that the help text promises."""
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except FscError as error:
            code = _fail(str(error), error.exit_code)
        except click.Abort:
            code = _fail("interrupted", INTERRUPTED)
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except MemoryError:
            code = _fail("out of memory", FscError.exit_code)
        except OSError as error:
            about = error.filename or "the output"
            code = _fail(f"{about}: {error.strerror}" if error.strerror else str(error), FscError.exit_code)
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        room, function = COMMANDS[cmd_name].split(".")
        command: click.Command = getattr(import_module(f"facecodec.cli.{room}"), function)
        return command


def _fail(message: str, code: int) -> int:
    click.echo(f"fsc: {message}", err=True)
    return code


@click.group(cls=Fsc, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="facecodec", prog_name="fsc")
def main() -> None:
    """A face photo codec whose first bytes say who is in the picture.

    FILE, IMG and OUT may be - for standard input and output. Data goes to standard output, words to standard
    error.

    Exit codes: 0 ok, 1 error, 2 wrong usage, 3 no face, 4 damaged or unknown stream, 5 weights, 130 Ctrl-C.
    """
