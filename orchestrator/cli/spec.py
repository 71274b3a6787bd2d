"""``edgematrix spec``: check a spec before running it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Check a spec, or print its JSON Schema.")


@app.command()
def check(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The experiment's YAML file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Report every mistake of SPEC at once, with file, line and remedy. Exit code 2 when there is one."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import submission

    warnings = submission.check_spec(spec)
    if as_json:
        print_json({"spec": spec, "mistakes": [], "warnings": warnings})
        return
    for warning in warnings:
        message(f"note: {warning}")
    message(f"{spec}: no mistakes")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a spec, for editors and other tools."""
    import json

    from orchestrator.domain.spec import spec_json_schema

    typer.echo(json.dumps(spec_json_schema(), indent=2))
