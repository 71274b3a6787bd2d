"""``edgematrix thermal power``: the trace of an external power meter, laid beside a soak."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.thermal_show import ATTEMPT


class TimeUnit(StrEnum):
    S = "s"
    MS = "ms"
    US = "us"
    ISO8601 = "iso8601"


class PowerUnit(StrEnum):
    W = "W"
    MW = "mW"


class VoltageUnit(StrEnum):
    V = "V"
    MV = "mV"


class CurrentUnit(StrEnum):
    A = "A"
    MA = "mA"


class Align(StrEnum):
    CLOCK = "clock"
    MARKER = "marker"


def power(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The soak job that was metered.", show_default=False)],
    trace: Annotated[Path, typer.Argument(metavar="CSV", help="The meter's file.", show_default=False)],
    time: Annotated[str, typer.Option("--time", metavar="COLUMN", help="The column with the time, by name or number.", show_default=False)],
    power_column: Annotated[
        str | None, typer.Option("--power", metavar="COLUMN", help="The column with the power.", show_default=False)
    ] = None,
    voltage: Annotated[
        str | None, typer.Option("--voltage", metavar="COLUMN", help="With --current, in place of --power.", show_default=False)
    ] = None,
    current: Annotated[str | None, typer.Option("--current", metavar="COLUMN", help="With --voltage.", show_default=False)] = None,
    time_unit: Annotated[TimeUnit, typer.Option("--time-unit", help="Unit of the time column.")] = TimeUnit.S,
    power_unit: Annotated[PowerUnit, typer.Option("--power-unit", help="Unit of the power column.")] = PowerUnit.W,
    voltage_unit: Annotated[VoltageUnit, typer.Option("--voltage-unit", help="Unit of the voltage column.")] = VoltageUnit.V,
    current_unit: Annotated[CurrentUnit, typer.Option("--current-unit", help="Unit of the current column.")] = CurrentUnit.A,
    delimiter: Annotated[str, typer.Option("--delimiter", help="What separates the columns.")] = ",",
    decimal: Annotated[str, typer.Option("--decimal", help="The decimal mark of the numbers.")] = ".",
    align: Annotated[
        Align, typer.Option("--align", help="By times of day, or by the marker load of a spec with `marker: true`.")
    ] = Align.CLOCK,
    clock_offset: Annotated[
        float, typer.Option("--clock-offset", metavar="SECS", help="How far the meter's clock is ahead of this computer's.")
    ] = 0.0,
    attempt: ATTEMPT = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Attach a power meter's CSV file to a soak; energy per inference is then computed from it. The last file attached counts."""
    from rich.console import Group

    from orchestrator.cli.output import message, print_json, print_result
    from orchestrator.cli.thermal_table import quantities
    from orchestrator.report.words import fixed
    from orchestrator.service import power_traces, thermal
    from orchestrator.service.context import open_context
    from orchestrator.service.power_csv import Mapping

    for name, value in (("--delimiter", delimiter), ("--decimal", decimal)):
        if len(value) != 1:
            raise typer.BadParameter("give one character", param_hint=name)
    mapping = Mapping(
        time, power_column, voltage, current, time_unit.value, power_unit.value, voltage_unit.value, current_unit.value, delimiter, decimal
    )
    context = open_context()
    offset = None if align is Align.MARKER else clock_offset
    done = power_traces.import_power(context, thermal.find_soak(context, job), trace, mapping, meter_offset_secs=offset, attempt=attempt)
    if as_json:
        print_json(done)
        return
    message(f"{done.rows} samples of {done.source} attached to {done.job_id}, attempt {done.attempt}: aligned {done.alignment.words}")
    message(f"they span {fixed(done.covered_percent)} % of the measured part")
    told = [item for item in done.story.scalars if item.name.startswith(("energy_", "mean_power", "idle_power"))]
    print_result(Group(*quantities(told)))
