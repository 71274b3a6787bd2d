"""The report is gathered from the store alone, and metrics can be made anew from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlmodel import col, update

from agent.errors import FolderUnwritable
from orchestrator.domain.states import Emulation
from orchestrator.service import reports
from orchestrator.service.recompute import recompute
from orchestrator.store.database import session
from orchestrator.store.tables import MetricRow
from tests.unit.service.lab import Cell, Lab, predictions


@pytest.fixture
def measured(lab: Lab) -> Lab:
    lab.add_experiment("exp1", [Cell("fp32", predictions([0])), Cell("w8a8", predictions([1, 2, 3]))])
    return lab


def test_the_report_gets_a_distribution_per_latency_job_and_a_comparison_per_variant(measured: Lab) -> None:
    gathered = reports.gather(measured.context, "exp1")
    assert {item.job_id for item in gathered.extras.latencies} == {"exp1-002", "exp1-003", "exp1-005", "exp1-006"}
    assert [(item.job_id, item.reference_job_id) for item in gathered.extras.comparisons] == [("exp1-004", "exp1-001")]
    assert gathered.extras.command == "edgematrix run digits.yaml"
    assert gathered.extras.spec_text == "format: 1\n"


def test_no_time_of_an_emulated_cpu_reaches_the_report(lab: Lab) -> None:
    lab.add_device("qemu", Emulation.CPU)
    lab.add_experiment("exp1", [Cell("fp32", predictions(), device="qemu")])
    assert reports.gather(lab.context, "exp1").extras.latencies == ()


def test_the_report_is_written_whole_and_its_place_returned(measured: Lab, tmp_path: Path) -> None:
    written = reports.write_report(measured.context, "exp1", tmp_path / "r.html")
    page = written.read_text()
    assert page.rstrip().endswith("</html>")
    assert "w8a8" in page
    with pytest.raises(FolderUnwritable):
        reports.write_report(measured.context, "exp1", tmp_path / "absent" / "r.html")


def test_recomputing_changes_nothing_while_the_analysis_is_the_same(measured: Lab) -> None:
    result = recompute(measured.context, "exp1")
    assert result.job_count == 6
    assert result.changes == ()


def test_recomputing_mends_a_metric_and_names_the_change(measured: Lab) -> None:
    with session(measured.context.engine) as opened:
        opened.execute(
            update(MetricRow).where(col(MetricRow.job_id) == "exp1-004", col(MetricRow.name) == "accuracy.top1").values(value=0.5)
        )
    changes = recompute(measured.context, "exp1").changes
    assert [(change.job_id, change.metric, change.old, change.new) for change in changes] == [("exp1-004", "accuracy.top1", 0.5, 197 / 200)]
    assert recompute(measured.context, "exp1").changes == ()
