"""What reading commands print: a table for people, one JSON document for programs, and nothing else on standard output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.domain.states import Emulation, JobOutcome
from tests.unit.cli.conftest import Edgematrix
from tests.unit.service.lab import Cell, Lab, predictions


def test_list_of_nothing_says_how_to_begin(edgematrix: Edgematrix) -> None:
    ended = edgematrix("list")
    assert (ended.code, ended.out) == (0, "")
    assert "edgematrix run" in ended.err
    assert edgematrix("list", "--json").document == []


def test_list_shows_where_experiments_stand(edgematrix: Edgematrix, lab: Lab) -> None:
    assert "exp1" in edgematrix("list").out
    listed = edgematrix("list", "--json").document
    assert [(item["id"], item["state"], item["job_count"]) for item in listed] == [("exp1", "finished", 6)]


def test_show_prints_accuracy_flips_latency_validity_and_notes(edgematrix: Edgematrix, lab: Lab) -> None:
    shown = edgematrix("show").out
    row = next(line for line in shown.splitlines() if line.strip().startswith("w8a8"))
    assert "98.5 [" in row
    assert "3 / 1" in row
    assert "1.05 (1.00–1.10)" in row
    assert "valid" in row
    assert "w8a8: holds int8 weights" in shown


def test_show_as_json_is_the_same_table(edgematrix: Edgematrix, lab: Lab) -> None:
    document = edgematrix("show", "last", "--json").document
    row = next(row for row in document["rows"] if row["variant"] == "w8a8")
    assert row["accuracy"]["value"] == pytest.approx(0.985)
    assert row["against_reference"]["flips_to_wrong"] == 3
    assert row["p50_ms"]["repeats"] == 2


def test_show_of_a_job_prints_its_metrics_with_units(edgematrix: Edgematrix, lab: Lab) -> None:
    shown = edgematrix("show", "exp1-002").out
    assert "latency_ms.p50" in shown
    assert "exp1-002" in shown
    assert edgematrix("show", "exp1-002", "--json").document["job"]["id"] == "exp1-002"


def test_errors_and_their_remedies_stand_below_the_table(edgematrix: Edgematrix, lab: Lab) -> None:
    error = {"class": "job", "code": "runtime_crashed", "message": "died of SIGSEGV", "remedy": "take another version of the runtime"}
    lab.add_experiment("exp2", [Cell("fp32", predictions()), Cell("w8a8", predictions(), outcome=JobOutcome.ERROR, error=error)])
    ended = edgematrix("show", "exp2")
    assert ended.code == 0
    assert "died of SIGSEGV" in ended.out
    assert "take another version of the runtime" in ended.out


def test_an_emulated_device_is_impossible_to_miss_and_shows_no_time(edgematrix: Edgematrix, lab: Lab) -> None:
    lab.add_device("qemu", Emulation.CPU)
    lab.add_experiment("exp2", [Cell("fp32", predictions(), device="qemu", latencies_ms=(123.456, 123.456))])
    shown = edgematrix("show", "exp2").out
    assert "EMULATED: qemu" in shown
    assert "123" not in shown.replace("exp2", "")


def test_several_environments_get_a_row_each_and_a_table_of_agreement(edgematrix: Edgematrix, lab: Lab) -> None:
    lab.add_experiment("exp2", [Cell("fp32", predictions()), Cell("fp32", predictions([7, 8]), environment="litert", salt=3)])
    shown = edgematrix("show", "exp2").out
    assert shown.count("\n fp32") == 3
    assert "bit-exact %" in shown
    row = shown.split("bit-exact %")[1]
    assert "99.0" in row
    assert "2 / 0" in row


def test_a_collapse_on_one_device_stands_at_the_end_where_a_terminal_shows_it(edgematrix: Edgematrix, lab: Lab) -> None:
    lab.add_device("bad-cpu")
    wrong = list(range(180))
    cells = [Cell("fp32", predictions(), device=name) for name in ("bench", "bad-cpu")]
    lab.add_experiment("exp2", [*cells, Cell("w8a8", predictions(), salt=1), Cell("w8a8", predictions(wrong), device="bad-cpu", salt=2)])
    shown = edgematrix("show", "exp2").out
    told = shown.split("\nFindings\n")[1]
    assert told.startswith("!!! w8a8 collapses on bad-cpu")
    assert "180 went from right to wrong" in told
    assert "The same file gives 100.0 % on bench" in " ".join(told.split())
    found = edgematrix("show", "exp2", "--json").document["findings"]
    assert [finding["level"] for finding in found] == ["red"]


def test_an_experiment_without_findings_says_nothing_of_them(edgematrix: Edgematrix, lab: Lab) -> None:
    lab.add_experiment("exp2", [Cell("fp32", predictions()), Cell("w8a8", predictions())])
    assert "Findings" not in edgematrix("show", "exp2").out


def test_hostile_names_are_printed_as_text(edgematrix: Edgematrix, lab: Lab) -> None:
    lab.add_experiment("exp2", [Cell("fp32", predictions()), Cell("[bold red]x[/bold red]\x1b[2J", predictions())])
    shown = edgematrix("show", "exp2").out
    assert "[bold red]x" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("width", ["40", "80"])
def test_a_narrow_terminal_loses_no_number(edgematrix: Edgematrix, lab: Lab, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)
    shown = edgematrix("show").out
    assert max(len(line) for line in shown.splitlines()) <= int(width)
    assert "98.5" in shown
    assert "3 / 1" in shown
    assert "1.05" in shown


def test_compare_says_what_differs_and_what_cannot_be_known(edgematrix: Edgematrix, lab: Lab) -> None:
    shown = edgematrix("compare", "last:fp32", "last:w8a8").out
    assert "3 / 1" in shown
    assert "undetermined" in shown
    pairs = edgematrix("compare", "last:fp32", "last:w8a8", "--json").document["pairs"]
    assert pairs[0]["accuracy"]["flips_to_wrong"] == 3
    assert pairs[0]["accuracy_verdict"] == "undetermined"


def test_compare_by_variant_needs_one_selection_only(edgematrix: Edgematrix, lab: Lab) -> None:
    assert len(edgematrix("compare", "last", "--by", "variant", "--json").document["pairs"]) == 1


def test_export_writes_a_file_or_standard_output(edgematrix: Edgematrix, lab: Lab, tmp_path: Path) -> None:
    assert len(json.loads(edgematrix("export").out)["results"]) == 6
    ended = edgematrix("export", "exp1", "--format", "parquet", "--output", str(tmp_path / "r.parquet"), "--json")
    assert ended.document["jobs"] == 6
    assert (tmp_path / "r.parquet").read_bytes()[:4] == b"PAR1"
    assert edgematrix("export", "--schema").document["title"] == "edgematrix results"


def test_export_into_a_folder_that_does_not_exist_is_told_and_code_3(edgematrix: Edgematrix, lab: Lab, tmp_path: Path) -> None:
    ended = edgematrix("export", "--output", str(tmp_path / "none" / "r.json"))
    assert ended.code == 3
    assert "cannot write" in ended.err


def test_the_report_is_one_file_and_its_place_is_told(edgematrix: Edgematrix, lab: Lab, tmp_path: Path) -> None:
    ended = edgematrix("report", "--output", "out.html", "--json")
    assert ended.document == {"file": str(tmp_path / "out.html")}
    assert "w8a8" in (tmp_path / "out.html").read_text()


def test_watch_of_a_finished_experiment_prints_its_table_and_says_how_it_ended(edgematrix: Edgematrix, lab: Lab) -> None:
    ended = edgematrix("watch", "exp1")
    assert ended.code == 0
    assert "w8a8" in ended.out
    lab.add_experiment("exp2", [Cell("fp32", predictions(), outcome=JobOutcome.TIMEOUT)])
    assert edgematrix("watch", "exp2").code == 1
    assert edgematrix("watch", "exp2", "--json").document["finished"] is True


def test_resume_of_nothing_says_so(edgematrix: Edgematrix, lab: Lab) -> None:
    ended = edgematrix("resume")
    assert ended.code == 0
    assert "nothing to resume" in ended.err


def test_cancel_of_a_finished_experiment_cancels_nothing(edgematrix: Edgematrix, lab: Lab) -> None:
    assert edgematrix("cancel", "exp1", "--json").document == {"canceled_jobs": 0}


def test_devices_are_listed_and_shown(edgematrix: Edgematrix, lab: Lab) -> None:
    assert "bench" in edgematrix("device", "list").out
    assert edgematrix("device", "list", "--json").document[0]["name"] == "bench"
    assert "linux-x86_64" in edgematrix("device", "show", "bench").out
    assert edgematrix("device", "show", "absent").code == 2


def test_profiles_are_listed_with_whether_they_were_tried(edgematrix: Edgematrix) -> None:
    listed = edgematrix("profile", "list", "--json").document
    assert {"linux-x86_64", "linux-arm64"} <= {item["name"] for item in listed}
    assert "linux-x86_64" in edgematrix("profile", "list").out
    assert edgematrix("profile", "show", "linux-arm64").code == 0
    assert edgematrix("profile", "show", "absent").code == 2


def test_environments_of_nothing_say_how_to_add_one(edgematrix: Edgematrix) -> None:
    assert "env add" in edgematrix("env", "list").err
    assert edgematrix("env", "list", "--json").document == []


def test_the_schema_of_specs_is_json(edgematrix: Edgematrix) -> None:
    assert "properties" in edgematrix("spec", "schema").document
