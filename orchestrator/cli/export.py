"""``edgematrix export``: results for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Format(StrEnum):
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


@app.command()
def export(
    experiment: Annotated[str, typer.Argument(metavar="[ID]", help="An experiment's id, the beginning of one, or 'last'.")] = "last",
    format_: Annotated[Format, typer.Option("--format", help="json holds everything; csv and parquet have one row per job.")] = Format.JSON,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="The file to write; '-' or absent: standard output.", show_default=False),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of the JSON format and return.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say what was written as one JSON document (needs --output).")] = False,
) -> None:
    """Write the results of an experiment. The file appears whole or not at all."""
    import json
    import sys

    from orchestrator.cli.output import message, print_json
    from orchestrator.service import export as service

    if schema:
        typer.echo(json.dumps(service.schema(), indent=2))
        return
    from orchestrator.service import experiments
    from orchestrator.service.context import open_context

    to_file = output is not None and str(output) != "-"
    if as_json and not to_file:
        raise typer.BadParameter("--json says what was written to a file, so it needs --output")
    context = open_context()
    experiment_id = experiments.find_experiment(context, experiment)
    content, job_count = service.export(context, experiment_id, format_.value)
    if output is None or not to_file:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    service.write_atomically(output, content)
    if as_json:
        print_json({"file": str(output), "format": format_.value, "jobs": job_count, "size_bytes": len(content)})
    else:
        message(f"{job_count} jobs written to {output}")
