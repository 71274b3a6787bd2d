"""What works on this machine, what does not, and the command that mends it. Looks only; registers and starts nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.errors import EdgematrixError
from orchestrator.dispatch.agent_package import build_agent_package
from orchestrator.dispatch.device_agent import DeviceAgent
from orchestrator.service.doctor_lab import examine_lab
from orchestrator.service.views import Check
from orchestrator.transports import open_transport
from orchestrator.worker.local_environment import find_agent_python
from orchestrator.worker.redis_server import find_redis_server
from orchestrator.worker.settings import Settings

OK, WARNING, FAILED = "ok", "warning", "failed"

MIN_PYTHON = (3, 11)
#: A demo writes some tens of MB; an hour of soaking a 50 µs model about 1 GB.
MIN_FREE_BYTES = 256 * 1024 * 1024
COMFORTABLE_FREE_BYTES = 2 * 1024 * 1024 * 1024
#: Other processes that keep more than this share of the cores busy disturb latencies.
MAX_LOAD_PER_CORE = 0.3


def examine(settings: Settings) -> list[Check]:
    """Return one line per finding. ``failed`` is what keeps edgematrix from working here; ``warning`` what makes numbers worth less."""
    checks = [_python(), *_home(settings.home), _database(settings), _postgresql(settings), *_messages(settings)]
    found = list(_environments(settings))
    checks += [check for check, _ in found]
    conditions = next((facts["conditions"] for _, facts in found if facts.get("conditions")), None)
    return checks + list(machine_checks(conditions or {}, os.getloadavg()[0], os.cpu_count() or 1))


# --- this installation ---------------------------------------------------------------------------------------


def _python() -> Check:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < MIN_PYTHON:
        return Check("Python", FAILED, found, "install Python 3.11 or newer (apt-get install python3.11), then: make setup")
    return Check("Python", OK, found)


def _home(home: Path) -> Iterator[Check]:
    """The nearest folder that exists is probed by writing: permissions alone do not show a read-only disk."""
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    probe = place / f".edgematrix-doctor-{os.getpid()}"
    try:
        probe.write_bytes(b"\0")
        probe.unlink()
    except OSError as error:
        yield Check(
            "state folder", FAILED, f"{home} cannot be written: {error.strerror}", "set EDGEMATRIX_HOME to a folder that you can write"
        )
        return
    yield Check("state folder", OK, str(home) if home.exists() else f"{home} (made at the first run)")
    free = shutil.disk_usage(place).free
    status = FAILED if free < MIN_FREE_BYTES else WARNING if free < COMFORTABLE_FREE_BYTES else OK
    yield Check("free disk", status, f"{free / 1e9:.1f} GB", "free some space, or set EDGEMATRIX_HOME to a folder on a larger disk")


def _database(settings: Settings) -> Check:
    from sqlalchemy import text

    from orchestrator.store.database import open_database

    if settings.database_url is None and not (settings.home / "edgematrix.sqlite").exists():
        return Check("database", OK, "SQLite, made at the first run")
    try:
        engine = open_database(settings.resolved_database_url)
        with engine.connect() as connection:
            version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar() if _has_versions(connection) else None
        name = engine.url.render_as_string(hide_password=True)
        engine.dispose()
    except EdgematrixError as error:
        return Check("database", FAILED, error.message, error.remedy)
    return Check("database", OK, f"{name} ({f'schema {version}' if version else 'empty: set up at the first run'})")


def _has_versions(connection: Any) -> bool:
    from sqlalchemy import inspect

    return bool(inspect(connection).has_table("alembic_version"))


def _postgresql(settings: Settings) -> Check:
    wanted = (settings.database_url or "").startswith("postgresql")
    try:
        import psycopg
    except ImportError as error:
        return Check(
            "PostgreSQL driver",
            FAILED if wanted else WARNING,
            f"not there: {error}",
            "pip install 'edgematrix[postgres]' (only for PostgreSQL)",
        )
    return Check("PostgreSQL driver", OK, f"psycopg {psycopg.__version__}")


def _messages(settings: Settings) -> Iterator[Check]:
    """Redis: the private one's binary in the embedded default; in a lab the server, and whether anybody takes the messages."""
    if settings.embedded:
        yield _redis_binary()
        return
    yield from examine_lab(settings)


def _redis_binary() -> Check:
    try:
        binary = find_redis_server()
        done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=10, check=True)
    except EdgematrixError as error:
        return Check("Redis", FAILED, error.message, error.remedy)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("Redis", FAILED, f"{binary} does not run: {error}", "apt-get install redis-server")
    return Check("Redis", OK, f"{binary} ({' '.join(done.stdout.split()[:3])})")


# --- the environments that run models ------------------------------------------------------------------------


def _environments(settings: Settings) -> Iterator[tuple[Check, dict[str, Any]]]:
    """Run every known interpreter's self-test: with a tiny model, since a runtime that imports may still fail at its first model."""
    interpreters = dict(_registered(settings))
    default = find_agent_python(settings)
    if default is not None:
        interpreters.setdefault("default", [str(default)])
    if not interpreters and not settings.embedded:
        # A host of schedulers, or a gateway that is no device itself, needs none.
        yield Check("environment", OK, "none on this computer; the lab's devices have their own"), {}
        return
    if not interpreters:
        yield (
            Check("environment", FAILED, "no Python with a runtime is known", "make setup, or: edgematrix env add default --python PATH"),
            {},
        )
        return
    for name, interpreter in interpreters.items():
        yield _environment(settings, name, interpreter)


