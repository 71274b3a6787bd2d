"""``python -m benchmarks.fleet``: hundreds of simulated devices take a matrix of thousands of jobs to the end.

The scheduler, leases, ``drive``, Celery, Redis, PostgreSQL and the parsing and judging of what devices bring are the product's own. Three
questions: does a large matrix end, how fast and at what cost; what do hour-long runs cost; how soon are the jobs of a killed gateway driven
again. Writes a dated summary; exit code 1 when a job is lost or doubled or a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.fleet.phases import Fleet
from benchmarks.fleet.report import write
from benchmarks.plan import REPOSITORY


def main() -> int:
    """Run the three phases; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="processes of each gateway")
    parser.add_argument("--jobs", type=int, default=10_000, help="a multiple of 20 times the devices")
    parser.add_argument("--run-secs", type=float, default=30.0, help="how long a job of the matrix runs on its device, on average")
    parser.add_argument("--steady-secs", type=float, default=120.0, help="how long the hour-long runs are watched")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results", help="where the summary goes")
    asked = parser.parse_args()
    if asked.jobs % (20 * asked.devices):
        parser.error(f"--jobs must be a multiple of {20 * asked.devices}")
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="edgematrix-fleet-") as scratch:
        folder = Path(scratch)
        # PostgreSQL runs as another user than root.
        folder.chmod(0o755)
        fleet = Fleet(folder, asked.devices, asked.gateways, asked.workers, asked.seed)
        try:
            fleet.start(asked.run_secs, asked.jobs)
            found: dict[str, Any] = {name: getattr(asked, name) for name in ("seed", "devices", "gateways", "workers", "run_secs")}
            phases: dict[str, Callable[[], dict[str, Any]]] = {
                "matrix": fleet.matrix,
                "long": lambda: fleet.long_runs(asked.steady_secs),
                "killed": lambda: fleet.killed_gateway(asked.run_secs),
            }
            for name, phase in phases.items():
                found[name] = phase()
                print(f"{name}: {json.dumps(found[name])}", file=sys.stderr, flush=True)
        finally:
            fleet.stop()
    page, problems = write(found, now, asked.output)
    print(page.read_text())
    print(json.dumps({"problems": problems}))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
