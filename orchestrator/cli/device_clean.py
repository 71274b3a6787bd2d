"""``edgematrix device clean``: make room on a device."""

from __future__ import annotations

from typing import Annotated

import typer


def clean(
    name: Annotated[str, typer.Argument(help="The device's name.", show_default=False)],
    unused_days: Annotated[float | None, typer.Option(min=0, help="Remove what no run used for so many days.", show_default="30")] = None,
    max_mb: Annotated[
        int | None, typer.Option(min=0, help="Then remove the longest unused until so many MB are left.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Remove models, inputs, agents and bundles that the device no longer needs. Its environments' own bundles stay."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import device_storage
    from orchestrator.service.context import open_context

    days = 30.0 if unused_days is None and max_mb is None else unused_days
    report = device_storage.clean_device(open_context(), name, days, None if max_mb is None else max_mb * 1_000_000)
    if as_json:
        print_json(report)
    else:
        freed, left = report.freed_bytes / 1e6, report.left_bytes / 1e6
        message(f"{name}: {report.removed} files and folders removed, {freed:.1f} MB freed, {left:.1f} MB left")
