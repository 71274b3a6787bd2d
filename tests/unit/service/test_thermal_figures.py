"""What soaks left reaches the report, whole or cut short, and nothing that must not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.domain.states import Emulation
from orchestrator.service import reports
from orchestrator.service.thermal import NoTrace, load_soak, tell_soak
from orchestrator.service.thermal_figures import panel_of, thermal_panels
from tests.unit.analysis.soaks import Board
from tests.unit.report.test_report_page import Page, own_part
from tests.unit.service.soak_lab import SoakLab, make_soak_lab

LOST = {"class": "infrastructure", "code": "run_lost", "message": "the run is gone", "remedy": "run it again"}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[SoakLab]:
    made = make_soak_lab(tmp_path / "home", tmp_path)
    made.add_device("bench")
    yield made
    made.context.engine.dispose()


def test_a_report_tells_of_every_soak_that_left_anything(lab: SoakLab, tmp_path: Path) -> None:
    experiment = lab.submit(lab.write_spec(repeats=3))
    whole, lost, _waiting = lab.jobs(experiment)
    lab.measure(whole)
    lab.lose(lost, LOST, 70.0)
    panels = reports.gather(lab.context, experiment).extras.soaks
    assert {panel.story.job_id: panel.story.complete for panel in panels} == {whole: True, lost: False}
    text = own_part(reports.write_report(lab.context, experiment, tmp_path / "r.html").read_text(encoding="utf-8"))
    words = Page(text).text
    assert 'id="heat"' in text
    assert 'href="#heat"' in text
    assert "1 cell throttled under sustained load" in words
    assert "onnx-fp32 on bench, repeat 2 (incomplete)" in words
    assert "2 soaks on one axis of time" in words
    assert 'id="accuracy"' not in text
    assert len(text.encode()) < 600_000


def test_the_matrix_and_the_list_of_jobs_give_what_was_left_of_the_speed(lab: SoakLab, tmp_path: Path) -> None:
    experiment = lab.submit(lab.write_spec())
    lab.measure_all(experiment)
    (panel,) = thermal_panels(lab.context, lab.jobs(experiment))
    kept = panel.story.scalar("sustained_burst")
    assert kept is not None
    assert kept.value is not None
    page = Page(own_part(reports.write_report(lab.context, experiment, tmp_path / "r.html").read_text(encoding="utf-8")))
    assert any(f"{kept.value:.2f} throttled after" in cell for cell in page.rows(0)[0])
    jobs = page.rows(len(page.tables) - 1)
    assert [row[3] for row in jobs] == ["soak"]
    assert jobs[0][7].startswith("0.")


def test_an_experiment_without_soaks_has_no_room_for_heat(lab: SoakLab, tmp_path: Path) -> None:
    experiment = lab.submit(lab.write_spec())
    text = own_part(reports.write_report(lab.context, experiment, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert 'id="heat"' not in text


def test_an_emulated_cpu_gives_no_rate_to_any_table_or_figure(lab: SoakLab, tmp_path: Path) -> None:
    lab.add_device("qemu", emulated=Emulation.CPU)
    experiment = lab.submit(lab.write_spec(devices=("qemu",)))
    lab.measure_all(experiment)
    (job,) = lab.jobs(experiment)
    story = tell_soak(load_soak(lab.context, job))
    assert (story.throttled, story.onset, story.fits, story.predictions) == (None, None, (), ())
    (panel,) = reports.gather(lab.context, experiment).extras.soaks
    assert (panel.series.latency, panel.series.windows, panel.series.clocks) == (None, None, ())
    page = Page(own_part(reports.write_report(lab.context, experiment, tmp_path / "r.html").read_text(encoding="utf-8")))
    assert "EMULATED" in page.text
    row = next(row for index in range(len(page.tables)) for row in page.rows(index) if row[0].startswith("onnx-fp32 on qemu"))
    assert row[1:4] == ["–", "–", "–"]
    assert "throttled under sustained load" not in page.text


def test_what_a_device_with_a_fan_shows_is_that_it_did_not_throttle(lab: SoakLab) -> None:
    experiment = lab.submit(lab.write_spec())
    lab.measure_all(experiment, Board(trip_c=200.0))
    (panel,) = thermal_panels(lab.context, lab.jobs(experiment))
    assert panel.story.throttled is False


def test_one_attempt_is_drawn_from_what_was_loaded_for_its_story(lab: SoakLab) -> None:
    (job,) = lab.jobs(lab.submit(lab.write_spec()))
    with pytest.raises(NoTrace):
        thermal_panels(lab.context, [job])
    lab.measure(job)
    run = load_soak(lab.context, job)
    panel = panel_of(run, tell_soak(run))
    assert (panel.device, panel.variant, panel.story.job_id) == ("bench", "onnx-fp32", job)
    assert panel.series.temperatures[0].name == panel.story.control_channel
