"""``python -m benchmarks``: measure every figure, print the summary and write it into ``benchmarks/results/``.

Run it from the orchestrator's environment on a machine that does nothing else; it takes about 25 minutes. Exit code 0 when no bar was
missed (an undetermined one says so), 1 when one was or a figure could not be measured.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import summary
from benchmarks.pairs import MIN_PAIRS
from benchmarks.plan import REPOSITORY, EnvironmentMissing, Figure, Plan

#: One module for each figure, in the order in which they are measured.
FIGURES = ("invoke", "telemetry", "peer", "submission", "start", "large_trace")


def main() -> int:
    """Measure what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=MIN_PAIRS, help=f"pairs per ratio; below {MIN_PAIRS} every ratio is undetermined")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=FIGURES, metavar="FIGURE", help=", ".join(FIGURES))
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results", help="where the summary goes")
    asked = parser.parse_args()
    now = datetime.now(UTC)
    before = summary.load_average()
    figures: list[Figure] = []
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="edgematrix-bench-") as scratch:
        for name in asked.only:
            print(f"{datetime.now(UTC):%H:%M:%S} {name}", file=sys.stderr, flush=True)
            folder = Path(scratch) / name
            folder.mkdir()
            try:
                figures.append(importlib.import_module(f"benchmarks.{name}").measure(Plan(asked.pairs, asked.seed, folder)))
            except EnvironmentMissing as error:
                missing[name] = str(error)
    found = summary.Summary(
        measured_utc=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        seed=asked.seed,
        pairs=asked.pairs,
        commit=summary.commit(),
        machine=summary.machine(),
        load_average={"before": before, "after": summary.load_average()},
        figures=tuple(figures),
        not_measured=missing,
    )
    path = summary.write(found, asked.output, now)
    print(summary.to_markdown(found))
    print(f"written to {path}", file=sys.stderr)
    return int(found.has_failed)


if __name__ == "__main__":
    sys.exit(main())
