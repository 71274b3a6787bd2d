"""A recipe holds everything needed to do a soak again, and says the same wherever it is read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from orchestrator.dispatch import snapshot
from orchestrator.domain.plan import Plan
from orchestrator.domain.recipe import Recipe
from orchestrator.domain.recipe_text import RecipeError, parse_recipe, recipe_text
from orchestrator.domain.spec_text import parse_spec
from orchestrator.domain.states import Scenario
from orchestrator.service import recipe_making, recipes, submission
from orchestrator.service.thermal import load_soak, tell_soak
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.database import read_session
from orchestrator.store.tables import Experiment
from tests.unit.service.soak_lab import SoakLab, make_soak_lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[SoakLab]:
    made = make_soak_lab(tmp_path / "home", tmp_path)
    made.add_device("bench")
    yield made
    made.context.engine.dispose()


def recipe_of(lab: SoakLab, **soak: object) -> Recipe:
    job_id = lab.jobs(lab.submit(lab.write_spec(**soak)))[0]
    lab.measure(job_id)
    loaded = load_soak(lab.context, job_id)
    return recipe_making.make_recipe(lab.context, loaded, tell_soak(loaded))


def plan_of(lab: SoakLab, experiment_id: str) -> Plan:
    with read_session(lab.context.engine) as opened:
        return Plan.model_validate(opened.get_one(Experiment, experiment_id).plan)


def test_a_recipe_reads_back_as_it_was_written(lab: SoakLab) -> None:
    made = recipe_of(lab)
    text = recipe_text(made)
    assert parse_recipe(text, "recipe.yaml") == made
    assert text.startswith("# A soak that can be done again")
    assert "# What a repeat is held against" in text


def test_its_spec_runs_the_same_inputs_and_answers_although_the_data_file_is_another(lab: SoakLab) -> None:
    made = recipe_of(lab)
    with recipes.laid_out(lab.context, made, [], ["bench"], 3, None) as spec:
        repeated = plan_of(lab, submission.submit(lab.context, spec).experiment_id)
    first = plan_of(lab, made.from_job.rpartition("-")[0])
    (old,), (new,) = first.models.values(), repeated.models.values()
    assert new.dataset.inputs == old.dataset.inputs
    assert new.dataset.answers_sha256 == old.dataset.answers_sha256
    assert new.variants["onnx-fp32"].steps == old.variants["onnx-fp32"].steps
    assert repeated.scenarios[Scenario.SOAK].model_copy(update={"repeats": 1, "soak": None}) == first.scenarios[Scenario.SOAK].model_copy(
        update={"soak": None}
    )
    assert repeated.scenarios[Scenario.SOAK].repeats == 3


def test_the_same_data_gives_the_same_file(lab: SoakLab) -> None:
    arrays = {"a": b"1", "b": b"2"}
    assert recipe_making.npz_bytes(arrays) == recipe_making.npz_bytes(dict(arrays))


def test_it_is_followed_where_the_artifacts_are_not_with_the_files_beside_it(lab: SoakLab, tmp_path: Path) -> None:
    made = recipe_of(lab)
    carried = tmp_path / "carried"
    assert {path.name for path in recipes.write_files(lab.context, made, carried)} == {item.file for item in made.files}
    shutil.rmtree(lab.context.settings.home / "artifacts")
    with pytest.raises(recipes.RecipeFileMissing, match="is not here"), recipes.laid_out(lab.context, made, [tmp_path], ["bench"], 1, None):
        pass
    with recipes.laid_out(lab.context, made, [carried], ["bench"], 1, None) as spec:
        snapshot.check(parse_spec(spec.read_text(), "spec"), spec.parent)


def test_a_file_of_the_right_name_and_other_content_is_refused(lab: SoakLab, tmp_path: Path) -> None:
    made = recipe_of(lab)
    carried = tmp_path / "carried"
    recipes.write_files(lab.context, made, carried)
    (carried / made.files[0].file).write_bytes(b"another model")
    shutil.rmtree(lab.context.settings.home / "artifacts")
    with (
        pytest.raises(recipes.RecipeFileMissing, match="is not the file that the recipe names"),
        recipes.laid_out(lab.context, made, [carried], ["bench"], 1, None),
    ):
        pass


def test_a_stated_ambient_also_sets_the_chamber_that_the_recipe_sets(lab: SoakLab) -> None:
    made = recipe_of(lab)
    spec = yaml.safe_load(recipes.repeated_spec(made, ["bench"], 2, 35.0))
    assert spec["scenarios"]["soak"]["ambient"] == {"stated_c": 35.0}
    assert "surroundings" not in spec["scenarios"]["soak"]
    chambered = yaml.safe_load(made.spec)
    chambered["scenarios"]["soak"]["surroundings"] = {"chamber_c": 25.0, "fan": "on"}
    changed = made.model_copy(update={"spec": yaml.safe_dump(chambered)})
    spec = yaml.safe_load(recipes.repeated_spec(changed, ["bench"], 2, 35.0))
    assert spec["scenarios"]["soak"]["surroundings"] == {"chamber_c": 35.0, "fan": "on"}
    chambered["scenarios"]["soak"]["ambient"] = {"sensor": "ambient.air_c"}
    measured = made.model_copy(update={"spec": yaml.safe_dump(chambered)})
    asked = yaml.safe_load(recipes.repeated_spec(measured, ["bench"], 3, 35.0))["scenarios"]["soak"]
    assert (asked["ambient"], asked["surroundings"]["chamber_c"]) == ({"sensor": "ambient.air_c"}, 35.0)


def test_a_recorded_pattern_travels_with_its_times(lab: SoakLab, tmp_path: Path) -> None:
    (tmp_path / "app.csv").write_text("arrival_secs\n0.0\n0.25\n0.5\n")
    made = recipe_of(lab, pattern={"recorded": {"file": "app.csv", "cycle_secs": 1.0}})
    assert "arrivals.csv" in {item.file for item in made.files}
    with recipes.laid_out(lab.context, made, [], ["bench"], 1, None) as spec:
        repeated = plan_of(lab, submission.submit(lab.context, spec).experiment_id)
    soak = repeated.scenarios[Scenario.SOAK].soak
    assert soak is not None
    assert soak.arrivals_secs == (0.0, 0.25, 0.5)


def test_a_soak_without_probes_stays_without(lab: SoakLab) -> None:
    assert parse_recipe(recipe_text(recipe_of(lab, probe=None)), "recipe.yaml").soak.probe is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("duration_secs: 120.0", "duration_secs: 60.0"), "differ in duration_secs"),
        (("file: inputs.npz", "file: ../inputs.npz"), "not a plain file name"),
        (("from_job:", "from_jobs:"), "unknown key 'from_jobs'"),
    ],
)
def test_what_contradicts_itself_in_a_recipe_is_told(lab: SoakLab, change: tuple[str, str], told: str) -> None:
    text = recipe_text(recipe_of(lab)).replace(*change, 1)
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "recipe.yaml")
    assert any(told in item.message for item in caught.value.mistakes), caught.value.mistakes
    assert all(item.line > 1 for item in caught.value.mistakes)


def test_tolerances_are_changed_by_name(lab: SoakLab) -> None:
    made = recipe_of(lab)
    name = made.expectations[0].name
    changed = recipes.with_tolerances(made, [f"{name}=12.5%"]).expectations[0]
    assert (changed.relative, changed.absolute) == (0.125, None)
    changed = recipes.with_tolerances(made, [f"{name}=3"]).expectations[0]
    assert (changed.relative, changed.absolute) == (None, 3.0)
    for wrong in ("nothing=3", f"{name}=wide", name):
        with pytest.raises(recipes.ToleranceInvalid):
            recipes.with_tolerances(made, [wrong])


def test_a_run_that_was_cut_short_gives_no_recipe(lab: SoakLab) -> None:
    job_id = lab.jobs(lab.submit(lab.write_spec()))[0]
    lab.lose(job_id, {"class": "infrastructure", "code": "run_lost", "message": "the run is gone"}, 40.0)
    loaded = load_soak(lab.context, job_id)
    with pytest.raises(recipes.RecipeUnreadable, match="not measured to its end"):
        recipe_making.make_recipe(lab.context, loaded, tell_soak(loaded))


def test_inputs_of_the_rebuilt_file_are_those_that_were_run(lab: SoakLab) -> None:
    made = recipe_of(lab)
    digest = next(item.sha256 for item in made.files if item.file == "inputs.npz")
    with np.load(ArtifactStore(str(lab.context.settings.home / "artifacts")).local_path(digest)) as arrays:
        assert arrays["inputs"].shape[0] == 50
        assert set(arrays) == {"inputs", "labels", "ink"}
