"""``edgematrix thermal``: what a soak tells, and whether it happens again."""

from __future__ import annotations

import typer

from orchestrator.cli import thermal_compare, thermal_power, thermal_recipe, thermal_reproduce, thermal_show

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Show and compare soaks, make recipes of them, and reproduce those.",
)
app.command("show")(thermal_show.show)
app.command("compare")(thermal_compare.compare)
app.command("recipe")(thermal_recipe.recipe)
app.command("reproduce")(thermal_reproduce.reproduce)
app.command("power")(thermal_power.power)
