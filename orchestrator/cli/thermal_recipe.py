"""``edgematrix thermal recipe``: a soak that can be done again, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.thermal_show import JOB


def recipe(
    job: JOB = "last",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there, not to standard output.", show_default=False)
    ] = None,
    files: Annotated[
        Path | None,
        typer.Option(
            "--files",
            metavar="DIR",
            help="Write the model and the data into this folder, too, for colleagues with another artifact store.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the recipe as one JSON document, not as YAML.")] = False,
) -> None:
    """Make the recipe of a soak: the protocol, its files by content, the conditions, and what it showed with tolerances."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.domain.recipe_text import recipe_text
    from orchestrator.service import recipe_making, recipes, thermal
    from orchestrator.service.context import open_context
    from orchestrator.service.export import write_atomically

    context = open_context()
    loaded = thermal.load_soak(context, thermal.find_soak(context, job))
    made = recipe_making.make_recipe(context, loaded, thermal.tell_soak(loaded))
    if files is not None:
        for path in recipes.write_files(context, made, files):
            message(f"file: {path}")
    if as_json:
        print_json(made)
    elif output is None:
        typer.echo(recipe_text(made), nl=False)
    if output is not None:
        write_atomically(output, recipe_text(made).encode())
        message(f"recipe: {output.resolve()}")
