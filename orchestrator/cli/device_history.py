"""``edgematrix device history``: who used a device, and for how long."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.device_reserve import AS_JSON, NAME


def history(
    name: NAME,
    last: Annotated[str | None, typer.Option("--last", metavar="LENGTH", help="Only the last 12h, 7d, 4w.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many uses and changes; totals count all.")] = 50,
    as_json: AS_JSON = False,
) -> None:
    """Show who used a device (jobs and reservations), for how long, and what became of the device meanwhile."""
    from orchestrator.cli.device_words import local_time
    from orchestrator.cli.output import message, print_json, print_table
    from orchestrator.domain.times import format_duration, parse_duration
    from orchestrator.service.context import open_context
    from orchestrator.service.history import device_history

    context = open_context()
    now = context.clock()
    found = device_history(context, name, since=None if last is None else now - parse_duration(last), limit=limit)
    if as_json:
        print_json(found)
        return
    if not found.uses and not found.changes:
        message(f"nobody has used {name}" + (f" in the last {last}" if last else "") + ", and nothing has become of it")
        return
    if found.uses:
        rows = [
            (
                local_time(use.began_utc, now),
                local_time(use.ended_utc, now) if use.ended_utc else "now",
                format_duration(use.secs),
                use.person,
                f"{use.experiment}: {use.job_id}, attempt {use.attempt}" if use.job_id else "reserved",
                use.how,
            )
            for use in found.uses
        ]
        print_table(f"who used {name}", ("from", "to", "how long>", "who", "what", "how it ended"), rows)
    if found.totals:
        totals = [
            (item.person, item.job_attempts, format_duration(item.job_secs), item.reservations, format_duration(item.reserved_secs))
            for item in found.totals
        ]
        print_table("in total", ("who", "job attempts>", "measured>", "reservations>", "reserved>"), totals)
    if found.changes:
        changes = [
            (local_time(item.at_utc, now), item.actor, f"{item.old} → {item.new}" if item.old else item.new, item.why)
            for item in found.changes
        ]
        print_table(f"what became of {name}", ("when", "who", "what", "why"), changes)
