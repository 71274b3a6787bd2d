"""A lab of emulated devices as a user has it: started, measured on over SSH, mended after a restart of the machine, gone without a trace.

It stands beside whatever lab a developer has: a name, a network and disks of its own. Only the roots, which nobody writes, are shared.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.lab import Lab, load_definition, needs
from deploy.lab.errors import LabImpossible
from deploy.lab.roots import root_place
from tests.integration.conftest import make_home
from tests.integration.running import DIGITS, REPOSITORY, Ended, Home

KWS = REPOSITORY.parent / "shared" / "realdata" / "kws"
#: The roots are made here where no lab was before: packages are fetched, and configured under emulation.
UP_DEADLINE_SECS = 1200.0
RUN_DEADLINE_SECS = 600.0
DEVICES = {"test-arm64": "arm64", "test-avx2": "x86-avx2", "test-bare": "bare-arm64"}

pytestmark = pytest.mark.timeout(int(UP_DEADLINE_SECS + RUN_DEADLINE_SECS))


class SmallLab:
    def __init__(self, home: Home) -> None:
        self.home = home
        self.file = home.specs / "test-lab.yaml"
        devices = [{"name": name, "kind": kind} for name, kind in DEVICES.items()]
        self.file.write_text(yaml.safe_dump({"format": 1, "name": "test", "network": "10.219.77.0/24", "devices": devices}))
        self.lab = Lab(load_definition(self.file))

    def command(self, *arguments: str | Path) -> Ended:
        return self.home.start(*arguments).end(UP_DEADLINE_SECS)

    def up(self) -> list[dict[str, Any]]:
        ended = self.command("lab", "up", "--devices", self.file, "--json")
        assert ended.code == 0, ended.stderr
        found: list[dict[str, Any]] = json.loads(ended.stdout)
        return found

    def status(self) -> dict[str, dict[str, Any]]:
        return {item["name"]: item for item in json.loads(self.command("lab", "status", "--devices", self.file, "--json").stdout)}

    def remains(self) -> list[str]:
        """Everything of this lab that is on this machine, its folder aside."""
        told = [*self.lab.network.spaces(), *_names_of_links(self.lab.network.lab)]
        told += [f"process {entry.name}" for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._is_ours(entry)]
        return told + [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.lab.home) in line]

    def _is_ours(self, entry: Path) -> bool:
        try:
            return str(self.lab.home).encode() in (entry / "cmdline").read_bytes() + os.fsencode(os.readlink(entry / "root"))
        except OSError:
            return False


@pytest.fixture(scope="module")
def tested() -> Iterator[SmallLab]:
    try:
        needs.provide()
    except LabImpossible as error:
        pytest.skip(f"no lab can stand here: {error.message}")
    with make_home() as home:
        made = SmallLab(home)
        try:
            assert [view["health"] for view in made.up()] == ["good"] * len(DEVICES)
            yield made
        finally:
            ended = made.command("lab", "down", "--purge", "--devices", made.file)
            assert ended.code == 0, ended.stderr


@pytest.fixture(scope="module")
def table(tested: SmallLab) -> dict[str, Any]:
    """The table of a small matrix on all devices; its report lies beside the spec."""
    spec = tested.home.specs / "matrix.yaml"
    spec.write_text(yaml.safe_dump(_matrix(), sort_keys=False))
    ended = tested.home.start("run", spec, "--json", "--report", tested.home.specs / "report.html").end(RUN_DEADLINE_SECS)
    assert ended.code == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_every_device_is_up_good_and_marked_as_emulated(tested: SmallLab) -> None:
    status = tested.status()
    assert {name: item["kind"] for name, item in status.items()} == DEVICES
    assert {(item["state"], item["health"], item["emulated"]) for item in status.values()} == {("up", "good", "cpu")}
    shown = json.loads(tested.command("device", "list", "--json").stdout)
    assert {item["emulated"] for item in shown if item["name"] in DEVICES} == {"cpu"}


def test_the_device_with_nothing_installed_runs_from_the_bundle_and_the_others_from_their_own_python(tested: SmallLab) -> None:
    environments = {item["device"]: item for item in json.loads(tested.command("env", "list", "--json").stdout)}
    assert "/bundles/" in environments["test-bare"]["interpreter"][0]
    assert environments["test-arm64"]["interpreter"] == ["/usr/bin/python3"]
    assert sorted(path.name for path in root_place("bare-arm64", tested.lab.folder).rglob("*") if path.is_file()) == ["sh"]
    for item in environments.values():
        assert set(item["runtimes"]) == {"onnx", "tflite"}


def test_each_device_measures_the_whole_matrix_over_ssh(table: dict[str, Any]) -> None:
    assert table["counts"] == {"completed": table["job_count"]}
    measured = {(row["variant"], row["device"]): row["accuracy"]["value"] for row in table["rows"] if row["model"] == "digits"}
    assert {device for _, device in measured} == set(DEVICES)
    assert all(value > 0.9 for value in measured.values()), measured


def test_the_bundle_answers_as_the_packaged_python_does_on_the_same_cpu(table: dict[str, Any]) -> None:
    def differs(item: dict[str, Any]) -> tuple[str, str, float, int, int]:
        """How one file's answers differ from those in the place that all others are held against."""
        pair = item["comparison"]
        return item["model"], item["variant"], pair["bit_exact_share"], pair["flips_to_wrong"], pair["flips_to_right"]

    pairs = table["elsewhere"]
    bundle, packaged = ({differs(item) for item in pairs if _device(item["place"]) == name} for name in ("test-bare", "test-arm64"))
    if bundle and packaged:
        assert bundle == packaged
    else:  # one of them is what all others are held against
        assert {share for _, _, share, _, _ in bundle or packaged} == {1.0}


