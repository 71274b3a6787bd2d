"""A bench whose device is this computer, with the agent's own Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.service import devices
from orchestrator.service.context import open_context
from orchestrator.worker.settings import Settings
from tests.integration.dispatch.bench import Bench, Wire
from tests.integration.running import AGENT_PYTHON


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    if not AGENT_PYTHON.exists():
        pytest.skip(f"{AGENT_PYTHON} is not there: make setup")
    context = open_context(Settings(home=tmp_path / "home", agent_python=AGENT_PYTHON))
    devices.ensure_this_computer(context)
    yield Bench(context, Wire())
    context.engine.dispose()
