"""A command group that knows the names and one-line helps of its commands, and imports a command's module only when it is invoked."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import typer.core
import typer.main

if TYPE_CHECKING:
    from typer.main import Typer

#: Command → (module below ``orchestrator.cli``, one line of help), in the order in which ``--help`` shows them.
COMMANDS = {
    "run": ("run", "Run a spec on this computer or the lab, watch it, print the table and write the report."),
    "submit": ("submit", "Submit a spec and return at once."),
    "watch": ("watch", "Watch an experiment that something else runs."),
    "cancel": ("cancel", "Cancel an experiment or one job."),
    "resume": ("resume", "Continue unfinished experiments after an interruption."),
    "list": ("list_experiments", "List experiments."),
    "show": ("show", "Show an experiment's table, or one job."),
    "compare": ("compare", "Compare two jobs, experiments or parts of them, sample by sample."),
    "thermal": ("thermal", "Show and compare soaks, make recipes of them, and reproduce those."),
    "export": ("export", "Write results as JSON, CSV or Parquet."),
    "report": ("report", "Write an experiment's report as one HTML file."),
    "recompute": ("recompute", "Rebuild metrics from traces with this version's analysis."),
    "device": ("device", "Add, list, check, reserve and maintain devices."),
    "profile": ("profile", "List and show device profiles."),
    "env": ("env", "List, add and show the environments that run models on devices."),
    "bundle": ("bundle", "Build, list and show bundles for devices that have nothing installed."),
    "lab": ("lab", "Start, show and stop a lab of emulated devices (as root)."),
    "worker": ("worker", "Serve the devices of a gateway (lab and fleet)."),
    "scheduler": ("scheduler", "Hand waiting jobs to idle devices (lab and fleet; a second one is a standby)."),
    "spec": ("spec", "Check a spec, or print its JSON Schema."),
    "doctor": ("doctor", "Say what works on this machine, what does not, and what mends it."),
}


class LazyGroup(typer.core.TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of that name, importing its module; None for a name that does not exist."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in self.commands:
            module = importlib.import_module(f"orchestrator.cli.{COMMANDS[cmd_name][0]}")
            application: Typer = module.app
            command = typer.main.get_command(application)
            command.name = cmd_name
            self.commands[cmd_name] = command
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Resolve as the base does, with a suggestion from all names, not only from those already imported."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else " 'edgematrix --help' lists them."
            ctx.fail(f"No such command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the command list from the table, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
