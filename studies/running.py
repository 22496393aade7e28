"""How the scripts of this folder end."""

import sys
from collections.abc import Callable

from nasopt.errors import NasoptError


def run_script(main: Callable[[], None]) -> None:
    """Runs ``main``; what nasopt refuses is one line and exit code 2, as in nasopt's own commands, Ctrl-C is 130."""
    try:
        main()
    except NasoptError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
