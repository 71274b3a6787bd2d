"""Writes what the fleet benchmark found, and judges it by the bars."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import summary

#: Seconds from a device being free to its next job having begun there (95th percentile); seconds to the first drive after a kill; cores.
MOST_FREE_SECS = 1.0
MOST_SILENT_SECS = 60.0
MOST_CORES = 0.5


def write(found: dict[str, Any], now: datetime, folder: Path) -> tuple[Path, list[str]]:
    """Write the dated page and its JSON; return the page and the problems."""
    problems = judge(found)
    page = summary.write_proof(_page(found, problems, now), {"problems": problems, **found}, folder, now, "fleet")
    return page, problems


def judge(found: dict[str, Any]) -> list[str]:
    """Everything that is not as it must be."""
    matrix, long, killed = found["matrix"], found["long"], found["killed"]
    problems = []
    for name, phase, outcome in (("matrix", matrix, "completed"), ("long runs", long, "canceled"), ("killed gateway", killed, "completed")):
        if phase["outcomes"] != {outcome: phase["jobs"]}:
            problems.append(f"{name}: jobs ended as {phase['outcomes']}, not all as {outcome}")
        if phase["attempts"] != phase["jobs"]:
            problems.append(f"{name}: {phase['attempts']} attempts for {phase['jobs']} jobs")
        if outcome == "completed" and phase["results"] != phase["jobs"]:
            problems.append(f"{name}: {phase['results']} results for {phase['jobs']} jobs")
        if phase["overlaps"]:
            problems.append(f"{name}: {phase['overlaps']} runs began on a device where another one ran")
    if matrix["free_to_spoken_secs"]["p95"] > MOST_FREE_SECS:
        problems.append(f"a free device is spoken to for its next job after {matrix['free_to_spoken_secs']['p95']:.2f} s (95th percentile)")
    if killed["silent"] or killed["driven_again_secs"]["max"] > MOST_SILENT_SECS:
        problems.append(
            f"after the kill {killed['silent']} devices stayed silent; the others waited up to {killed['driven_again_secs']['max']:.1f} s"
        )
    if long["cost"]["cores_together"] > MOST_CORES:
        problems.append(f"{long['jobs']} hour-long runs cost {long['cost']['cores_together']:.2f} cores")
    return problems


def _page(found: dict[str, Any], problems: list[str], now: datetime) -> str:
    matrix, long, killed = found["matrix"], found["long"], found["killed"]
    about = summary.machine()
    lines = [
        f"# Fleet, {now:%Y-%m-%d %H:%M} UTC: {'holds' if not problems else 'FAILS'}",
        "",
        f"{found['devices']} simulated devices on {found['gateways']} gateways with {found['workers']} workers each, seed {found['seed']},"
        f" commit {summary.commit()}. A job runs {found['run_secs']:g} s on average.",
        f"Machine: {about.get('cpu', {}).get('model', 'unknown CPU')}, {about.get('cpu', {}).get('usable_count', '?')} CPUs."
        " Everything runs on it, the simulated devices too (their cost is not counted).",
        *(f"- problem: {problem}" for problem in problems),
        "",
        "## A large matrix",
        "",
        f"- {matrix['jobs']} jobs, {matrix['attempts']} attempts, {matrix['results']} results, outcomes {matrix['outcomes']};"
        f" submitted in {matrix['submit_secs']:.1f} s, ended after {matrix['took_secs']:.0f} s",
        f"- {matrix['jobs_per_sec']:.1f} jobs/s in all, {matrix['steady_jobs_per_sec']:.1f} jobs/s in between;"
        f" {matrix['jobs_per_day']:,} jobs a day",
        f"- from the end of a job's cleaning to the next job's first word on the device: {_times(matrix['free_to_spoken_secs'])}",
        f"- … to the next run having begun (inputs looked for, request written, agent started): {_times(matrix['free_to_started_secs'])}",
        f"- from the end of a run to its device being clean: {_times(matrix['end_to_collected_secs'])}",
        *_cost(matrix["cost"]),
        f"- memory at its peak: {', '.join(f'{name} {size / 1e6:.0f} MB' for name, size in matrix['peak_memory_bytes'].items())};"
        f" {sum(matrix['peak_memory_bytes'].values()) / found['devices'] / 1e6:.2f} MB for each device",
        f"- a job leaves {matrix['rows_per_job']:.0f} rows in the database, {matrix['database_bytes_per_job'] / 1e3:.1f} kB with indexes",
        "",
        "## Hour-long runs on every device",
        "",
        f"- {long['jobs']} runs, all running after {long['all_running_secs']:.0f} s, watched for {long['watched_secs']:.0f} s",
        *_cost(long["cost"]),
        f"- canceled, stopped and clean on every device after {long['all_canceled_secs']:.0f} s",
        "",
        "## A gateway killed with -9 and restarted a second later",
        "",
        f"- {killed['held']} devices held jobs; first contact after the kill: {_times(killed['driven_again_secs'])}",
        f"- {killed['jobs']} jobs, {killed['attempts']} attempts, {killed['results']} results",
        "",
    ]
    return "\n".join(lines)


def _times(spread: dict[str, float]) -> str:
    parts = [f"{word} {spread[name]:.2f} s" for word, name in (("median", "p50"), ("p95", "p95"), ("p99", "p99"), ("worst", "max"))]
    return f"{', '.join(parts)} (n = {spread['count']})"


def _cost(cost: dict[str, Any]) -> list[str]:
    cores = ", ".join(f"{name} {share:.3f}" for name, share in cost["cores"].items())
    return [
        f"- CPU: {cost['cores_together']:.2f} cores together ({cores})",
        f"- PostgreSQL: {cost['transactions_per_sec']:.0f} transactions/s, {cost['rows_read_per_sec']:.0f} rows read/s,"
        f" {cost['rows_written_per_sec']:.0f} rows written/s; Redis: {cost['redis_commands_per_sec']:.0f} commands/s,"
        f" at most {cost['redis_peak_bytes'] / 1e6:.1f} MB",
    ]
