"""Finds the Python of this computer that has the agent's packages; the orchestrator's own never does (DESIGN: apart)."""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.worker.settings import Settings


def find_agent_python(settings: Settings) -> Path | None:
    """``EDGEMATRIX_AGENT_PYTHON``, else what ``make setup`` builds beside the orchestrator's own; None when there is neither."""
    if settings.agent_python is not None:
        return settings.agent_python
    beside = Path(sys.prefix).parent / ".venvs" / "agent" / "bin" / "python"
    return beside if beside.exists() else None
