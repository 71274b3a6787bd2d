"""Where the nodes of a model ran, in a reader's words: what was asked for, who ran them, and what runs elsewhere.

The record comes from a device: every value is checked, cleaned and bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.results import ResultEnvelope
from orchestrator.report.words import clean, counted, listed, whole

_MAX_PROVIDERS = 8


@dataclass(frozen=True)
class NodePlacement:
    """Nodes per provider, most first; empty when unknown, and then ``cause`` says why.

    ``elsewhere_count`` are the nodes that run elsewhere than asked; None when nothing in particular was asked for, or when it is unknown.
    ``operators`` counts the operators of the first of them.
    """

    asked: str
    node_counts: dict[str, int]
    elsewhere_count: int | None
    operators: dict[str, int]
    cause: str

    @property
    def total(self) -> int:
        return sum(self.node_counts.values())

    @property
    def fallback_text(self) -> str:
        """``asked for xnnpack: 12 of 31 nodes run elsewhere (10 CONV_2D and 2 SOFTMAX)``; empty when none does."""
        if not self.elsewhere_count:
            return ""
        operators = listed([f"{whole(count)} {name}" for name, count in self.operators.items()], 4)
        return f"asked for {self.asked}: {whole(self.elsewhere_count)} of {counted(self.total, 'node')} run elsewhere" + (
            f" ({operators})" if operators else ""
        )

    @property
    def text(self) -> str:
        """``asked for xnnpack: 19 nodes XNNPACK, 12 builtin``, or why it is unknown."""
        if not self.node_counts:
            return f"asked for {self.asked}: unknown" + (f", {self.cause}" if self.cause else "")
        parts = [f"{whole(count)} {name}" for name, count in self.node_counts.items()]
        return f"asked for {self.asked}: {counted(self.total, 'node')}, {listed(parts, _MAX_PROVIDERS)}"


def node_placement(result: ResultEnvelope) -> NodePlacement | None:
    """Return where the nodes of a measured model ran; None when its attempt tells nothing of it."""
    record = result.attempt.runner.get("placement") if result.attempt else None
    if not isinstance(record, Mapping):
        return None
    counts = record.get("node_counts")
    found = (
        {clean(name, 60): value for name, value in counts.items() if isinstance(value, int) and value > 0}
        if isinstance(counts, Mapping)
        else {}
    )
    elsewhere = record.get("fallback_count")
    return NodePlacement(
        asked=clean(record.get("asked") or "default", 60),
        node_counts=dict(Counter(found).most_common(_MAX_PROVIDERS)),
        elsewhere_count=elsewhere if isinstance(elsewhere, int) and found else None,
        operators=_operators(record.get("fallback")),
        cause=clean(record.get("cause") or "", 300),
    )


def worst_placement(results: Iterable[ResultEnvelope]) -> NodePlacement | None:
    """Return the placement of the job with the most nodes elsewhere than asked; None when no job tells anything."""
    found = [placed for result in results if (placed := node_placement(result)) is not None]
    return max(found, key=lambda placed: placed.elsewhere_count or 0, default=None)


def _operators(nodes: Any) -> dict[str, int]:
    if not isinstance(nodes, list):
        return {}
    names = [node.get("operator") for node in nodes if isinstance(node, Mapping)]
    return dict(Counter(clean(name, 60) for name in names if isinstance(name, str) and name).most_common())
