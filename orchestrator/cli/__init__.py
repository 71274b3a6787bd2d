"""The command line: ``edgematrix COMMAND``. Nothing heavy is imported before a command is known; ``--help`` imports typer and no more."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from orchestrator.cli.exit_codes import ExitCode
from orchestrator.cli.lazy_group import LazyGroup

app = typer.Typer(
    cls=LazyGroup,
    name="edgematrix",
    help="Benchmark INT8 models over a matrix of devices, runtimes and settings, and say how far each number may be trusted.",
    epilog="Exit codes: 0 ok; 1 finished, but some job was not measured; 2 wrong input; 3 infrastructure; 4 a bug; 130 interrupted."
    " See docs/cli.md.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from agent import __version__

        typer.echo(f"edgematrix {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; every error is printed here, and nowhere else.

    With ``--json`` among the arguments an error is one JSON document on standard error.
    """
    command = typer.main.get_command(app)
    try:
        code = command.main(args=list(arguments), prog_name="edgematrix", standalone_mode=False)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the one place where every error becomes a message and an exit code
        from orchestrator.cli.errors import report_error

        return report_error(error, as_json="--json" in arguments)
    return int(code or 0)


def main() -> None:
    """The entry point of the ``edgematrix`` script."""
    sys.exit(run(sys.argv[1:]))
