"""Homes of edgematrix for benchmarks: a database with its tables, one device and one environment, made by the product's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.service.context import Context, open_context
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device, Environment
from orchestrator.worker.settings import Settings

DEVICE_ID = 1
_RUNTIMES: dict[str, Any] = {"runtimes": {name: {"available": True, "version": "0"} for name in ("onnx", "tflite")}}


def open_home(home: Path) -> Context:
    """Open a home whatever the environment variables say; it becomes SQLite with artifacts beside it."""
    return open_context(Settings(home=home, database_url=None, artifacts_url=None, redis_url=None))


def make_home(home: Path) -> None:
    """Make a home with a device that is healthy and has both runtimes; nothing ever runs on it."""
    context = open_home(home)
    device = Device(
        id=DEVICE_ID,
        name="bench",
        profile="linux-x86_64",
        gateway="local",
        transport="local",
        address={},
        root=str(home / "device"),
        labels={},
        health="good",
        facts={"machine": "x86_64"},
        added_at=0.0,
    )
    with open_session(context.engine) as session:
        session.add(device)
        session.flush()
        session.add(Environment(device_id=DEVICE_ID, name="default", interpreter=["python3"], digest="0", facts=_RUNTIMES, checked_at=0.0))
    context.engine.dispose()
