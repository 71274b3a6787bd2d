"""What can go wrong while a bundle is built."""

from __future__ import annotations

from typing import ClassVar

from agent.errors import ConfigurationError, InfrastructureError


class BundleToolMissing(ConfigurationError):
    code: ClassVar[str] = "bundle_tool_missing"


class PackagesUnavailable(InfrastructureError):
    """A package client could not fetch what a bundle is made of."""

    code: ClassVar[str] = "packages_unavailable"


class BundleRefused(ConfigurationError):
    """What was asked for cannot be built."""

    code: ClassVar[str] = "bundle_refused"
