"""From files to a plan: what is kept, and how wrong files are told."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from numpy.lib import format as npy_format

from orchestrator.dispatch.npz import ArrayUnreadable, NpzFile, npy_bytes
from orchestrator.dispatch.snapshot import check, snapshot
from orchestrator.domain.mistakes import Mistake, SpecError
from orchestrator.domain.spec import ExperimentSpec
from orchestrator.domain.spec_text import parse_spec
from orchestrator.store.artifacts import ArtifactStore

SPEC = """\
format: 1
name: small
models:
  - name: m
    task: {kind: classification, top_k: 5}
    dataset:
      file: data.npz
      inputs: x
      labels: y
      slices: [room, writer]
      limit: 4
      class_names: [a, b, c]
    steps: [quantize]
    reference: fp32
    variants:
      - name: fp32
        file: fp32.onnx
        runtime: onnx
        precision: fp32
      - name: other
        file: other.onnx
        runtime: onnx
        precision: fp32
        steps: [{scale: {factor: 2}}]
"""


def onnx_model(dtype: type[np.number[Any]]) -> bytes:
    """A model that multiplies by a constant matrix of 64 values of ``dtype``."""
    constant = onnx.numpy_helper.from_array(np.arange(64, dtype=dtype).reshape(8, 8), "w")
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    is_integer = np.issubdtype(dtype, np.integer)
    inputs = [onnx.helper.make_tensor_value_info("x", kind, [1, 8])]
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT32 if is_integer else kind, [1, 8])]
    node = onnx.helper.make_node("MatMulInteger" if is_integer else "MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", inputs, outputs, [constant])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)]).SerializeToString()


def arrays(**changes: Any) -> dict[str, Any]:
    return {
        "x": np.arange(12, dtype=np.float32).reshape(6, 2),
        "y": np.array([0, 1, 2, 0, 1, 2]),
        "room": np.array(["a", "b", "a", "b", "a", "b"]),
        "writer": np.arange(6, dtype=np.uint8),
        **changes,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = tmp_path / "spec"
    files.mkdir()
    (files / "fp32.onnx").write_bytes(onnx_model(np.float32))
    (files / "other.onnx").write_bytes(onnx_model(np.float64))
    np.savez_compressed(files / "data.npz", **arrays())
    return files


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


def spec_of(text: str = SPEC) -> ExperimentSpec:
    return parse_spec(text, "spec.yaml")


def mistakes_of(folder: Path, text: str = SPEC) -> tuple[Mistake, ...]:
    with pytest.raises(SpecError) as caught:
        check(spec_of(text), folder)
    return caught.value.mistakes


def only_mistake(folder: Path, text: str = SPEC) -> Mistake:
    mistakes = mistakes_of(folder, text)
    assert len(mistakes) == 1, "\n".join(map(str, mistakes))
    return mistakes[0]


def test_the_plan_names_every_file_by_its_content_and_the_store_holds_it(folder: Path, artifacts: ArtifactStore) -> None:
    plan, warnings = snapshot(spec_of(), folder, artifacts)
    model = plan.models["m"]
    variant = model.variants["fp32"].info
    assert variant.sha256 == hashlib.sha256((folder / "fp32.onnx").read_bytes()).hexdigest()
    assert artifacts.get_bytes(variant.sha256) == (folder / "fp32.onnx").read_bytes()
    assert (variant.reference, model.variants["other"].info.reference) == (True, False)
    assert variant.weights == {"float32": 64}
    assert model.variants["fp32"].steps == ({"kind": "quantize"},)
    assert model.variants["other"].steps == ({"kind": "scale", "factor": 2.0, "offset": 0.0},)
    assert warnings == ()


def test_only_the_inputs_travel_and_they_are_cut_to_the_limit(folder: Path, artifacts: ArtifactStore) -> None:
    plan, _ = snapshot(spec_of(), folder, artifacts)
    inputs = plan.models["m"].dataset.inputs
    sent = np.load(io.BytesIO(artifacts.get_bytes(inputs.sha256)), allow_pickle=False)
    assert np.array_equal(sent, arrays()["x"][:4])
    assert (inputs.sample_count, inputs.sample_shape, inputs.dtype) == (4, (2,), "float32")
    assert inputs.size_bytes == artifacts.size_bytes(inputs.sha256)


def test_labels_and_slices_stay_as_a_table(folder: Path, artifacts: ArtifactStore) -> None:
    plan, _ = snapshot(spec_of(), folder, artifacts)
    dataset = plan.models["m"].dataset
    assert dataset.answers_sha256 is not None
    table = pq.read_table(io.BytesIO(artifacts.get_bytes(dataset.answers_sha256)))
    assert table.to_pydict() == {"label": [0, 1, 2, 0], "room": ["a", "b", "a", "b"], "writer": [0, 1, 2, 3]}
    assert dataset.slices == ("room", "writer")
    assert dataset.info.class_count == 3


def test_a_classifier_is_not_asked_for_more_classes_than_there_are(folder: Path) -> None:
    assert check(spec_of(), folder)[0].models["m"].task.top_k == 3


def test_the_same_files_give_the_same_plan_and_check_gives_it_without_keeping_anything(folder: Path, artifacts: ArtifactStore) -> None:
    plan, _ = snapshot(spec_of(), folder, artifacts)
    data = arrays()
    data["x"] = np.asfortranarray(data["x"]).astype(">f4")
    np.savez(folder / "other-way.npz", **dict(reversed(data.items())))
    again, _ = check(spec_of(SPEC.replace("data.npz", "other-way.npz")), folder)
    assert again.models["m"].dataset.inputs == plan.models["m"].dataset.inputs
    assert again.models["m"].dataset.answers_sha256 == plan.models["m"].dataset.answers_sha256
    assert check(spec_of(), folder)[0] == plan


def test_editing_the_files_afterwards_changes_nothing(folder: Path, artifacts: ArtifactStore) -> None:
    plan, _ = snapshot(spec_of(), folder, artifacts)
    before = (folder / "fp32.onnx").read_bytes()
    (folder / "fp32.onnx").write_bytes(b"edited")
    assert artifacts.get_bytes(plan.models["m"].variants["fp32"].info.sha256) == before


def test_a_file_declared_fp32_that_holds_int8_is_warned_of_with_its_line(folder: Path) -> None:
    (folder / "other.onnx").write_bytes(onnx_model(np.int8))
    plan, warnings = check(spec_of(), folder)
    assert [(item.line, item.path) for item in warnings] == [(23, "models[0].variants[1].precision")]
    assert "int8" in warnings[0].message
    assert plan.models["m"].variants["other"].info.notes != ()


@pytest.mark.parametrize("content", [b"rubbish", b"\x08\x07\x12\xff\xff\xff\xff\x0f"])
def test_a_model_that_cannot_be_looked_into_is_left_to_the_device_with_a_warning(folder: Path, content: bytes) -> None:
    (folder / "other.onnx").write_bytes(content)
    plan, warnings = check(spec_of(), folder)
    assert [item.path for item in warnings] == ["models[0].variants[1].file"]
    assert plan.models["m"].variants["other"].info.weights == {}


def test_a_digest_in_the_spec_must_be_that_of_the_file(folder: Path) -> None:
    right = hashlib.sha256((folder / "fp32.onnx").read_bytes()).hexdigest()
    text = SPEC.replace("        file: fp32.onnx\n", f"        file: fp32.onnx\n        sha256: {right}\n")
    check(spec_of(text), folder)
    mistake = only_mistake(folder, text.replace(right, "f" * 64))
    assert (mistake.line, mistake.path) == (18, "models[0].variants[0].sha256")
    assert right in mistake.message


@pytest.mark.parametrize(
    ("name", "said", "remedy"),
    [
        ("fp33.onnx", "no file fp33.onnx", "did you mean 'fp32.onnx'"),
        ("nowhere/x.onnx", "no file nowhere/x.onnx", "relative to the folder"),
        (".", "is not a file", ""),
        ("empty.onnx", "is empty", ""),
        ("pipe", "is not a file", ""),
        ("fp32.onnx/x", "cannot read", ""),
        ('"a\\0b"', "cannot read", ""),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_line(folder: Path, name: str, said: str, remedy: str) -> None:
    (folder / "empty.onnx").write_bytes(b"")
    os.mkfifo(folder / "pipe")
    mistake = only_mistake(folder, SPEC.replace("file: fp32.onnx", f"file: {name}"))
    assert mistake.line == 17
    assert said in mistake.message
    assert remedy in mistake.remedy


@pytest.mark.parametrize(
    ("changes", "line", "said"),
    [
        ({"x": None}, 8, "has no array 'x'"),
        ({"y": None}, 9, "has no array 'y'"),
        ({"room": None}, 10, "has no array 'room'"),
        ({"x": np.array([["a", "b"]] * 6)}, 8, "are <U1"),
        ({"x": np.ones((6, 2), complex)}, 8, "are complex128"),
        ({"x": np.array([[0, 1], [np.nan, 1], [1, np.inf], [0, 0], [0, 0], [0, 0]])}, 8, "in 2 samples, first in sample 1"),
        ({"x": np.ones((0, 2))}, 8, "there is no sample"),
        ({"x": np.float32(3)}, 8, "there is no sample"),
        ({"x": np.array([object()] * 6)}, 8, "Python objects"),
        ({"y": np.arange(5) % 3}, 9, "has 5 entries for 6 samples"),
        ({"y": np.array([0, 1, 2, 3, 0, 9])}, 9, "hold 3 (sample 3; 2 samples"),
        ({"y": np.array([0, 1, -1, 0, 0, 0])}, 9, "hold -1"),
        ({"y": np.array([0, 1, 0.5, 0, 0, 0])}, 9, "not whole numbers"),
        ({"y": np.array([0, 1, np.nan, 0, 0, 0])}, 9, "not whole numbers"),
        ({"y": np.eye(6)}, 9, "shape (6, 6)"),
        ({"room": np.array(["a"])}, 10, "has 1 entries for 6 samples"),
        ({"room": np.ones((6, 2))}, 10, "is float64 of shape (6, 2)"),
    ],
)
def test_a_dataset_that_contradicts_itself_is_told_with_its_line(folder: Path, changes: dict[str, Any], line: int, said: str) -> None:
    content = {name: array for name, array in arrays(**changes).items() if array is not None}
    np.savez_compressed(folder / "data.npz", allow_pickle=True, **content)
    mistake = only_mistake(folder)
    assert mistake.line == line
    assert said in mistake.message


def test_labels_written_as_whole_floats_or_as_a_column_are_understood(folder: Path) -> None:
    plan, _ = check(spec_of(), folder)
    for labels in (arrays()["y"].astype(np.float32), arrays()["y"].reshape(6, 1), arrays()["y"].astype(np.uint8)):
        np.savez_compressed(folder / "data.npz", **arrays(y=labels))
        assert check(spec_of(), folder)[0].models["m"].dataset.answers_sha256 == plan.models["m"].dataset.answers_sha256


def test_anomaly_labels_are_zero_and_one(folder: Path) -> None:
    text = SPEC.replace("kind: classification", "kind: anomaly").replace("      class_names: [a, b, c]\n", "")
    assert "0 (normal) and 1 (anomaly)" in only_mistake(folder, text).remedy
    np.savez_compressed(folder / "data.npz", **arrays(y=np.array([0, 1] * 3)))
    assert check(spec_of(text), folder)[0].models["m"].dataset.info.class_count is None


def test_a_tensor_task_needs_no_labels(folder: Path) -> None:
    text = (
        SPEC.replace("kind: classification", "kind: tensor").replace("      labels: y\n", "").replace("      slices: [room, writer]\n", "")
    )
    dataset = check(spec_of(text), folder)[0].models["m"].dataset
    assert (dataset.answers_sha256, dataset.slices) == (None, ())


def test_the_mistakes_of_all_files_are_told_at_once_and_nothing_more_is_kept(
    folder: Path, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    np.savez_compressed(folder / "data.npz", **arrays(y=np.arange(6), room=np.array(["a"])))
    (folder / "other.onnx").unlink()
    with pytest.raises(SpecError) as caught:
        snapshot(spec_of(), folder, artifacts)
    assert [item.line for item in caught.value.mistakes] == [9, 10, 21]
    assert not [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]


def test_a_dataset_that_several_models_share_is_told_of_once(folder: Path) -> None:
    model = "  - {name: NAME, reference: a, variants: [{name: a, file: fp32.onnx, runtime: onnx, precision: fp32}]}\n"
    text = "format: 1\nname: s\ntask: {kind: tensor}\ndataset: {file: data.npz, inputs: x}\nmodels:\n"
    text += model.replace("NAME", "m") + model.replace("NAME", "n")
    plan, _ = check(spec_of(text), folder)
    assert plan.models["m"].dataset == plan.models["n"].dataset
    (folder / "data.npz").write_bytes(b"PK no zip")
    mistake = only_mistake(folder, text)
    assert (mistake.line, mistake.path) == (4, "dataset.file")
    assert "not an .npz file" in mistake.message


def zipped(name: str, content: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return sink.getvalue()


def npy(header: dict[str, Any], content: bytes) -> bytes:
    sink = io.BytesIO()
    npy_format.write_array_header_1_0(sink, header)
    return sink.getvalue() + content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff{",
        npy({"shape": (10**15,), "fortran_order": False, "descr": "<f8"}, b"12345678"),
        npy({"shape": (2,), "fortran_order": False, "descr": "<f8"}, b"12345678"),
        npy({"shape": (-1,), "fortran_order": False, "descr": "<f8"}, b"12345678"),
        npy({"shape": (1,), "fortran_order": False, "descr": "|O"}, b"12345678"),
        npy({"shape": (0,), "fortran_order": False, "descr": "<f8"}, b"12345678"),
    ],
)
def test_a_hostile_array_is_refused_without_taking_the_memory_it_claims(content: bytes) -> None:
    with pytest.raises(ArrayUnreadable, match="'x'"):
        NpzFile(zipped("x.npy", content)).read("x")


def test_damage_anywhere_in_an_archive_is_refused_or_harmless(folder: Path) -> None:
    data = (folder / "data.npz").read_bytes()
    rng = np.random.default_rng(7)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        try:
            archive = NpzFile(bytes(damaged))
            for name in archive.names:
                archive.read(name)
        except ArrayUnreadable:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    "array", [np.arange(6, dtype=">i4").reshape(2, 3), np.zeros((3, 0)), np.array(3.0), np.asfortranarray(np.eye(3)), np.array(["a", "bc"])]
)
def test_an_array_survives_the_way_through_npy(array: Any) -> None:
    again = np.load(io.BytesIO(npy_bytes(array)), allow_pickle=False)
    assert np.array_equal(again, array)
    assert again.dtype.byteorder in "=|<"
