"""Reading a spec: what it means, and how every mistake in it is told."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocol import STEP_PARAMETERS, check_steps
from agent.steps import MAX_STEPS as AGENT_MAX_STEPS
from orchestrator.domain import steps as step_models
from orchestrator.domain.mistakes import Mistake, SpecError
from orchestrator.domain.spec import MAX_STEPS, ExperimentSpec, spec_json_schema
from orchestrator.domain.spec_text import parse_spec
from orchestrator.domain.states import Scenario, TaskKind

SPEC = """\
format: 1
name: digits
priority: 3
models:
  - name: digits-cnn
    task: {kind: classification, scores: probabilities, top_k: 3}
    dataset: {file: digits/test.npz, inputs: x, labels: y, slices: [writer], limit: 300, class_names: [No, On, Yes]}
    steps: [{dequantize: {scale: 0.5, zero_point: 83}}, quantize]
    reference: onnx-fp32
    variants:
      - {name: onnx-fp32, file: digits/fp32.onnx, runtime: onnx, precision: fp32}
      - name: onnx-dynamic
        file: digits/dynamic.onnx
        runtime: onnx
        precision: dynamic
        quantization: dynamic, per tensor
        steps: [{normalize: {mean: 0.5, std: [1e-1, 2]}}]
devices: [{each: "profile == 'linux-x86_64'"}, {any: all, count: 2}]
environments: [default, litert]
settings: {num_threads: [1, 4], provider: default, graph_optimization: [all, none]}
scenarios:
  accuracy:
  latency: {repeats: 3, min_duration_secs: 5}
limits: {timeout_secs: 60}
telemetry_hz: 10
exclude: [{variant: onnx-dynamic, environment: litert}]
include: [{variant: onnx-fp32, num_threads: 8, scenario: latency}]
"""

MINIMAL = """\
format: 1
name: small
task: {kind: tensor}
dataset: {file: x.npz, inputs: x}
models:
  - {name: m, reference: a, variants: [{name: a, file: a.tflite, runtime: tflite, precision: fp32}]}