def _registered(settings: Settings) -> Iterable[tuple[str, list[str]]]:
    if settings.database_url is None and not (settings.home / "edgematrix.sqlite").exists():
        return []
    from sqlmodel import col, select

    from orchestrator.store.database import open_database, read_session
    from orchestrator.store.tables import Device, Environment

    try:
        engine = open_database(settings.resolved_database_url)
        with read_session(engine) as session:
            query = (
                select(Environment.name, Environment.interpreter)
                .join(Device)
                .where(col(Device.transport) == "local", col(Device.gateway) == settings.gateway)
                .order_by(col(Environment.name))
            )
            return [(name, list(interpreter)) for name, interpreter in session.exec(query).all()]
    except Exception:  # noqa: BLE001 - the line "database" has told what is wrong with it
        return []


def _environment(settings: Settings, name: str, interpreter: list[str]) -> tuple[Check, dict[str, Any]]:
    title = f"environment {name}"
    shown = " ".join(interpreter)
    try:
        package = build_agent_package(settings.gateway_folder / "agents")
        transport = open_transport("local", {})
        try:
            agent = DeviceAgent(transport, str(settings.home / "devices" / "doctor"), interpreter, package)
            agent.push_agent()
            facts = agent.facts()
        finally:
            transport.close()
    except EdgematrixError as error:
        return Check(title, FAILED, f"{shown}: {error.message}", error.remedy or "make setup"), {}
    runtimes: dict[str, Any] = facts.get("runtimes", {})
    working = [f"{key} {value.get('version') or ''}".strip() for key, value in runtimes.items() if value.get("available")]
    broken = [f"{key}: {value.get('cause')}" for key, value in runtimes.items() if not value.get("available")]
    if not working:
        return Check(
            title, FAILED, f"{shown}: {'; '.join(broken) or 'no runtime'}", "pip install 'edgematrix[agent]' there, or: make setup"
        ), facts
    absent = f"; not: {'; '.join(broken)}" if broken else ""
    return Check(title, OK, f"{', '.join(working)} answer a tiny model ({shown}){absent}"), facts


# --- this machine --------------------------------------------------------------------------------------------


def machine_checks(conditions: Mapping[str, Any], load: float, core_count: int) -> Iterator[Check]:
    """Say what the conditions found by the agent mean for INT8 models and for latencies; nothing when none were found."""
    if not conditions:
        return
    cpu = conditions.get("cpu") or {}
    yield int8_check(cpu)
    unknown = conditions.get("unknown") or {}
    zones = conditions.get("thermal_zones") or {}
    if zones:
        yield Check("temperature", OK, f"{len(zones)} zones: {', '.join(sorted(zones))}")
    else:
        yield Check("temperature", WARNING, unknown.get("temperature", "no sensor"), "nothing to mend: results say that it is unknown")
    yield from _governor(conditions.get("frequency") or {}, unknown)
    virtual = conditions.get("virtualization") or {}
    if virtual.get("virtual"):
        who = virtual.get("hypervisor") or "a hypervisor"
        yield Check(
            "virtual machine", WARNING, f"under {who}: neighbours may take time away", "measure latency on the device itself; repeat jobs"
        )
    quota = conditions.get("cpu_quota")
    if quota is not None:
        yield Check(
            "CPU quota", WARNING, f"this process gets {quota:g} cores at most", "lift the control group's limit before measuring latency"
        )
    share = load / core_count
    busy = f"load {load:.2f} on {core_count} cores"
    yield Check(
        "background load", OK if share <= MAX_LOAD_PER_CORE else WARNING, busy, "end what else runs (top shows it) before measuring latency"
    )


def int8_check(cpu: Mapping[str, Any]) -> Check:
    """Say whether this CPU's 8-bit multiply can saturate (FIELD: VPMADDUBSW sums two u8·s8 products in 16 bits)."""
    features: Mapping[str, Any] = cpu.get("features") or {}
    model = cpu.get("model") or "unknown CPU"
    present = [name for name, value in features.items() if value]
    words = f"{model}: {', '.join(present) or 'no known feature'}"
    if any(features.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8")):
        return Check("CPU for INT8", OK, f"{words}. 8-bit products are summed in 32 bits (VNNI): no saturation")
    if features.get("asimd"):
        missing = "" if features.get("asimddp") else "; without dotprod INT8 is slower than on newer cores"
        return Check("CPU for INT8", OK, f"{words}. 8-bit products are summed in 32 bits: no saturation{missing}")
    if features.get("avx2"):
        found = f"{words}. No VNNI: the 8-bit multiply sums pairs in 16 bits and can saturate: U8S8 and S8S8 may lose accuracy here alone"
        return Check(
            "CPU for INT8", WARNING, found, "quantize with reduce_range or U8U8 for such CPUs, and compare with a CPU that has VNNI"
        )
    return Check(
        "CPU for INT8",
        WARNING,
        f"{words}. Its 8-bit multiply is not known to edgematrix",
        "compare INT8 models with the reference on this machine",
    )


def _governor(policies: Mapping[str, Any], unknown: Mapping[str, str]) -> Iterator[Check]:
    if not policies:
        yield Check("CPU clock", WARNING, unknown.get("frequency", "cannot be read"), "nothing to mend: results say that it is unknown")
        return
    governors = sorted({str(policy.get("governor")) for policy in policies.values()})
    if governors == ["performance"]:
        yield Check("CPU clock", OK, "governor performance")
    else:
        yield Check(
            "CPU clock",
            WARNING,
            f"governor {', '.join(governors)}: the clock follows the load",
            "sudo cpupower frequency-set -g performance",
        )
