"""``edgematrix thermal reproduce``: follow a recipe, and say whether what it showed happens again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.exit_codes import ExitCode
from orchestrator.cli.thermal_files import HTML, PNG

if TYPE_CHECKING:
    from orchestrator.domain.recipe import Recipe
    from orchestrator.service.context import Context
    from orchestrator.service.thermal_reproduction import ReproductionView


def reproduce(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The file that 'edgematrix thermal recipe' wrote.", show_default=False)],
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="NAME", help="Repeat it on this device; may be given several times.", show_default=False),
    ] = None,
    times: Annotated[int, typer.Option("--times", min=1, max=1000, help="How often, on each device.")] = 5,
    ambient: Annotated[
        float | None,
        typer.Option("--ambient", metavar="CELSIUS", min=-60, max=200, help="The ambient temperature of these runs.", show_default=False),
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance",
            metavar="QUANTITY=VALUE",
            help="Another tolerance than the recipe's: time_to_throttle_secs=10% or peak_c=2 (in its unit).",
            show_default=False,
        ),
    ] = None,
    files: Annotated[
        Path | None,
        typer.Option("--files", metavar="DIR", help="Where the files lie that are not in the artifact store.", show_default=False),
    ] = None,
    judged: Annotated[
        str | None,
        typer.Option("--from", metavar="EXPERIMENT", help="Run nothing: judge the soaks of this experiment.", show_default=False),
    ] = None,
    priority: Annotated[int | None, typer.Option(help="Priority of the jobs; higher goes first.", show_default=False)] = None,
    png: PNG = None,
    html: HTML = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Follow RECIPE on a device and judge every quantity: reproduced, not reproduced, or undetermined, with the reasons.

    Exit code 0: reproduced; 5: not reproduced; 6: undetermined; 1: some run was not measured.
    """
    from orchestrator.cli.output import print_json
    from orchestrator.cli.thermal_files import write_figures
    from orchestrator.cli.thermal_verdict import print_reproduction
    from orchestrator.service import experiments, recipes, thermal_reproduction
    from orchestrator.service.context import open_context

    wanted = recipes.with_tolerances(recipes.read_recipe(recipe), tolerance or ())
    context = open_context()
    interrupted = False
    if judged is not None:
        experiment_id = experiments.find_experiment(context, judged)
    else:
        folders = [folder for folder in (files, recipe.resolve().parent) if folder is not None]
        experiment_id, interrupted = _run(context, wanted, folders, device or [], times, ambient, priority)
    view = thermal_reproduction.judge_jobs(context, wanted, thermal_reproduction.soaks_of(context, experiment_id))
    print_json(view) if as_json else print_reproduction(wanted, view)
    if png or html:
        from orchestrator.service.thermal_figures import thermal_panels

        measured = [item.job_id for found in view.devices for item in found.reproduction.repeats]
        # The bands of tolerance are of one device; of several, the soaks overlaid tell them apart.
        only = view.devices[0].reproduction if len(view.devices) == 1 else None
        write_figures(thermal_panels(context, measured), f"Repeats of {wanted.from_job}", png, html, only)
    raise typer.Exit(ExitCode.INTERRUPTED if interrupted else exit_code(view))


def exit_code(view: ReproductionView) -> ExitCode:
    """The verdict as an exit code; a run that is missing weighs more than an answer in favour, less than one against."""
    if view.verdict == "not reproduced":
        return ExitCode.NOT_REPRODUCED
    if view.unmeasured_count:
        return ExitCode.NOT_MEASURED
    return ExitCode.OK if view.verdict == "reproduced" else ExitCode.UNDETERMINED


def _run(
    context: Context, recipe: Recipe, folders: list[Path], names: list[str], times: int, ambient_c: float | None, priority: int | None
) -> tuple[str, bool]:
    """Submit the repeats and follow them to their ends; the experiment's id and whether the user interrupted."""
    from orchestrator.cli.interrupts import Interrupts
    from orchestrator.cli.output import message
    from orchestrator.cli.stack import embedded_stack
    from orchestrator.cli.watching import follow_with_stack
    from orchestrator.service import devices, recipes, submission

    if context.settings.embedded:
        devices.ensure_this_computer(context)
    chosen = list(dict.fromkeys(names or [recipe.conditions.device]))
    for name in chosen:
        devices.get_device(context, name)
    with Interrupts() as interrupts:
        with recipes.laid_out(context, recipe, folders, chosen, times, ambient_c) as spec:
            submitted = submission.submit(context, spec, priority=priority)
        message(f"experiment {submitted.experiment_id}: {submitted.job_count} repeats of {recipe.from_job} on {', '.join(chosen)}")
        follow_with_stack(context, [submitted.experiment_id], embedded_stack(context.settings), interrupts)
        return submitted.experiment_id, interrupts.requested
