"""What keeps a lab from standing."""

from __future__ import annotations

from typing import ClassVar

from agent.errors import ConfigurationError, InfrastructureError


class LabImpossible(ConfigurationError):
    """This machine cannot hold a lab."""

    code: ClassVar[str] = "lab_impossible"


class LabBroken(InfrastructureError):
    """Something of the lab did not come up, or did not go away."""

    code: ClassVar[str] = "lab_broken"


class LabBusy(InfrastructureError):
    """Somebody else changes the labs of this machine."""

    code: ClassVar[str] = "lab_busy"
