"""``edgematrix thermal show``: what one soak tells."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.thermal_files import HTML, PNG

JOB = Annotated[
    str,
    typer.Argument(
        metavar="[JOB]",
        help="A soak job's id or the beginning of one, or a selection with one soak, such as last or last:onnx-u8s8,device=pi4.",
    ),
]
ATTEMPT = Annotated[
    int | None, typer.Option("--attempt", metavar="N", help="This attempt, not the one that was measured.", show_default=False)
]


def show(
    job: JOB = "last",
    attempt: ATTEMPT = None,
    png: PNG = None,
    html: HTML = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what a soak tells: whether and why it throttled, what was left of the speed, whether the numbers changed, how it heats."""
    from orchestrator.cli.output import print_json
    from orchestrator.cli.thermal_files import write_figures
    from orchestrator.cli.thermal_table import print_story
    from orchestrator.service import thermal
    from orchestrator.service.context import open_context

    context = open_context()
    run = thermal.load_soak(context, thermal.find_soak(context, job), attempt)
    story = thermal.tell_soak(run)
    if as_json:
        print_json({"story": story, "attempts": run.attempts, "sampling": run.outcome.sampling, "validity": run.envelope.validity})
    else:
        print_story(run, story)
    if png or html:
        from orchestrator.service.thermal_figures import panel_of

        write_figures([panel_of(run, story)], f"Soak {run.job_id}", png, html)
