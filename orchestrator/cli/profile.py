"""``edgematrix profile``: the kinds of boards."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="List and show device profiles.")


@app.command("list")
def list_profiles(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """List device profiles, and whether each was tried on the hardware itself."""
    from orchestrator.cli.output import print_json, print_table
    from orchestrator.service import devices

    profiles = devices.list_profiles()
    if as_json:
        print_json(profiles)
        return
    rows = [
        (item.name, item.title, item.arch, _interpreter(item.interpreter), "yes" if item.tried_on_hardware else "no") for item in profiles
    ]
    print_table(None, ("profile", "title", "arch", "default environment", "tried on hardware"), rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The profile's name.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show one device profile."""
    from orchestrator.cli.output import plain, print_json
    from orchestrator.cli.records import print_record
    from orchestrator.service import devices

    profile = devices.get_profile(name)
    print_json(profile) if as_json else print_record(plain(profile))


def _interpreter(told: str | tuple[str, ...]) -> str:
    return told if isinstance(told, str) else " ".join(told)