"""


def mistakes_of(text: str) -> tuple[Mistake, ...]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "spec.yaml")
    return caught.value.mistakes


def only_mistake(text: str) -> Mistake:
    mistakes = mistakes_of(text)
    assert len(mistakes) == 1, "\n".join(map(str, mistakes))
    return mistakes[0]


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_a_full_spec_is_read_as_it_is_written() -> None:
    spec = parse_spec(SPEC, "spec.yaml")
    model = spec.models[0]
    assert (spec.name, spec.priority, spec.environments) == ("digits", 3, ("default", "litert"))
    assert spec.task_of(model).kind == TaskKind.CLASSIFICATION
    assert spec.dataset_of(model).limit == 300
    assert spec.settings.num_threads == (1, 4)
    assert spec.settings.provider == ("default",)
    assert spec.scenarios.settings()[Scenario.LATENCY].repeats == 3
    assert spec.scenarios.settings()[Scenario.ACCURACY].repeats == 1
    assert [step.wire() for step in spec.steps_of(model, model.variants[0])] == [
        {"kind": "dequantize", "scale": 0.5, "zero_point": 83},
        {"kind": "quantize"},
    ]
    assert [step.wire() for step in spec.steps_of(model, model.variants[1])] == [{"kind": "normalize", "mean": 0.5, "std": [0.1, 2.0]}]
    assert spec.source.text == SPEC


def test_words_that_old_yaml_takes_for_booleans_stay_class_names() -> None:
    spec = parse_spec(SPEC, "spec.yaml")
    assert spec.dataset_of(spec.models[0]).class_names == ("No", "On", "Yes")


def test_what_is_left_out_has_its_documented_default() -> None:
    spec = parse_spec(MINIMAL, "spec.yaml")
    assert spec.devices[0].each == "all"
    assert spec.environments == ("default",)
    assert list(spec.scenarios.settings()) == [Scenario.ACCURACY, Scenario.LATENCY]
    assert spec.limits.planned().max_attempts == 3
    assert spec.models[0].variants[0].quantization == "none"
    assert spec.steps_of(spec.models[0], spec.models[0].variants[0]) == ()


WRONG = [
    ("top_k: 3", "top_kk: 3", "models[0].task.top_kk", "unknown key", "did you mean 'top_k'"),
    ("priority: 3", "priority: high", "priority", "expected a whole number, found 'high'", ""),
    ("priority: 3", "priority: 1.5", "priority", "expected a whole number", ""),
    ("priority: 3", "priority: true", "priority", "expected a whole number, found true", ""),
    ("name: digits\n", "name: 12\n", "name", "expected text", "quote it"),
    ("name: digits\n", "name: a/b\n", "name", "right form", "letters"),
    ("telemetry_hz: 10", "telemetry_hz: .nan", "telemetry_hz", "not a finite number", ""),
    ("telemetry_hz: 10", "telemetry_hz: -1", "telemetry_hz", "greater than or equal", ""),
    (
        "runtime: onnx, precision: fp32",
        "runtime: onnx, precision: fp23",
        "models[0].variants[0].precision",
        "not one of",
        "did you mean 'fp32'",
    ),
    ("runtime: onnx, ", "runtime: tensorrt, ", "models[0].variants[0].runtime", "not one of tflite, onnx|not one of onnx, tflite", ""),
    ("file: digits/fp32.onnx, ", "", "models[0].variants[0].file", "is missing", "add `file:`"),
    (
        "runtime: onnx, precision: fp32",
        "runtime: onnx, precision: fp32, sha256: abc",
        "models[0].variants[0].sha256",
        "right form",
        "sha256sum",
    ),
    ("reference: onnx-fp32", "reference: onnx-fp3", "models[0].reference", "not among the variants", "did you mean 'onnx-fp32'"),
    (
        "name: onnx-dynamic",
        "name: onnx-fp32",
        "models[0].variants[1].name",
        "two variants have the name 'onnx-fp32'; the first is on line 11",
        "",
    ),
    ("labels: y, ", "", "models[0].dataset", "needs labels", "labels:"),
    ("min_duration_secs: 5", "min_duration_secs: 500", "scenarios.latency", "above max_duration_secs", ""),
    ("profile ==", "profil ==", "devices[0].each", "unknown name 'profil'", "did you mean 'profile'"),
    ("profile ==", "profile =", "devices[0].each", "not an expression", "=="),
    ("{any: all, count: 2}", "{each: all, count: 2}", "devices[1]", "`count` goes with `any`", ""),
    ("{any: all, count: 2}", "{any: all, each: all}", "devices[1]", "either `each` or `any`", ""),
    ("num_threads: [1, 4]", "num_threads: [1, 1]", "settings.num_threads", "stands twice", ""),
    ("num_threads: [1, 4]", "num_threads: []", "settings.num_threads", "the list is empty", ""),
    ("num_threads: [1, 4]", 'num_threads: "1"', "settings.num_threads[0]", "expected a whole number", ""),
    (
        "exclude: [{variant: onnx-dynamic, ",
        "exclude: [{variant: onnx-dynamc, ",
        "exclude[0].variant",
        "no variant has the name",
        "onnx-dynamic",
    ),
    ("environment: litert", "environment: literrt", "exclude[0].environment", "no environment has the name", "litert"),
    ("exclude: [{variant: onnx-dynamic, environment: litert}]", "exclude: [{}]", "exclude[0]", "would exclude everything", ""),
    ("include: [{variant: onnx-fp32, ", "include: [{", "include[0].variant", "is missing", ""),
    ("dequantize: {scale: 0.5", "dequantise: {scale: 0.5", "models[0].steps[0].dequantise", "unknown key", "did you mean 'dequantize'"),
    ("dequantize: {scale: 0.5", "dequantize: {scale: 0", "models[0].steps[0].dequantize.scale", "greater than 0", ""),
    ("quantize]\n    ref", "quantise]\n    ref", "models[0].steps[1].quantise", "unknown key", "did you mean 'quantize'"),
    (
        "{normalize: {mean: 0.5, std: [1e-1, 2]}}",
        "{normalize: {mean: 0.5, std: 0}}",
        "models[0].variants[1].steps[0].normalize",
        "zero",
        "",
    ),
    (
        "{normalize: {mean: 0.5, std: [1e-1, 2]}}",
        "{layout: {from: NHWC, to: NCWX}}",
        "models[0].variants[1].steps[0].layout",
        "same axes",
        "",
    ),
    (
        "{normalize: {mean: 0.5, std: [1e-1, 2]}}",
        "{reshape: {shape: [-1, -1]}}",
        "models[0].variants[1].steps[0].reshape",
        "not a shape",
        "",
    ),
    ("provider: default", "provider: xnnpack", "settings.provider", "'onnx-fp32', 'onnx-dynamic' would never run", "cpu"),
    ("format: 1", "format: 2", "format", "not one of 1", ""),
    ("limit: 300", "limit: !!python/object:os.system x", "models[0].dataset.limit", "tag", "plain values"),
    ("priority: 3", "priority: 3\npriority: 4", "priority", "stands twice; it was first on line 3", "remove one"),
]


@pytest.mark.parametrize(("old", "new", "path", "message", "remedy"), WRONG, ids=[f"{item[2]}: {item[3]}" for item in WRONG])
def test_a_mistake_is_told_with_its_line_and_a_remedy(old: str, new: str, path: str, message: str, remedy: str) -> None:
    assert old in SPEC
    text = SPEC.replace(old, new, 1)
    found = [item for item in mistakes_of(text) if item.path == path]
    assert len(found) == 1, "\n".join(map(str, mistakes_of(text)))
    assert any(part in found[0].message for part in message.split("|"))
    assert remedy in found[0].remedy
    assert found[0].line == line_of(SPEC, old) + ("\npriority" in new)


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines() -> None:
    text = SPEC
    for old, new, *_ in (WRONG[0], WRONG[1], WRONG[6], WRONG[8], WRONG[12], WRONG[15], WRONG[16], WRONG[24]):
        text = text.replace(old, new, 1)
    mistakes = mistakes_of(text)
    assert len(mistakes) == 8
    assert [item.line for item in mistakes] == sorted(item.line for item in mistakes)
    with pytest.raises(SpecError, match="8 mistakes"):
        parse_spec(text, "spec.yaml")


def test_a_wrong_item_does_not_also_count_as_an_empty_list() -> None:
    assert only_mistake(SPEC.replace("num_threads: [1, 4]", "num_threads: [x]")).path == "settings.num_threads[0]"


def test_a_model_without_task_or_dataset_is_told_where_to_put_them() -> None:
    text = MINIMAL.replace("task: {kind: tensor}\n", "").replace("dataset: {file: x.npz, inputs: x}\n", "")
    assert [item.message for item in mistakes_of(text)] == ["no task is given", "no dataset is given"]


def test_an_included_variant_that_two_models_have_must_name_its_model() -> None:
    other = MINIMAL.splitlines()[-1].replace("name: m", "name: n")
    text = MINIMAL + other + "\ninclude: [{variant: a}]\n"
    assert "2 models have a variant 'a'" in only_mistake(text).message
    parse_spec(text.replace("{variant: a}", "{variant: a, model: n}"), "spec.yaml")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "empty"),
        ("# only a comment\n", 1, "empty"),
        ("name: [1, 2\nother: 3\n", 2, "not YAML"),
        ("name: a\n\tb: 3\n", 2, "not YAML"),
        ("just text", 1, "expected a mapping"),
        ("- a\n- b\n", 1, "expected a mapping"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML"),
        ("name: \x00", 1, "not YAML"),
        ("[" * 10_000, 1, "nested more than"),
        ("a: &a [*a]\n", 1, "nested more than"),
        ("x" * 2_000_000, 1, "more than"),
        ("? [a, b]\n: 1\n", 1, "plain word"),
    ],
)
def test_a_text_that_is_no_spec_is_told_so_with_a_line(text: str, line: int, said: str) -> None:
    assert any(item.line == line and said in item.message for item in mistakes_of(text)), mistakes_of(text)


def test_aliases_cannot_unfold_to_more_than_is_allowed() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert any("unfolds to more than" in item.message for item in mistakes_of("\n".join(lines)))


def test_an_alias_is_read_as_what_it_stands_for() -> None:
    text = MINIMAL.replace("{kind: tensor}", "&task {kind: tensor}").replace("{name: m,", "{name: m, task: *task,")
    assert parse_spec(text, "spec.yaml").models[0].task is not None


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
@settings(max_examples=150, deadline=None)
def test_no_text_gives_anything_but_a_list_of_mistakes(text: str) -> None:
    with pytest.raises(SpecError):
        parse_spec(text, "spec.yaml")


@given(
    st.integers(0, len(SPEC) - 1),
    st.integers(0, 30),
    st.sampled_from(["", ":", "[", "{", "- ", "&a ", "*a", "!!x ", "1", '"', "\t", "\n", "~", "all"]),
)
@settings(max_examples=200, deadline=None)
def test_a_damaged_spec_is_read_or_refused_but_never_breaks_the_reader(start: int, length: int, put: str) -> None:
    text = SPEC[:start] + put + SPEC[start + length :]
    mistakes: tuple[Mistake, ...] = ()
    try:
        parse_spec(text, "spec.yaml")
    except SpecError as error:
        mistakes = error.mistakes
    assert all(1 <= item.line <= text.count("\n") + 2 for item in mistakes)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*ExperimentSpec.model_fields, "name", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(ExperimentSpec.model_fields)), JSON_VALUES)
@settings(max_examples=200, deadline=None)
def test_a_part_of_another_type_is_told_as_a_mistake(key: str, value: Any) -> None:
    content = {**yaml.safe_load(SPEC.replace("No, On, Yes", "a, b, c")), key: value}
    mistakes: tuple[Mistake, ...] | None = None
    try:
        parse_spec(json.dumps(content), "spec.json")
    except SpecError as error:
        mistakes = error.mistakes
    assert mistakes != ()


def test_the_json_schema_accepts_what_the_reader_accepts() -> None:
    schema = spec_json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    for text in (SPEC.replace("accuracy:\n", "accuracy: {}\n").replace("[No, On, Yes]", "[a, b]"), MINIMAL):
        validator.validate(yaml.safe_load(text.replace("1e-1", "0.1")))


@pytest.mark.parametrize(("old", "new"), [(item[0], item[1]) for item in WRONG if item[3] in ("unknown key", "is missing", "not one of")])
def test_the_json_schema_refuses_unknown_keys_missing_keys_and_unknown_words(old: str, new: str) -> None:
    content = yaml.safe_load(
        SPEC.replace("accuracy:\n", "accuracy: {}\n").replace("[No, On, Yes]", "[a, b]").replace("1e-1", "0.1").replace(old, new, 1)
    )
    assert not jsonschema.Draft202012Validator(spec_json_schema()).is_valid(content)


STEPS = [
    {"dequantize": {"scale": 0.5, "zero_point": -3}},
    {"resize": {"height": 8, "width": 9}},
    {"layout": {"from": "NHWC", "to": "NCHW"}},
    {"scale": {"factor": 2}},
    {"normalize": {"mean": [1, 2], "std": 3}},
    "quantize",
    {"cast": {"dtype": "int8"}},
    {"reshape": {"shape": [-1, 4]}},
]


def test_every_step_travels_in_the_form_that_the_agent_accepts() -> None:
    wired = [step_models.Step.model_validate(step).wire() for step in STEPS]
    assert check_steps(wired) == []
    assert [step["kind"] for step in wired] == list(STEP_PARAMETERS)


def test_spec_and_agent_know_the_same_steps_and_parameters() -> None:
    assert list(step_models.Step.model_fields) == list(STEP_PARAMETERS)
    assert MAX_STEPS == AGENT_MAX_STEPS
    for kind, parameters in STEP_PARAMETERS.items():
        model: Any = getattr(step_models, kind.capitalize())
        assert {item.alias or name for name, item in model.model_fields.items()} == set(parameters)
