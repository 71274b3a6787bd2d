"""Devices and environments as a user adds them, and the home folder that everything needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from agent.errors import ConfigurationError, EdgematrixError, FolderUnwritable, MissingRuntime
from orchestrator.dispatch.profiles import UnknownProfile
from orchestrator.service import devices, submission
from orchestrator.service.context import Context, open_context
from orchestrator.service.devices import THIS_COMPUTER, NameTaken, UnknownName
from orchestrator.store.database import read_session
from orchestrator.store.tables import Environment, Experiment
from orchestrator.worker import local_environment
from orchestrator.worker.settings import Settings

AGENT_PYTHON = Path(os.environ.get("EDGEMATRIX_AGENT_PYTHON") or Path(sys.prefix).parent / ".venvs" / "agent" / "bin" / "python")


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    opened = open_context(Settings(home=tmp_path / "home"))
    yield opened
    opened.engine.dispose()


@pytest.fixture
def agent_python() -> Path:
    if not AGENT_PYTHON.exists():
        pytest.skip(f"{AGENT_PYTHON} is not there: make setup")
    return AGENT_PYTHON


def test_a_home_is_made_and_opened_again_with_what_it_holds(tmp_path: Path) -> None:
    for _ in range(2):
        opened = open_context(Settings(home=tmp_path / "new" / "home"))
        assert opened.actor
        if devices.list_devices(opened):
            assert [view.name for view in devices.list_devices(opened)] == ["pi"]
        else:
            devices.add_local_device(opened, "pi")
        opened.engine.dispose()


def test_a_home_that_cannot_be_made_names_the_variable_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderUnwritable) as caught:
        open_context(Settings(home=tmp_path / "file" / "home"))
    assert "EDGEMATRIX_HOME" in caught.value.remedy


def test_a_device_is_added_once_and_waits_for_its_first_check(context: Context) -> None:
    view = devices.add_local_device(context, "pi", labels={"room": "a"})
    assert (view.health, view.health_reason, view.labels, view.environments) == ("unknown", "never checked", {"room": "a"}, ())
    with pytest.raises(NameTaken):
        devices.add_local_device(context, "pi")
    with pytest.raises(UnknownProfile):
        devices.add_local_device(context, "other", profile="toaster")
    assert devices.get_device(context, "pi") == view


def test_an_unknown_device_or_environment_names_those_there_are(context: Context) -> None:
    devices.add_local_device(context, "pi")
    with pytest.raises(UnknownName, match="there are: pi"):
        devices.get_device(context, "po")
    with pytest.raises(UnknownName, match="it has: none"):
        devices.get_environment(context, "default", "pi")
    with pytest.raises(UnknownName):
        devices.add_environment(context, "default", [sys.executable], "po")


def test_an_interpreter_without_a_runtime_is_no_environment(context: Context, tmp_path: Path) -> None:
    with pytest.raises(EdgematrixError) as caught:
        devices.add_environment(context, "default", [str(tmp_path / "no-such-python")])
    assert "no-such-python" in caught.value.message
    with pytest.raises(MissingRuntime, match="no runtime works"):
        devices.add_environment(context, "default", [os.path.realpath(sys.executable), "-I", "-S"])
    with read_session(context.engine) as opened:
        assert opened.exec(select(Environment)).all() == []


def test_without_any_runtime_this_computer_says_how_to_add_one(context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local_environment.sys, "prefix", str(tmp_path / "nowhere" / ".venv"))
    with pytest.raises(MissingRuntime) as caught:
        devices.ensure_this_computer(context)
    assert "edgematrix env add" in caught.value.remedy


def test_this_computer_registers_itself_once_proves_itself_and_keeps_its_environments_up_to_date(
    tmp_path: Path, agent_python: Path
) -> None:
    context = open_context(Settings(home=tmp_path / "home", agent_python=agent_python))
    view = devices.ensure_this_computer(context)
    assert (view.name, view.health, view.environments) == (THIS_COMPUTER, "good", ("default",))
    assert view.facts["conditions"]
    environment = devices.get_environment(context, "default")
    assert set(environment.runtimes) >= {"onnx", "tflite"}
    assert len(environment.digest) == 64
    again = devices.add_environment(context, "default", [str(agent_python)])
    assert again.digest == environment.digest
    devices.ensure_this_computer(context)
    assert [(item.device, item.name) for item in devices.list_environments(context)] == [(THIS_COMPUTER, "default")]
    # Other tests run beside this one, and the device says so.
    assert {check.status for check in devices.check_device(context, THIS_COMPUTER) if check.name != "background load"} == {"ok"}
    context.engine.dispose()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "cannot be read"),
        (lambda path: path.mkdir(), "not a file"),
        (lambda path: os.mkfifo(path), "not a file"),
        (lambda path: path.write_bytes(b"name: \xff"), "UTF-8"),
        (lambda path: path.write_bytes(b"#" * (4 * 1024 * 1024 + 1)), "over 4 MiB"),
    ],
)
def test_a_spec_that_is_no_text_file_is_refused_at_once(context: Context, tmp_path: Path, make: object, said: str) -> None:
    path = tmp_path / "spec.yaml"
    make(path)  # type: ignore[operator]
    for ask in (submission.submit, submission.dry_run):
        with pytest.raises(submission.SpecUnreadable, match=said):
            ask(context, path)


def test_a_spec_that_is_refused_leaves_nothing_behind(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("format: 1\nname: x\n")
    with pytest.raises(ConfigurationError):
        submission.submit(context, path)
    with read_session(context.engine) as opened:
        assert opened.exec(select(Experiment)).all() == []
