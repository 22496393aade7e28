"""The command line: parse, call, print. Slow imports wait for the command that needs them."""

import sys
import traceback
from typing import Annotated

import typer

from nasopt import __version__
from nasopt.cli import model_commands, network_commands, result_commands, study_commands
from nasopt.cli.options import BAD_INPUT, INTERRUPTED, err, out
from nasopt.errors import NasoptError

app = typer.Typer(
    name="nasopt",
    help="Finds the smallest convolutional network that still clears an accuracy bar.",
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
    app.command()(command)


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
    except (KeyboardInterrupt, typer.Abort):
        err.print("interrupted; nothing completed is lost, run the same command to go on")
        code = INTERRUPTED
    except Exception as error:
        # Typer's errors of usage are click's, or those of the copy of click in newer versions.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            code = BAD_INPUT
        else:
            message = f"a bug in nasopt: {error!r}; run again with --debug and report it"
            code = _fail(error, message, debug=debug)
    sys.exit(code or 0)


def _fail(error: Exception, message: str, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    err.print(f"error: {message}", markup=False, highlight=False)
    return BAD_INPUT
