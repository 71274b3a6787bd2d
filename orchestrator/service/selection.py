"""Which jobs a user means: a job, an experiment, or a part of one such as ``last:onnx-fp32`` or ``last:onnx-u8s8,device=pi4``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.errors import ConfigurationError
from orchestrator.domain.results import ResultEnvelope
from orchestrator.service import experiments
from orchestrator.service.context import Context
from orchestrator.store.database import read_session
from orchestrator.store.results import load_envelopes

#: What tells one cell of the matrix from another.
AXES = ("model", "variant", "device", "environment", "num_threads", "provider", "graph_optimization")


class SelectionInvalid(ConfigurationError):
    code = "selection_invalid"


@dataclass(frozen=True)
class Selection:
    """The jobs chosen, and the axes that the user pinned to one value by naming it."""

    text: str
    envelopes: tuple[ResultEnvelope, ...]
    pinned: frozenset[str]


def select(context: Context, text: str) -> Selection:
    """Read a selection: a job's id, or ``EXPERIMENT[:TERM,TERM…]`` with terms ``VARIANT``, ``MODEL/VARIANT`` or ``AXIS=VALUE``.

    Raises :class:`SelectionInvalid` for a term that cannot be read or that matches nothing, and names what there is.
    """
    with read_session(context.engine) as opened:
        job = load_envelopes(opened, job_ids=[text])
    if job:
        return Selection(text, tuple(job), frozenset(AXES))
    name, _, tail = text.partition(":")
    experiment_id = experiments.find_experiment(context, name)
    with read_session(context.engine) as opened:
        envelopes = load_envelopes(opened, experiment_id=experiment_id)
    return narrow(text, envelopes, [term.strip() for term in tail.split(",") if term.strip()])


def narrow(text: str, envelopes: Sequence[ResultEnvelope], terms: Iterable[str]) -> Selection:
    """Keep the jobs that meet every term."""
    chosen, pinned = list(envelopes), set()
    for term in terms:
        for axis, value in _wanted(term, chosen).items():
            known = sorted({axis_value(item, axis) for item in chosen})
            if value not in known:
                raise SelectionInvalid(f"{text}: no {axis} {value!r} among these jobs", f"there is: {', '.join(known)}")
            chosen = [item for item in chosen if axis_value(item, axis) == value]
            pinned.add(axis)
    return Selection(text, tuple(chosen), frozenset(pinned))


def axis_value(envelope: ResultEnvelope, axis: str) -> str:
    """Return where a job lies on one of AXES, as text; a device or level that a job does not have is ``none``."""
    if axis in ("model", "variant"):
        return envelope.variant.model if axis == "model" else envelope.variant.name
    if axis == "device":
        return envelope.device.name if envelope.device else "none"
    if axis == "environment":
        return envelope.job.environment
    value = getattr(envelope.job.settings, axis)
    return "none" if value is None else str(value)


def _wanted(term: str, envelopes: Sequence[ResultEnvelope]) -> dict[str, str]:
    axis, separator, value = term.partition("=")
    if separator:
        if axis not in AXES:
            raise SelectionInvalid(f"{term!r}: there is no axis {axis!r}", f"the axes are {', '.join(AXES)}")
        return {axis: value}
    if "/" in term and term not in {item.variant.name for item in envelopes}:
        model, _, variant = term.partition("/")
        return {"model": model, "variant": variant}
    return {"variant": term}
