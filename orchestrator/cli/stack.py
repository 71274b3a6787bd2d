"""The processes of the embedded default, where this installation is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.cli.watching import Stack
    from orchestrator.worker.settings import Settings


def embedded_stack(settings: Settings) -> Stack | None:
    """Return the stack to keep alive while watching; None in a lab, whose scheduler and workers run on their own."""
    if not settings.embedded:
        return None
    from orchestrator.worker.embedded import EmbeddedStack

    return EmbeddedStack(settings)
