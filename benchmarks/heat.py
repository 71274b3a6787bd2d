"""``python -m benchmarks.heat``: soaks on devices with a plant, held against what the plant knows. As root; docs/lab.md.

Three proofs. That throttling is told as it was: when, how much CPU was granted, how much speed was left, and the time constants. That a
recipe reproduces, and does not at another ambient, with the reason and as predicted. That a runtime whose numbers change with heat is
caught, and a sound one never. ``--quick`` takes constants a tenth of a board's. Writes a dated summary; exit code 1 when anything fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import heat_judge, summary
from benchmarks.heat_judge import Held
from benchmarks.heat_lab import EARNEST, FAN, FAULTY, HEAVY, LIGHT, OTHER_AMBIENT_C, QUICK, TWIN, HeatLab
from benchmarks.heat_summary import Run, write
from benchmarks.plan import AGENT_PYTHON, REPOSITORY
from deploy.lab import needs
from deploy.lab.errors import LabImpossible

TIMES = 5
#: As few as a verdict needs.
TIMES_ELSEWHERE = 3
STABLE_SOAKS = 10
_REPRODUCTION_CODES = (0, 5, 6)


def main() -> int:
    """Run every proof; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heat", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="constants a tenth of a board's: six minutes")
    parser.add_argument("--first", action="store_true", help="the first proof alone, of throttling: six minutes")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results", help="where the summary goes")
    asked = parser.parse_args()
    try:
        needs.refuse_without_root()
    except LabImpossible as error:
        print(f"nothing is proved: {error.message}; {error.remedy}", file=sys.stderr)
        return 1
    pace = QUICK if asked.quick else EARNEST
    started, before = time.monotonic(), summary.load_average()
    with tempfile.TemporaryDirectory(prefix="edgematrix-heat-") as scratch, HeatLab(Path(scratch), pace, AGENT_PYTHON) as lab:
        rows = prove(lab, not asked.first)
        how = f"{lab.side_by_side} device(s) at a time: " + ", ".join(f"{name} on core {core}" for name, core in lab.cores.items())
    run = Run(pace.name, how, before, summary.load_average(), round(time.monotonic() - started), rows)
    page = write(run, asked.output, datetime.now(UTC))
    print(page.read_text(encoding="utf-8"))
    return int(not all(row.holds for row in rows))


def prove(lab: HeatLab, all_proofs: bool) -> list[Held]:
    """Soak three devices side by side; then repeat a soak of one, while its twin is in another air and another one fails."""
    begun = [
        lab.begin(lambda: lab.soak(LIGHT)),
        lab.begin(lambda: lab.soak(HEAVY, heavy=True)),
        lab.begin(lambda: lab.soak(FAN)),
    ]
    (light,), (heavy,), (fan,) = lab.wait(begun)
    rows = [
        *heat_judge.throttling(lab, LIGHT, "50 µs model", light),
        *heat_judge.throttling(lab, HEAVY, "heavy model", heavy),
        heat_judge.spans_periods(lab, heavy),
        *heat_judge.fan(lab, fan),
    ]
    if not all_proofs:
        return rows
    begun = [
        lab.begin(lambda: _again(lab, LIGHT, TIMES, None)),
        lab.begin(lambda: lab.soak(FAULTY)),
        lab.begin(lambda: _again(lab, TWIN, TIMES_ELSEWHERE, OTHER_AMBIENT_C)),
    ]
    (model, same), (faulty,), (twin, other) = lab.wait(begun)
    rows += heat_judge.throttling(lab, TWIN, "50 µs model, twin", twin)
    rows += [*heat_judge.reproduced(same, TIMES), *heat_judge.not_reproduced(other), heat_judge.changed(lab, faulty)]
    sound = [light, heavy, fan, model, twin, *(job for view in (same, other) for device in view["devices"] for job in device["job_ids"])]
    return [
        *rows,
        heat_judge.no_alarm(lab, sound),
        Held(5, "sound soaks", str(len(sound)), "", f"≥ {STABLE_SOAKS}", len(sound) >= STABLE_SOAKS),
    ]


def _again(lab: HeatLab, device: str, times: int, ambient_c: float | None) -> tuple[str, dict[str, Any]]:
    """A soak and its repeats. One beside the heavy model would not do: that shares the last cache, and sustained/burst with it."""
    (job_id,) = lab.soak(device)
    return job_id, _reproduce(lab, device, job_id, times, ambient_c)


def _reproduce(lab: HeatLab, device: str, job_id: str, times: int, ambient_c: float | None) -> dict[str, Any]:
    recipe = lab.folder / f"{device}-recipe.yaml"
    lab.command("thermal", "recipe", job_id, "--output", recipe)
    ambient = [] if ambient_c is None else ["--ambient", f"{ambient_c:g}"]
    limit = times * lab.pace.run_limit_secs
    words = ["--device", device, "--times", str(times), *ambient, "--json"]
    found: dict[str, Any] = json.loads(lab.command("thermal", "reproduce", recipe, *words, limit_secs=limit, codes=_REPRODUCTION_CODES))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
