"""Results for other programs: JSON with everything, CSV and Parquet with one row per job.

A column is named like its metric. Units stand in the CSV header (``init_ms [ms]``) and in the metadata of the Parquet field
(``unit``), whose schema also carries the format number. What could not be computed is an empty cell; its cause is in the JSON.
"""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agent import errors
from orchestrator.domain.results import RESULT_FORMAT, ResultEnvelope
from orchestrator.report.node_placement import node_placement
from orchestrator.service.context import Context
from orchestrator.store.database import read_session
from orchestrator.store.results import load_envelopes

#: The columns before the metrics, in this order, with their Arrow types.
_FACTS: dict[str, pa.DataType] = {
    "experiment_id": pa.string(),
    "experiment": pa.string(),
    "submitted_utc": pa.string(),
    "job_id": pa.string(),
    "job_key": pa.string(),
    "model": pa.string(),
    "variant": pa.string(),
    "reference": pa.bool_(),
    "runtime": pa.string(),
    "precision": pa.string(),
    "quantization": pa.string(),
    "model_sha256": pa.string(),
    "dataset_sha256": pa.string(),
    "device": pa.string(),
    "profile": pa.string(),
    "emulated": pa.string(),
    "environment": pa.string(),
    "num_threads": pa.int64(),
    "provider": pa.string(),
    "nodes": pa.string(),
    "nodes_elsewhere": pa.int64(),
    "graph_optimization": pa.string(),
    "scenario": pa.string(),
    "task": pa.string(),
    "repeat": pa.int64(),
    "state": pa.string(),
    "outcome": pa.string(),
    "error_class": pa.string(),
    "error_code": pa.string(),
    "error_message": pa.string(),
    "validity": pa.string(),
    "validity_reasons": pa.string(),
    "attempts": pa.int64(),
    "started_utc": pa.string(),
    "duration_secs": pa.float64(),
    "conditions_key": pa.string(),
    "analysis_version": pa.int64(),
}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the JSON export: a document with its format number and a list of ``ResultEnvelope``."""
    envelope = ResultEnvelope.model_json_schema(mode="serialization", ref_template="#/$defs/{model}")
    definitions = envelope.pop("$defs", {})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgematrix results",
        "type": "object",
        "additionalProperties": False,
        "required": ["format", "results"],
        "properties": {
            "format": {"const": RESULT_FORMAT, "description": "The number of this format; another number may mean other fields."},
            "results": {"type": "array", "items": {"$ref": "#/$defs/ResultEnvelope"}},
        },
        "$defs": {**definitions, "ResultEnvelope": envelope},
    }


def export(context: Context, experiment_id: str, kind: str) -> tuple[bytes, int]:
    """Return the results of an experiment as ``json``, ``csv`` or ``parquet``, and how many jobs they are of."""
    with read_session(context.engine) as opened:
        envelopes = load_envelopes(opened, experiment_id=experiment_id)
    return encode(envelopes, kind), len(envelopes)


def encode(envelopes: Sequence[ResultEnvelope], kind: str) -> bytes:
    """Encode envelopes as ``json``, ``csv`` or ``parquet``; raises KeyError for another kind."""
    return {"json": _json, "csv": _csv, "parquet": _parquet}[kind](envelopes)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all.

    Raises :class:`agent.errors.DiskFull` or :class:`agent.errors.FolderUnwritable`; what stood at ``path`` is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> errors.EdgematrixError:
    """Return what a failed write to ``path`` means to the user."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return errors.DiskFull(f"no room to write {path}", "free some space, or name another place")
    return errors.FolderUnwritable(
        f"cannot write {path}: {error.strerror or error}", "name a file in a folder that exists and that you can write"
    )


# --- below ---------------------------------------------------------------------------------------------------


def _json(envelopes: Sequence[ResultEnvelope]) -> bytes:
    document = {"format": RESULT_FORMAT, "results": [envelope.model_dump(mode="json") for envelope in envelopes]}
    return json.dumps(document, indent=1, allow_nan=False).encode() + b"\n"