def test_emulation_is_said_of_every_row_and_on_every_page(tested: SmallLab, table: dict[str, Any]) -> None:
    assert set(table["emulated_devices"]) == set(DEVICES)
    assert {row["emulated"] for row in table["rows"]} == {"cpu"}
    report = (tested.home.specs / "report.html").read_text()
    assert all(f"{name} (emulated: cpu)" in report for name in DEVICES)


@pytest.mark.skipif(not KWS.exists(), reason=f"{KWS} is not there")
def test_a_file_that_collapses_on_one_cpu_is_impossible_to_miss(tested: SmallLab, table: dict[str, Any]) -> None:
    top1 = {(row["variant"], row["device"]): row["accuracy"]["value"] for row in table["rows"] if row["model"] == "kws"}
    assert top1["u8s8", "test-avx2"] < 0.3
    assert min(top1["u8s8", "test-arm64"], top1["u8u8", "test-avx2"]) > 0.8
    shown = tested.command("show", "last").stdout
    last = " ".join(shown.split("\nFindings\n")[1].split())
    assert last.startswith("!!! u8s8 collapses on test-avx2")
    assert "no VNNI" in last
    report = (tested.home.specs / "report.html").read_text()
    assert "u8s8 collapses on test-avx2" in report


def test_who_is_root_on_a_device_does_not_change_when_this_machine_gets_another_user(tested: SmallLab) -> None:
    pid = tested.lab["test-bare"].first_pid()
    assert Path(f"/proc/{pid}/root/etc/passwd").read_text().startswith("root:*:0:0:root:/root:/bin/sh\n")
    # A mount over a single file vanishes when the file is replaced; one over its folder does not.
    places = {line.split()[1] for line in Path(f"/proc/{pid}/mounts").read_text().splitlines()}
    assert "/etc" in places
    assert "/etc/passwd" not in places


def test_the_next_up_mends_what_a_restart_of_this_machine_takes_away(tested: SmallLab) -> None:
    before = {machine.name: machine.first_pid() for machine in tested.lab.machines}
    for machine in tested.lab.machines:
        pid = machine.first_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    for space in tested.lab.network.spaces():
        subprocess.run(["ip", "netns", "delete", space], check=True)
    tested.lab.network.remove_bridge()
    assert [view["health"] for view in tested.up()] == ["unknown"] * len(DEVICES)
    checks = json.loads(tested.command("device", "check", "test-bare", "--json").stdout)
    assert not [check for check in checks if check["status"] == "failed"]
    assert tested.status()["test-bare"]["health"] == "good"
    after = {machine.name: machine.first_pid() for machine in tested.lab.machines}
    assert None not in after.values()
    assert all(before[name] != after[name] for name in after)


def test_an_up_of_what_is_up_changes_nothing(tested: SmallLab) -> None:
    before = {machine.name: machine.first_pid() for machine in tested.lab.machines}
    assert {view["name"]: view["health"] for view in tested.up()}["test-bare"] == "good"
    assert {machine.name: machine.first_pid() for machine in tested.lab.machines} == before


