"""``edgematrix env``: what runs a model on a device."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List, add and show the environments that run models on devices.",
)

THIS_COMPUTER = "this-computer"


@app.command("list")
def list_environments(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """List environments: their devices, runtimes and digests."""
    from orchestrator.cli.output import message, print_json, print_table
    from orchestrator.service import devices
    from orchestrator.service.context import open_context

    found = devices.list_environments(open_context())
    if as_json:
        print_json(found)
        return
    if not found:
        message(
            "no environments yet; 'edgematrix run SPEC' registers this computer's default, 'edgematrix env add NAME --python PATH' adds one"
        )
        return
    rows = [
        (
            item.name,
            item.device,
            ", ".join(f"{name} {version}" for name, version in item.runtimes.items()),
            item.digest[:12],
            " ".join(item.interpreter),
        )
        for item in found
    ]
    print_table(None, ("environment", "device", "runtimes", "digest", "interpreter"), rows)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The name that specs use.", show_default=False)],
    python: Annotated[
        str | None,
        typer.Option(
            "--python",
            metavar="PATH",
            help="The Python on the device that has the runtime; quoted, also with a loader and arguments.",
            show_default=False,
        ),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(metavar="newest|DIGEST", help="Instead: bring this bundle to the device, and run from it.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="The device it is on.")] = THIS_COMPUTER,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Add an environment, or check one again: its runtimes are tested with a tiny model, not only imported."""
    import shlex

    from orchestrator.cli.output import message, print_json
    from orchestrator.service import devices, ssh_devices
    from orchestrator.service.context import open_context

    if (python is None) == (bundle is None):
        raise typer.BadParameter("name what runs the models: either --python PATH or --bundle newest", param_hint="--python")
    if bundle is not None:
        view = ssh_devices.add_bundle_environment(open_context(), name, device, None if bundle == "newest" else bundle)
    else:
        try:
            interpreter = shlex.split(python or "")
        except ValueError as error:
            raise typer.BadParameter(f"{python!r}: {error}", param_hint="--python") from error
        view = devices.add_environment(open_context(), name, interpreter, device=device)
    if as_json:
        print_json(view)
    else:
        runtimes = ", ".join(f"{runtime} {version}" for runtime, version in view.runtimes.items()) or "no runtime that works"
        message(f"environment {view.name} on {view.device}: {runtimes}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The environment's name.", show_default=False)],
    device: Annotated[str, typer.Option(help="The device it is on.")] = THIS_COMPUTER,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show everything known of one environment."""
    from orchestrator.cli.output import plain, print_json
    from orchestrator.cli.records import print_record
    from orchestrator.service import devices
    from orchestrator.service.context import open_context

    view = devices.get_environment(open_context(), name, device)
    print_json(view) if as_json else print_record(plain(view))
