"""Bundles: a Python with its runtimes and every library it needs, down to the loader, for devices that have nothing installed."""

from orchestrator.bundles.build import BuiltBundle, SeedFile, alone_in, build
from orchestrator.bundles.recipe import ARCHITECTURES, RUNTIMES

__all__ = ["ARCHITECTURES", "RUNTIMES", "BuiltBundle", "SeedFile", "alone_in", "build"]
