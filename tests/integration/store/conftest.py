"""One experiment of one model, as dispatch would write it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlmodel import Session

from orchestrator.domain.plan import Plan
from orchestrator.store import tables

SHA = "ab" * 32


def make_plan() -> Plan:
    def variant(name: str, precision: str) -> dict[str, Any]:
        info = {
            "model": "digits-cnn",
            "name": name,
            "reference": name == "fp32",
            "runtime": "onnx",
            "precision": precision,
            "quantization": "none" if precision == "fp32" else "static QDQ",
            "file": f"digits/{name}.onnx",
            "sha256": SHA,
            "size_bytes": 1234,
        }
        return {"info": info}

    dataset = {
        "info": {"file": "digits.npz", "sha256": SHA, "sample_count": 300, "class_count": 10},
        "inputs": {"sha256": SHA, "size_bytes": 19200, "sample_count": 300, "sample_shape": [8, 8, 1], "dtype": "float32"},
        "answers_sha256": SHA,
    }
    model = {
        "name": "digits-cnn",
        "reference": "fp32",
        "task": {"kind": "classification"},
        "dataset": dataset,
        "variants": {"fp32": variant("fp32", "fp32"), "w8a8": variant("w8a8", "w8a8")},
    }
    return Plan.model_validate({"models": {"digits-cnn": model}, "scenarios": {"accuracy": {}, "latency": {"repeats": 2}}})


class Rows:
    """Adds rows; what a test does not name has a plausible value."""

    @staticmethod
    def device(session: Session, name: str = "bench-1") -> int:
        added = tables.Device(
            name=name,
            profile="linux-x86_64",
            gateway="here",
            transport="local",
            address={},
            root="/var/lib/edgematrix",
            labels={"room": "a"},
            facts={},
            added_at=1_000.0,
        )
        session.add(added)
        session.flush()
        assert added.id is not None
        return added.id

    @staticmethod
    def experiment(session: Session, identifier: str = "e1", submitted_at: float = 1_700_000_000.25) -> None:
        session.add(
            tables.Experiment(
                id=identifier,
                name="digits",
                spec_file="digits.yaml",
                spec_text="format: 1",
                spec_sha256=SHA,
                plan=make_plan().model_dump(mode="json"),
                submitted_at=submitted_at,
                submitted_by="ada",
                edgematrix_version="0.1.0",
                agent_sha256="cd" * 32,
            )
        )
        session.flush()

    @staticmethod
    def job(session: Session, identifier: str, experiment_id: str = "e1", **fields: Any) -> None:
        values: dict[str, Any] = {
            "job_key": identifier,
            "model": "digits-cnn",
            "variant": "w8a8",
            "environment": "default",
            "num_threads": 1,
            "provider": "default",
            "scenario": "latency",
            "repeat": 0,
            "device_query": "all",
            "state": "submitted",
            "submitted_at": 1_700_000_000.25,
        }
        session.add(tables.Job(id=identifier, experiment_id=experiment_id, **{**values, **fields}))
        session.flush()


@pytest.fixture
def rows() -> type[Rows]:
    return Rows
