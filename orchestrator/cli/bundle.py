"""``edgematrix bundle``: interpreters with their runtimes, for devices that have nothing installed."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Build, list and show bundles: everything a device needs to run models, down to the C library.",
)


@app.command("build")
def build_bundle(
    arch: Annotated[str, typer.Option(metavar="aarch64|x86_64", help="The device's architecture.", show_default=False)],
    runtime: Annotated[
        list[str] | None, typer.Option(metavar="onnx|tflite|litert", help="May be repeated.", show_default="onnx and tflite")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Build a bundle from Debian packages and wheels, through this machine's own apt and pip; no root is needed."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import bundles
    from orchestrator.service.context import open_context

    view = bundles.build_bundle(open_context(), arch, tuple(runtime or ()))
    if as_json:
        print_json(view)
    else:
        message(f"bundle {view.sha256[:12]} for {view.arch}: {', '.join(view.runtimes)}; {_sizes(view.archive_bytes, view.unpacked_bytes)}")


@app.command("list")
def list_bundles(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """List bundles and the devices that run from them."""
    from orchestrator.cli.output import message, print_json, print_table
    from orchestrator.service import bundles
    from orchestrator.service.context import open_context

    found = bundles.list_bundles(open_context())
    if as_json:
        print_json(found)
        return
    if not found:
        message("no bundles yet; 'edgematrix bundle build --arch aarch64' makes one")
        return
    rows = [
        (
            item.sha256[:12],
            item.arch,
            ", ".join(item.runtimes),
            _sizes(item.archive_bytes, item.unpacked_bytes),
            item.built_utc,
            ", ".join(item.devices),
        )
        for item in found
    ]
    print_table(None, ("bundle", "arch", "runtimes", "size", "built", "devices"), rows)


@app.command()
def show(
    sha256: Annotated[str, typer.Argument(help="The beginning of its digest.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what a bundle was made of."""
    from orchestrator.cli.output import plain, print_json
    from orchestrator.cli.records import print_record
    from orchestrator.service import bundles
    from orchestrator.service.context import open_context

    view = bundles.get_bundle(open_context(), sha256)
    print_json(view) if as_json else print_record(plain(view))


def _sizes(archive_bytes: int, unpacked_bytes: int) -> str:
    return f"{archive_bytes / 1e6:.0f} MB to send, {unpacked_bytes / 1e6:.0f} MB on the device"