def test_a_device_that_leaves_the_definition_is_stopped_and_the_others_move_up(tested: SmallLab) -> None:
    whole = tested.file.read_text()
    try:
        document = yaml.safe_load(whole)
        document["devices"] = [item for item in document["devices"] if item["name"] != "test-avx2"]
        tested.file.write_text(yaml.safe_dump(document))
        tested.up()
        assert sorted(tested.lab.network.spaces()) == ["em-test-test-arm64", "em-test-test-bare"]
        assert tested.status()["test-bare"]["address"] == "10.219.77.11"
    finally:
        tested.file.write_text(whole)


def test_while_one_command_changes_labs_another_is_refused(tested: SmallLab) -> None:
    with tested.lab.held():
        ended = tested.command("lab", "down", "--devices", tested.file)
    assert ended.code != 0
    assert "another lab command is at work" in ended.stderr
    assert tested.lab.network.spaces()


def test_down_leaves_nothing_on_this_machine_and_gives_the_devices_no_work(tested: SmallLab) -> None:
    assert tested.remains()
    assert tested.command("lab", "down", "--devices", tested.file).code == 0
    assert tested.remains() == []
    assert tested.lab.home.exists()
    assert {item["state"] for item in tested.status().values()} == {"down"}
    assert {item["health"] for item in tested.status().values()} == {"maintenance"}
    assert tested.command("lab", "down", "--devices", tested.file, "--purge").code == 0
    assert not tested.lab.home.exists()


def _matrix() -> dict[str, Any]:
    def onnx(name: str, file: Path, precision: str, quantization: str) -> dict[str, Any]:
        return {"name": name, "file": str(file), "runtime": "onnx", "precision": precision, "quantization": quantization}

    digits = {
        "name": "digits",
        "task": {"kind": "classification", "scores": "logits", "top_k": 5},
        "dataset": {"file": str(DIGITS / "digits_test.npz"), "inputs": "x", "labels": "y", "limit": 60},
        "reference": "tflite",
        "variants": [
            # Each job takes seconds of a core: where the other network is, it is the one for this runtime.
            *([] if KWS.exists() else [onnx("s8s8", DIGITS / "onnx_s8s8.onnx", "w8a8", "static QDQ S8S8 per-channel")]),
            {
                "name": "tflite",
                "file": str(DIGITS / "tflite_w8a8.tflite"),
                "runtime": "tflite",
                "precision": "w8a8",
                "quantization": "full integer per-channel",
                "steps": ["quantize"],
            },
        ],
    }
    kws = {
        "name": "kws",
        "optional": True,
        "task": {"kind": "classification", "scores": "probabilities", "top_k": 3},
        "dataset": {"file": str(KWS / "kws01_eval1000.npz"), "inputs": "x", "labels": "y", "limit": 60},
        "steps": [{"dequantize": {"scale": 0.5847029, "zero_point": 83}}],
        "reference": "fp32",
        "variants": [
            onnx("fp32", KWS / "models" / "kws_ref_fp32.onnx", "fp32", "none"),
            onnx("u8s8", KWS / "onnx" / "kwsref__qdq_U8S8_pc.onnx", "w8a8", "static QDQ U8S8 per-channel"),
            onnx("u8u8", KWS / "onnx" / "kwsref__qdq_U8U8_pc.onnx", "w8a8", "static QDQ U8U8 per-channel"),
        ],
    }
    return {
        "format": 1,
        "name": "lab-test",
        "models": [digits, kws],
        "devices": [{"each": "label.lab == 'yes'"}],
        "environments": ["default"],
        "settings": {"num_threads": [1], "provider": ["default"], "graph_optimization": ["all"]},
        "scenarios": {"accuracy": {"repeats": 1}},
        "limits": {"timeout_secs": 300, "max_attempts": 3},
    }


def _names_of_links(lab: str) -> list[str]:
    listed = json.loads(subprocess.run(["ip", "-json", "link"], check=True, capture_output=True).stdout)
    return [link["ifname"] for link in listed if link["ifname"] == f"em-{lab}" or link["ifname"].startswith(f"em-{lab}-")]


def _device(place: str) -> str:
    return place.split()[0]
