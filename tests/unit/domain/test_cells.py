from __future__ import annotations

import dataclasses

import pytest

from agent.protocol import Settings
from orchestrator.domain.cells import Cell, expand_cells, job_key, request_prefix
from orchestrator.domain.mistakes import SpecError
from orchestrator.domain.plan import PlannedDataset, PlannedInputs, PlannedModel, PlannedTask, PlannedVariant, ScenarioSettings
from orchestrator.domain.results import DatasetInfo, VariantInfo
from orchestrator.domain.spec import ExperimentSpec
from orchestrator.domain.spec_text import parse_spec
from orchestrator.domain.states import Scenario, TaskKind

HEAD = """\
format: 1
name: small
task: {kind: tensor}
dataset: {file: x.npz, inputs: x}
models:
  - name: m
    reference: o
    variants:
      - {name: o, file: o.onnx, runtime: onnx, precision: fp32}
      - {name: t, file: t.tflite, runtime: tflite, precision: w8a8}
"""


def spec_of(rest: str = "") -> ExperimentSpec:
    return parse_spec(HEAD + rest, "spec.yaml")


def of(cells: list[Cell], variant: str) -> list[Cell]:
    return [cell for cell in cells if cell.variant == variant]


def test_every_combination_of_the_axes_is_a_cell() -> None:
    cells = expand_cells(
        spec_of(
            "environments: [a, b]\nsettings: {num_threads: [1, 2, 4], graph_optimization: [all, none]}\n"
            "scenarios: {accuracy: {repeats: 2}}\n"
        )
    )
    assert len(of(cells, "o")) == 2 * 3 * 2 * 2
    assert len(set(cells)) == len(cells)


def test_graph_optimization_does_not_multiply_tflite_cells() -> None:
    cells = of(expand_cells(spec_of("settings: {graph_optimization: [all, none, basic]}\nscenarios: {latency: }\n")), "t")
    assert [cell.settings for cell in cells] == [Settings(1, "default", None)]


def test_a_provider_makes_cells_only_for_the_runtime_that_has_it() -> None:
    cells = expand_cells(spec_of("settings: {provider: [default, xnnpack, cpu, tensorrt, cuda, npu]}\nscenarios: {latency: }\n"))
    assert [cell.settings.provider for cell in of(cells, "o")] == ["default", "cpu", "tensorrt", "cuda", "npu"]
    assert [cell.settings.provider for cell in of(cells, "t")] == ["default", "xnnpack", "npu"]


def test_repeats_of_all_variants_are_interleaved() -> None:
    cells = expand_cells(spec_of("scenarios: {accuracy: , latency: {repeats: 2}}\n"))
    assert [(cell.variant, cell.scenario.value, cell.repeat) for cell in cells] == [
        *(("o", "accuracy", 0), ("o", "latency", 0), ("t", "accuracy", 0), ("t", "latency", 0)),
        *(("o", "latency", 1), ("t", "latency", 1)),
    ]


def test_exclude_removes_what_matches_every_key_and_nothing_else() -> None:
    rest = "environments: [a, b]\nsettings: {num_threads: [1, 4]}\nscenarios: {latency: }\n"
    cells = expand_cells(spec_of(rest))
    kept = expand_cells(spec_of(rest + "exclude: [{variant: t, environment: b, num_threads: [4, 8]}]\n"))
    gone = set(cells) - set(kept)
    assert [(cell.variant, cell.environment, cell.settings.num_threads) for cell in gone] == [("t", "b", 4)]
    assert set(kept) < set(cells)


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        ("model: m", {"onnx", "tflite"}),
        ("model: [m], variant: t", {"tflite"}),
        ("variant: [o]", {"onnx"}),
        ("environment: b", {"b"}),
        ("num_threads: 4", {"4"}),
        ("provider: npu", {"npu"}),
        ("graph_optimization: none", {"none"}),
        ("scenario: latency", {"latency"}),
    ],
)
def test_each_key_of_exclude_takes_out_its_own_cells_alone(rule: str, gone: set[str]) -> None:
    rest = (
        "environments: [a, b]\nsettings: {num_threads: [1, 4], provider: [default, npu], graph_optimization: [all, none]}\n"
        "scenarios: {accuracy: , latency: }\n"
    )
    cells = expand_cells(spec_of(rest))
    kept = set(expand_cells(spec_of(rest + f"exclude: [{{{rule}}}]\n")))

    def words(cell: Cell) -> set[str]:
        settings = cell.settings
        runtime = {"o": "onnx", "t": "tflite"}[cell.variant]
        return {
            cell.environment,
            str(settings.num_threads),
            settings.provider,
            str(settings.graph_optimization),
            cell.scenario.value,
            runtime,
        }

    assert kept == {cell for cell in cells if not words(cell) & gone}
    assert len(kept) < len(cells)