def _csv(envelopes: Sequence[ResultEnvelope]) -> bytes:
    units = _metric_units(envelopes)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FACTS, *(f"{name} [{unit}]" if unit else name for name, unit in units.items())])
    for envelope in envelopes:
        row = {**_facts(envelope), **_metrics(envelope)}
        writer.writerow([_cell(row.get(name)) for name in (*_FACTS, *units)])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return "" if value is None else repr(value) if isinstance(value, float) else value


def _parquet(envelopes: Sequence[ResultEnvelope]) -> bytes:
    units = _metric_units(envelopes)
    fields = [pa.field(name, kind) for name, kind in _FACTS.items()]
    fields += [pa.field(name, pa.float64(), metadata={"unit": unit}) for name, unit in units.items()]
    table_schema = pa.schema(fields, metadata={"edgematrix.result_format": str(RESULT_FORMAT)})
    rows = [{**_facts(envelope), **_metrics(envelope)} for envelope in envelopes]
    columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in fields]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(columns, schema=table_schema), sink, compression="zstd")
    return bytes(sink.getvalue())


def _metric_units(envelopes: Sequence[ResultEnvelope]) -> dict[str, str]:
    """Every metric column and its unit, in the order of first appearance; an interval becomes two more columns."""
    units: dict[str, str] = {}
    for envelope in envelopes:
        for metric in envelope.metrics:
            units.setdefault(metric.name, metric.unit)
            if metric.low is not None:
                units.setdefault(f"{metric.name}.low", metric.unit)
                units.setdefault(f"{metric.name}.high", metric.unit)
    return units


def _metrics(envelope: ResultEnvelope) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for metric in envelope.metrics:
        values[metric.name] = metric.value
        values[f"{metric.name}.low"] = metric.low
        values[f"{metric.name}.high"] = metric.high
    return values


def _facts(envelope: ResultEnvelope) -> dict[str, Any]:
    job, variant, device, attempt, validity = envelope.job, envelope.variant, envelope.device, envelope.attempt, envelope.validity
    placed = node_placement(envelope)
    return {
        "experiment_id": envelope.experiment.id,
        "experiment": envelope.experiment.name,
        "submitted_utc": envelope.experiment.submitted_utc,
        "job_id": job.id,
        "job_key": job.key,
        "model": variant.model,
        "variant": variant.name,
        "reference": variant.reference,
        "runtime": variant.runtime,
        "precision": variant.precision,
        "quantization": variant.quantization,
        "model_sha256": variant.sha256,
        "dataset_sha256": envelope.dataset.sha256,
        "device": device.name if device else None,
        "profile": device.profile if device else None,
        "emulated": device.emulated.value if device else None,
        "environment": job.environment,
        "num_threads": job.settings.num_threads,
        "provider": job.settings.provider,
        "nodes": ("; ".join(f"{name} {count}" for name, count in placed.node_counts.items()) or None) if placed else None,
        "nodes_elsewhere": placed.elsewhere_count if placed else None,
        "graph_optimization": job.settings.graph_optimization,
        "scenario": job.scenario.value,
        "task": job.task.value,
        "repeat": job.repeat,
        "state": job.state.value,
        "outcome": job.outcome.value if job.outcome else None,
        "error_class": job.error.error_class if job.error else None,
        "error_code": job.error.code if job.error else None,
        "error_message": job.error.message if job.error else None,
        "validity": validity.level.value if validity else None,
        "validity_reasons": "; ".join(reason.code for reason in validity.reasons) if validity else None,
        "attempts": job.attempts,
        "started_utc": attempt.started_utc if attempt else None,
        "duration_secs": attempt.duration_secs if attempt else None,
        "conditions_key": attempt.conditions_key if attempt else None,
        "analysis_version": envelope.analysis_version,
    }
