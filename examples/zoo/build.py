"""Builds the example zoo: trains the digits network, writes its variants, the test data and the manifest.

    python examples/zoo/build.py            rewrites examples/digits and benchmarks/models
    python examples/zoo/build.py --check    builds into a scratch folder and says which files came out bit for bit as committed

Run it in the environment of requirements.lock (`make zoo` does). Exit code 0, or 1 when a check of the build fails.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

# Set before TensorFlow is imported: oneDNN picks other float kernels on other CPUs, and the log is of no use here.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import data
import heavy
import network
import numpy as np
import variants

REPOSITORY = Path(__file__).resolve().parents[2]
DIGITS = Path("examples/digits")
MODELS = Path("benchmarks/models")
TOOLS = ("tensorflow-cpu", "tf2onnx", "onnx", "onnxruntime", "scikit-learn", "numpy")

#: ONNX and TFLite hold the same weights: their fp32 logits may differ by the order of float additions only.
FP32_TOLERANCE = 1e-4


def main() -> int:
    """Build and report; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare a fresh build with the committed files instead of rewriting them")
    arguments = parser.parse_args()
    if not arguments.check:
        return build(REPOSITORY)
    with tempfile.TemporaryDirectory() as scratch:
        return build(Path(scratch)) or compare(Path(scratch), REPOSITORY)


def build(root: Path) -> int:
    """Write everything below ``root``; returns 1 when the fp32 files of the two runtimes disagree."""
    digits, models = root / DIGITS, root / MODELS
    for folder in (digits, models):
        folder.mkdir(parents=True, exist_ok=True)
    train, calibration, test = data.load_splits()
    model = network.train(train)
    variants.write_all(model, calibration.x / network.PIXEL_MAX, digits)
    write_test_data(digits / "digits_test.npz", train, test)
    heavy.write(models / "heavy_conv_w8a8.tflite")

    scaled = test.x / network.PIXEL_MAX
    outputs = {
        item.name: (variants.onnx_logits if item.runtime == "onnx" else variants.tflite_logits)(digits / item.file, scaled)
        for item in variants.VARIANTS
    }
    difference = float(np.abs(outputs["onnx-fp32"] - outputs["tflite-fp32"]).max())
    correct = {name: int((logits.argmax(axis=1) == test.y).sum()) for name, logits in outputs.items()}
    for item in variants.VARIANTS:
        print(f"{item.name:16} {correct[item.name]} of {len(test.y)} right, {(digits / item.file).stat().st_size} bytes")
    print(f"largest difference of fp32 logits, ONNX against TFLite: {difference:.2e}")
    write_manifest(digits / "manifest.json", digits, correct, difference)
    write_model_manifest(models / "manifest.json", models)
    return int(difference > FP32_TOLERANCE)


def write_test_data(path: Path, train: data.Split, test: data.Split) -> None:
    """Write the test split; numpy stores no times, so the same data give the same bytes."""
    columns = {
        "x": test.x / np.float32(network.PIXEL_MAX),
        "y": test.y,
        "ink": data.ink_terciles(train, test),
        "class_group": data.class_groups(test),
        "file_third": data.file_thirds(test),
        "position": test.position,
    }
    np.savez_compressed(path, **columns)


def write_manifest(path: Path, folder: Path, correct: dict[str, int], difference: float) -> None:
    """Write what each file is, its SHA-256, how it was made, and what the building machine computed with it."""
    files: dict[str, Any] = {}
    for item in variants.VARIANTS:
        record = describe(folder / item.file)
        record.update(variant=item.name, runtime=item.runtime, precision=item.precision, quantization=item.quantization)
        record["correct_when_built"] = correct[item.name]
        files[item.file] = record
    files["digits_test.npz"] = describe(folder / "digits_test.npz")
    files["digits_test.npz"].update(arrays="x float32 (697, 8, 8, 1) in 0..1, y, ink, class_group, file_third, position")
    manifest = {
        "format": 1,
        "built_by": "examples/zoo/build.py",
        "tools": tools(),
        "network": {"seed": network.SEED, "epochs": network.EPOCHS, "batch": network.BATCH},
        "split": {
            "train": [0, data.TRAIN_END],
            "calibration": [data.TRAIN_END, data.CALIBRATION_END],
            "test": [data.CALIBRATION_END, 1797],
        },
        "fp32_largest_difference_onnx_tflite": difference,
        "data": {
            "name": "Optical Recognition of Handwritten Digits (the test part, as scikit-learn carries it)",
            "authors": "E. Alpaydin, C. Kaynak",
            "source": "UCI Machine Learning Repository, https://doi.org/10.24432/C50P49",
            "licence": "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
            "changes": "pixel values divided by 16; split by position; slice columns added",
        },
        "files": files,
    }
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def write_model_manifest(path: Path, folder: Path) -> None:
    """Write the manifest of the benchmark-only models."""
    manifest = {
        "format": 1,
        "built_by": "examples/zoo/build.py",
        "tools": tools(),
        "files": {
            "heavy_conv_w8a8.tflite": {
                **describe(folder / "heavy_conv_w8a8.tflite"),
                "seed": heavy.SEED,
                "weights": "random: for speed alone",
            }
        },
    }
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def describe(path: Path) -> dict[str, Any]:
    """Return a file's SHA-256 and size."""
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def tools() -> dict[str, str]:
    """Return the versions of everything that shapes the files."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in TOOLS}}


def compare(fresh: Path, committed: Path) -> int:
    """Print, file by file, whether a fresh build equals the committed one; returns 1 when a committed file does not match its manifest."""
    faults = 0
    for folder in (DIGITS, MODELS):
        recorded = json.loads((committed / folder / "manifest.json").read_text(encoding="utf-8"))["files"]
        for name, record in recorded.items():
            same = describe(fresh / folder / name)["sha256"] == record["sha256"]
            intact = describe(committed / folder / name)["sha256"] == record["sha256"]
            faults += not intact
            damage = "" if intact else " (the committed file does not match its manifest)"
            print(f"{folder / name}: {'same bits' if same else 'other bits'}{damage}")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