def test_excluding_a_device_keeps_the_cell_for_the_others() -> None:
    cells = expand_cells(spec_of("scenarios: {latency: }\nexclude: [{variant: t, device: [pi-2, pi-1]}, {device: pi-3}]\n"))
    assert of(cells, "t")[0].not_devices == ("pi-1", "pi-2", "pi-3")
    assert of(cells, "o")[0].not_devices == ("pi-3",)


def test_include_adds_a_cell_that_takes_the_first_value_of_each_axis_it_does_not_name() -> None:
    rest = "environments: [a, b]\nsettings: {num_threads: [2, 1], graph_optimization: [none, all]}\nscenarios: {accuracy: }\n"
    before = expand_cells(spec_of(rest))
    after = expand_cells(spec_of(rest + "include: [{variant: o, num_threads: 8, scenario: latency, device: pi-1}]\n"))
    assert after[:-1] == before
    assert after[-1] == Cell("m", "o", "a", Settings(8, "default", "none"), Scenario.LATENCY, 0, "pi-1")


def test_an_included_scenario_is_planned_with_its_defaults() -> None:
    spec = spec_of("scenarios: {accuracy: {repeats: 2}}\ninclude: [{variant: o, scenario: latency}]\n")
    assert spec.scenario_settings() == {Scenario.LATENCY: ScenarioSettings(), Scenario.ACCURACY: ScenarioSettings(repeats=2)}


def test_include_brings_back_what_exclude_took_and_doubles_nothing() -> None:
    plain = expand_cells(spec_of("scenarios: {latency: }\n"))
    again = expand_cells(spec_of("scenarios: {latency: }\nexclude: [{variant: t}]\ninclude: [{variant: t}, {variant: o}]\n"))
    assert again == plain
    for_all = expand_cells(spec_of("scenarios: {latency: }\nexclude: [{variant: t, device: pi-1}]\ninclude: [{variant: t}]\n"))
    assert for_all == plain


def test_a_matrix_without_end_is_refused_before_it_is_built() -> None:
    with pytest.raises(SpecError, match="more than 1000000 cells"):
        expand_cells(spec_of("scenarios: {latency: {repeats: 2000000000}}\n"))


def planned(**changes: str) -> PlannedModel:
    values = {"sha256": "a" * 64, "inputs": "b" * 64, "answers": "c" * 64, "scores": "logits", "step": "quantize", **changes}
    info = VariantInfo(
        model="m",
        name="o",
        reference=True,
        runtime="onnx",
        precision="fp32",
        quantization="none",
        file="o.onnx",
        sha256=values["sha256"],
        size_bytes=1,
    )
    return PlannedModel(
        name="m",
        reference="o",
        task=PlannedTask(kind=TaskKind.CLASSIFICATION, scores=values["scores"]),
        dataset=PlannedDataset(
            info=DatasetInfo(file="x.npz", sha256="d" * 64, sample_count=1),
            inputs=PlannedInputs(sha256=values["inputs"], size_bytes=1, sample_count=1, sample_shape=(1,), dtype="int8"),
            answers_sha256=values["answers"],
        ),
        variants={"o": PlannedVariant(info=info, steps=({"kind": values["step"]},))},
    )


CELL = Cell("m", "o", "default", Settings(1, "default", "all"), Scenario.LATENCY, 0)


def key(
    cell: Cell = CELL,
    model: PlannedModel | None = None,
    settings: ScenarioSettings | None = None,
    agent: str = "e" * 64,
    asked: str = "pi-1",
) -> str:
    return job_key(request_prefix(model or planned(), "o", cell.scenario, settings or ScenarioSettings(), agent), cell, asked)


def test_the_same_request_has_the_same_key_in_every_process_and_release() -> None:
    assert key() == key()
    assert key() == "6a4293ca69c649d48fe0b8c0c82e8730c347a8e9d8fe8365bff80509d63034dd"


def test_everything_that_changes_a_measurement_changes_the_key() -> None:
    keys = [
        key(),
        *(key(model=planned(**{name: "f" * 64})) for name in ("sha256", "inputs", "answers")),
        key(model=planned(scores="probabilities")),
        key(model=planned(step="cast")),
        key(settings=ScenarioSettings(min_duration_secs=11)),
        key(agent="f" * 64),
        key(asked="pi-2"),
        key(dataclasses.replace(CELL, environment="litert")),
        key(dataclasses.replace(CELL, repeat=1)),
        key(dataclasses.replace(CELL, scenario=Scenario.ACCURACY)),
        *(
            key(dataclasses.replace(CELL, settings=other))
            for other in (Settings(2, "default", "all"), Settings(1, "cpu", "all"), Settings(1, "default"))
        ),
    ]
    assert len(set(keys)) == len(keys)


def test_asking_for_more_repeats_does_not_change_the_key_of_those_there_are() -> None:
    assert key(settings=ScenarioSettings(repeats=5)) == key()
