"""The command line: arguments and output only. Everything it does can be called from Python."""

import sys

from nasseg.cli import (  # noqa: F401  (define the verbs)
    data,
    export,
    figure,
    latency,
    replay,
    reproduce,
    search,
    show_front,
    spaces,
    train,
)
from nasseg.cli.shared import app
from nasseg.errors import UserError
from nasseg.redaction import shown


def main() -> None:
    """Run the command line. A user error prints one line and exits with code 2."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"error: {shown(error)}\n")
        sys.exit(2)
