"""What other programs may rely on when they read exported results."""

from __future__ import annotations

import io
import json
import os
import resource
from pathlib import Path

import jsonschema
import pandas as pd
import pyarrow.parquet as pq
import pytest

from agent.errors import DiskFull, FolderUnwritable
from orchestrator.domain.states import JobOutcome, Scenario
from orchestrator.service import export
from tests.unit.report.builders import BENCH_A, VARIANTS, envelope
from tests.unit.service.lab import Cell, Lab, predictions


@pytest.fixture
def measured(lab: Lab) -> Lab:
    error = {"class": "job", "code": "model_rejected", "message": 'broken, "quoted"\nfile', "remedy": "mend it"}
    lab.add_experiment(
        "exp1",
        [
            Cell("fp32", predictions()),
            Cell("w8a8", predictions([1, 2, 3])),
            Cell("bad", predictions(), outcome=JobOutcome.ERROR, error=error),
        ],
    )
    return lab


def test_json_holds_every_job_and_fits_the_schema_that_export_prints(measured: Lab) -> None:
    content, job_count = export.export(measured.context, "exp1", "json")
    document = json.loads(content)
    assert job_count == len(document["results"]) == 9
    jsonschema.Draft202012Validator(export.schema()).validate(document)
    assert {item["variant"]["name"] for item in document["results"]} == {"fp32", "w8a8", "bad"}


def test_the_schema_refuses_a_result_with_an_unknown_field(measured: Lab) -> None:
    document = json.loads(export.export(measured.context, "exp1", "json")[0])
    document["results"][0]["surprise"] = 1
    assert not jsonschema.Draft202012Validator(export.schema()).is_valid(document)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_pandas_reads_the_flat_formats_back_with_one_row_per_job(measured: Lab, kind: str) -> None:
    content, job_count = export.export(measured.context, "exp1", kind)
    frame = pd.read_csv(io.BytesIO(content)) if kind == "csv" else pd.read_parquet(io.BytesIO(content))
    assert len(frame) == job_count
    accuracy = "accuracy.top1 [fraction]" if kind == "csv" else "accuracy.top1"
    assert frame.loc[(frame.variant == "w8a8") & (frame.scenario == "accuracy"), accuracy].tolist() == [197 / 200]
    broken = frame[frame.variant == "bad"]
    assert set(broken.error_message) == {'broken, "quoted"\nfile'}
    assert broken[accuracy].isna().all()


def test_units_stand_in_the_csv_header_and_in_the_parquet_schema(measured: Lab) -> None:
    header = export.export(measured.context, "exp1", "csv")[0].splitlines()[0].decode()
    assert "latency_ms.p50 [ms]" in header
    schema = pq.read_schema(io.BytesIO(export.export(measured.context, "exp1", "parquet")[0]))
    assert schema.field("latency_ms.p50").metadata == {b"unit": b"ms"}
    assert schema.metadata[b"edgematrix.result_format"] == b"1"


def test_csv_keeps_every_digit_of_a_number(measured: Lab) -> None:
    envelopes = json.loads(export.export(measured.context, "exp1", "json")[0])["results"]
    wanted = {item["job"]["id"]: {m["name"]: m["value"] for m in item["metrics"]}.get("latency_ms.mean") for item in envelopes}
    frame = pd.read_csv(io.BytesIO(export.export(measured.context, "exp1", "csv")[0]))
    found = dict(zip(frame.job_id, frame["latency_ms.mean [ms]"], strict=True))
    assert {job: value for job, value in found.items() if value == value} == {
        job: value for job, value in wanted.items() if value is not None
    }


def test_a_table_tells_who_ran_the_nodes_beside_who_was_asked() -> None:
    placements = (
        {"asked": "xnnpack", "node_counts": {"XNNPACK": 4, "builtin": 9}, "fallback_count": 9},
        {"asked": "default", "node_counts": {"XNNPACK": 13}, "fallback_count": None},
        {"asked": "xnnpack", "node_counts": {}, "cause": "it took too long"},
    )
    envelopes = []
    for placement in placements:
        measured = envelope(VARIANTS[0], BENCH_A, Scenario.LATENCY, 0)
        assert measured.attempt is not None
        attempt = measured.attempt.model_copy(update={"runner": {"placement": placement}})
        envelopes.append(measured.model_copy(update={"attempt": attempt}))
    frame = pd.read_parquet(io.BytesIO(export.encode(envelopes, "parquet")))
    assert frame.nodes.tolist()[:2] == ["builtin 9; XNNPACK 4", "XNNPACK 13"]
    assert frame.nodes.isna().tolist() == [False, False, True]
    assert frame.nodes_elsewhere.tolist()[0] == 9
    assert frame.nodes_elsewhere.isna().tolist() == [False, True, True]


def test_an_experiment_without_results_exports_as_an_empty_table() -> None:
    assert json.loads(export.encode([], "json")) == {"format": 1, "results": []}
    assert len(pd.read_csv(io.BytesIO(export.encode([], "csv")))) == 0
    assert len(pd.read_parquet(io.BytesIO(export.encode([], "parquet")))) == 0


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "results.json"
    target.write_text("old")
    with pytest.raises(FolderUnwritable, match="cannot write"):
        export.write_atomically(tmp_path / "absent" / "results.json", b"new")
    target.unlink()
    target.mkdir()
    with pytest.raises(FolderUnwritable):
        export.write_atomically(target, b"new")
    assert os.listdir(tmp_path) == ["results.json"]


def test_a_full_disk_is_called_a_full_disk_and_leaves_nothing_behind(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(DiskFull, match="no room"):
            export.write_atomically(tmp_path / "results.json", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []
