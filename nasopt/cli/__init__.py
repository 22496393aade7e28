"""The command line: parse, call, print. Slow imports wait for the command that needs them."""

import functools
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Annotated, NoReturn, ParamSpec

import typer

from nasopt import __version__
from nasopt.cli import model_commands, network_commands, result_commands, study_commands
from nasopt.cli.options import BAD_INPUT, INTERRUPTED, err, out
from nasopt.errors import NasoptError

P = ParamSpec("P")

PATIENCE_S = 2.0  # with what ends by itself
RESUMABLE = ("search", "verify", "floor")


class _InterruptedError(Exception):
    """Ctrl-C in the command of that name, with all that it had open closed; typer would hide the KeyboardInterrupt."""


def _interruptible(command: Callable[P, None]) -> Callable[P, None]:
    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt as error:
            raise _InterruptedError(command.__name__) from error

    return run


app = typer.Typer(
    name="nasopt",
    help="Searches for the smallest convolutional network that still clears an accuracy bar.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    study_commands.search,
    study_commands.status,
    study_commands.front,
    result_commands.verify,
    result_commands.floor,
    result_commands.report,
    result_commands.dashboard,
    model_commands.export,
    model_commands.predict,
    network_commands.train,
    network_commands.describe,
    network_commands.data,
    network_commands.doctor,
):
    app.command()(_interruptible(command))


@app.callback(invoke_without_command=True)
def _nasopt(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,  # noqa: ARG001 - main reads it
    show_version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if show_version:
        out.print(f"nasopt {__version__}", highlight=False)
        raise typer.Exit


def main() -> None:
    """Runs the command line and exits with its code."""
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]  # it may stand anywhere
    try:
        code = app(arguments, standalone_mode=False)
    except NasoptError as error:
        code = _fail(error, str(error), debug=debug)
    except _InterruptedError as error:
        kept = "; nothing completed is lost, run the same command to go on"
        err.print(f"interrupted{kept if str(error) in RESUMABLE else ''}")
        _leave_at_once(INTERRUPTED)
    except OSError as error:
        reason = error.strerror or str(error)
        where = "" if error.filename is None else f"{error.filename}: "
        message = f"{where}{reason}; mend that and run the same command again"
        code = _fail(error, message, debug=debug)
    except Exception as error:
        # Typer's errors of usage are click's, or those of the copy of click in newer versions.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            code = BAD_INPUT
        else:
            message = f"a bug in nasopt: {error!r}; run again with --debug and report it"
            code = _fail(error, message, debug=debug)
    if code == BAD_INPUT and _is_training():
        _leave_at_once(code)
    sys.exit(code or 0)


def _is_training() -> bool:
    """Whether threads are in the middle of a training, though their executor has been told to end."""
    # Not above: a tenth of the time that this module takes to import.
    from nasopt.executors import THREAD_NAME

    workers = [t for t in threading.enumerate() if t.name.startswith(THREAD_NAME)]
    deadline = time.monotonic() + PATIENCE_S
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
    return any(worker.is_alive() for worker in workers)


def _leave_at_once(code: int) -> NoReturn:
    """Ends the process; an ordinary exit would wait for what its threads are training."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _fail(error: Exception, message: str, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    err.print(f"error: {message}", highlight=False)
    return BAD_INPUT
