"""``edgematrix thermal`` as a user calls it, over soaks of a simulated board."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.analysis.builders import ORIGIN_NS
from tests.unit.analysis.soaks import Board
from tests.unit.cli.conftest import Edgematrix
from tests.unit.service.soak_lab import HOT, NOW, SoakLab, make_soak_lab


@pytest.fixture
def soaks(home: Path, tmp_path: Path) -> Iterator[SoakLab]:
    made = make_soak_lab(home, tmp_path)
    made.add_device("bench")
    made.conditions = {"start": {"utc_unix_secs": NOW, "monotonic_ns": ORIGIN_NS}}
    yield made
    made.context.engine.dispose()


def one_soak(soaks: SoakLab, board: Board = HOT, **soak: Any) -> str:
    (job,) = soaks.jobs(soaks.submit(soaks.write_spec(**soak)))
    soaks.measure(job, board)
    return job


def test_show_begins_with_the_finding(soaks: SoakLab, edgematrix: Edgematrix) -> None:
    one_soak(soaks)
    ended = edgematrix("thermal", "show")
    assert ended.code == 0, ended.err
    first = next(line for line in ended.out.splitlines() if line.startswith(("Throttled", "Did not")))
    assert first.startswith("Throttled after")
    assert "The numbers did not change" in first
    for part in ("sustained_burst", "Windows of 10.0 s", "How it heats and cools", "ambient 25.0 °C (stated in the spec)"):
        assert part in ended.out


def test_the_table_of_an_experiment_names_what_showed_the_throttling(soaks: SoakLab, edgematrix: Edgematrix) -> None:
    job = one_soak(soaks)
    out = edgematrix("show").out
    assert "(cooling device)" in out
    assert "the numbers did not change" in out
    assert f"next: edgematrix thermal show {job}" in out


def test_show_as_json_is_the_whole_story(soaks: SoakLab, edgematrix: Edgematrix) -> None:
    job = one_soak(soaks, Board())
    document = edgematrix("thermal", "show", job, "--json").document
    assert document["story"]["throttled"] is False
    assert document["story"]["job_id"] == job
    assert [line["complete"] for line in document["attempts"]] == [True]


def test_figures_are_written_as_a_picture_and_a_page(soaks: SoakLab, edgematrix: Edgematrix, tmp_path: Path) -> None:
    job = one_soak(soaks)
    assert edgematrix("thermal", "show", job, "--png", "heat.png", "--html", "heat.html").code == 0
    assert (tmp_path / "heat.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (tmp_path / "heat.html").read_text()


def test_an_incomplete_attempt_is_marked_and_a_missing_one_named(soaks: SoakLab, edgematrix: Edgematrix) -> None:
    (job,) = soaks.jobs(soaks.submit(soaks.write_spec()))
    soaks.lose(job, {"class": "infrastructure", "code": "run_lost", "message": "the run is gone"}, 40.0)
    ended = edgematrix("thermal", "show", job)
    assert "Incomplete:" in ended.out
    assert "attempt 1: lost, INCOMPLETE, its record is kept: the run is gone" in ended.out
    refused = edgematrix("thermal", "show", job, "--attempt", "2")
    assert (refused.code, "no attempt 2" in refused.err) == (2, True)


def test_what_is_no_soak_is_wrong_input(lab: Any, edgematrix: Edgematrix) -> None:
    ended = edgematrix("thermal", "show", "exp1")
    assert ended.code == 2
    assert "has no soak" in ended.err


def test_compare_shows_the_difference_and_what_conditions_differ(soaks: SoakLab, edgematrix: Edgematrix) -> None:
    soaks.add_device("other")
    first, second = soaks.jobs(soaks.submit(soaks.write_spec(devices=("bench", "other"))))
    soaks.measure(first, kernel={"release": "6.1"})
    soaks.measure(second, Board(trip_c=60.0, load_w=4.5), kernel={"release": "6.6"})
    ended = edgematrix("thermal", "compare", first, second)
    assert ended.code == 0, ended.err
    assert "kernel: 6.1 (bench); 6.6 (other)" in ended.out
    assert "Between units of linux-x86_64" in ended.out
    document = edgematrix("thermal", "compare", "last", "--json").document
    (row,) = [item for item in document["quantities"] if item["name"] == "time_to_throttle_secs"]
    early, late = (item["value"] for item in row["values"])
    assert late > early
    assert row["differences"][1]["absolute"] == pytest.approx(late - early)


def test_one_soak_cannot_be_compared(soaks: SoakLab, edgematrix: Edgematrix) -> None:
    one_soak(soaks)
    ended = edgematrix("thermal", "compare", "last")
    assert (ended.code, "means 1 soak;" in ended.err) == (2, True)


@pytest.fixture
def recipe(soaks: SoakLab, edgematrix: Edgematrix, tmp_path: Path) -> Path:
    one_soak(soaks)
    path = tmp_path / "recipe.yaml"
    path.write_text(edgematrix("thermal", "recipe", "last").out)
    return path


def repeats(soaks: SoakLab, board: Board = HOT, count: int = 5, **soak: Any) -> str:
    experiment = soaks.submit(soaks.write_spec(repeats=count, **soak))
    soaks.measure_all(experiment, board)
    return experiment


def test_repeats_on_the_same_board_reproduce_it(soaks: SoakLab, edgematrix: Edgematrix, recipe: Path) -> None:
    ended = edgematrix("thermal", "reproduce", str(recipe), "--from", repeats(soaks))
    assert ended.code == 0, ended.out + ended.err
    assert "bench (linux-x86_64), 5 repeats: reproduced" in ended.out


def test_another_ambient_is_not_reproduced_named_as_the_reason_and_held_against_the_prediction(
    soaks: SoakLab, edgematrix: Edgematrix, recipe: Path
) -> None:
    experiment = repeats(soaks, Board(trip_c=60.0, ambient_c=15.0), ambient={"stated_c": 15})
    ended = edgematrix("thermal", "reproduce", str(recipe), "--from", experiment, "--json")
    assert ended.code == 5
    (device,) = ended.document["devices"]
    assert any("ambient" in reason for reason in device["reproduction"]["reasons"])
    assert device["reproduction"]["predictions"]


def test_two_repeats_cannot_tell(soaks: SoakLab, edgematrix: Edgematrix, recipe: Path) -> None:
    ended = edgematrix("thermal", "reproduce", str(recipe), "--from", repeats(soaks, count=2))
    assert ended.code == 6
    assert "undetermined" in ended.out


def test_a_repeat_that_was_not_measured_is_told_and_costs_the_exit_code(soaks: SoakLab, edgematrix: Edgematrix, recipe: Path) -> None:
    experiment = soaks.submit(soaks.write_spec(repeats=4))
    jobs = soaks.jobs(experiment)
    for seed, job in enumerate(jobs[:3]):
        soaks.measure(job, HOT, seed)
    soaks.lose(jobs[3], {"class": "infrastructure", "code": "run_lost", "message": "the run is gone"}, 40.0)
    ended = edgematrix("thermal", "reproduce", str(recipe), "--from", experiment)
    assert ended.code == 1
    assert f"not measured: {jobs[3]} error: the run is gone" in ended.out


def test_soaks_by_another_protocol_are_not_judged(soaks: SoakLab, edgematrix: Edgematrix, recipe: Path) -> None:
    ended = edgematrix("thermal", "reproduce", str(recipe), "--from", repeats(soaks, count=3, duration_secs=90))
    assert ended.code == 2
    assert "followed another protocol" in ended.err


def test_a_device_that_is_not_there_is_refused_before_anything_runs(soaks: SoakLab, edgematrix: Edgematrix, recipe: Path) -> None:
    ended = edgematrix("thermal", "reproduce", str(recipe), "--device", "bensch")
    assert ended.code == 2
    assert "bensch" in ended.err
    assert len(edgematrix("list", "--json").document) == 1


def test_a_mistake_in_a_recipe_is_named_by_its_line(soaks: SoakLab, edgematrix: Edgematrix, recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("throttled:", "trottled:", 1))
    ended = edgematrix("thermal", "reproduce", str(recipe))
    assert ended.code == 2
    assert "recipe.yaml:" in ended.err
    assert "did you mean 'throttled'" in ended.err


def test_a_meter_is_laid_beside_a_soak(soaks: SoakLab, edgematrix: Edgematrix, tmp_path: Path) -> None:
    job = one_soak(soaks)
    time = np.arange(-5, 300, 0.1)
    rows = "".join(f"{NOW + at:.3f};{4500 if 13 <= at < 133 else 1500}\n" for at in time)
    (tmp_path / "meter.csv").write_text("t;P\n" + rows)
    ended = edgematrix(
        *("thermal", "power", job, "meter.csv", "--time", "t", "--power", "P", "--power-unit", "mW", "--delimiter", ";"),
    )
    assert ended.code == 0, ended.err
    assert "energy_gross_mj" in ended.out
    assert "by times of day" in ended.err
    assert "power: meter.csv, column P [mW]" in edgematrix("thermal", "show", job).out
    refused = edgematrix("thermal", "power", job, "meter.csv", "--time", "t", "--power", "P", "--delimiter", ";", "--align", "marker")
    assert (refused.code, "no marker load" in refused.err) == (2, True)
