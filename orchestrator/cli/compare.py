"""``edgematrix compare``: two jobs, experiments or parts of them, sample by sample."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Axis(StrEnum):
    VARIANT = "variant"
    ENVIRONMENT = "environment"
    DEVICE = "device"


@app.command()
def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="The base: a job, an experiment, or EXPERIMENT:VARIANT such as last:onnx-fp32.", show_default=False
        ),
    ],
    b: Annotated[
        str | None, typer.Argument(metavar="[B]", help="What is held against it; not needed with --by.", show_default=False)
    ] = None,
    by: Annotated[
        Axis | None, typer.Option(help="Compare along this axis: what differs in it and in nothing else.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare B with A: accuracy difference with its interval, McNemar, flips both ways, agreement, bit-exact share, latency ratio.

    A part of an experiment is EXPERIMENT:TERM,TERM where a term is VARIANT, MODEL/VARIANT or KEY=VALUE with the keys model, variant,
    environment, device, num_threads, provider and graph_optimization. See docs/comparing.md.
    """
    from orchestrator.cli.comparison_table import print_comparison
    from orchestrator.cli.output import print_json
    from orchestrator.service import comparison
    from orchestrator.service.context import open_context

    result = comparison.compare(open_context(), a, b, by=by.value if by else None)
    print_json(result) if as_json else print_comparison(result)
