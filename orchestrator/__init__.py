"""The orchestrator of edgematrix: takes a matrix of models and devices, dispatches it, and reports what was measured."""

from agent import __version__

__all__ = ["__version__"]
