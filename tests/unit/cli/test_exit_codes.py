"""The exit code and the words with which a command ends when something is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer.main

from agent import errors
from orchestrator.cli import app
from orchestrator.cli.exit_codes import BY_ERROR_CLASS, ExitCode
from orchestrator.cli.lazy_group import COMMANDS
from tests.unit.cli.conftest import Edgematrix


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("orchestrator.service.experiments.list_experiments", fail)


def test_every_error_class_has_an_exit_code_and_the_documentation_lists_them() -> None:
    assert {kind.error_class for kind in errors.EdgematrixError.__subclasses__()} <= set(BY_ERROR_CLASS)
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    assert all(f"\n| {code.value} |" in page for code in ExitCode)
    assert all(f"`{name}" in page for name in COMMANDS)


def test_help_lists_every_command_and_each_has_help_of_its_own(edgematrix: Edgematrix) -> None:
    listed = edgematrix("--help")
    assert listed.code == 0
    for name in COMMANDS:
        assert f"  {name} " in listed.out
        own = edgematrix(name, "--help")
        assert own.code == 0
        assert own.out.startswith(f"Usage: edgematrix {name}")


def test_every_command_that_a_message_or_a_page_names_exists() -> None:
    repository = Path(__file__).parents[3]
    group = typer.main.get_command(app)
    known = {name: group.get_command(None, name) for name in COMMANDS}  # type: ignore[attr-defined]
    below = {name: set(command.commands) for name, command in known.items() if hasattr(command, "commands")}
    sources = [path for folder in ("agent", "orchestrator", "deploy", "docs", "examples") for path in (repository / folder).rglob("*.*")]
    texts = {path: path.read_text() for path in [*sources, repository / "README.md"] if path.suffix in (".py", ".md", ".yaml", ".html")}
    named = {
        (path.name, found) for path, text in texts.items() for found in re.findall(rf"edgematrix ({'|'.join(below)}) ([a-z][a-z-]+)", text)
    }
    assert len(named) > 100
    assert sorted((place, *words) for place, words in named if words[1] not in below[words[0]]) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runn"], "Did you mean 'run'"),
        (["show", "--colour"], "--colour"),
        (["run"], "SPEC"),
        (["export", "--format", "xml"], "xml"),
        (["compare", "last", "--by", "taste"], "taste"),
        (["device", "add", "x", "--label", "novalue"], "KEY=VALUE"),
        (["env", "add", "x", "--python", "'open"], "--python"),
    ],
)
def test_a_wrong_command_line_is_code_2_and_names_what_is_wrong(edgematrix: Edgematrix, arguments: list[str], words: str) -> None:
    ended = edgematrix(*arguments)
    assert ended.code == 2
    assert words in ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    "arguments", [["show", "nothing"], ["cancel", "nothing"], ["watch", "nothing"], ["export", "nothing"], ["report", "nothing"]]
)
def test_a_name_that_does_not_exist_is_code_2(edgematrix: Edgematrix, arguments: list[str]) -> None:
    ended = edgematrix(*arguments)
    assert ended.code == 2
    assert "nothing" in ended.err
    assert "Traceback" not in ended.err


def test_every_mistake_of_a_spec_is_printed_with_file_line_and_remedy(edgematrix: Edgematrix, tmp_path: Path) -> None:
    spec = tmp_path / "broken.yaml"
    spec.write_text("format: 1\nname: broken\nmodles: []\nscenarios: {accuracy: {repeats: zero}}\n")
    ended = edgematrix("spec", "check", str(spec))
    assert ended.code == 2
    assert f"{spec}:3: " in ended.err
    assert f"{spec}:4: " in ended.err
    assert "did you mean" in ended.err.lower()


def test_with_json_the_mistakes_are_one_document_on_standard_error(edgematrix: Edgematrix, tmp_path: Path) -> None:
    spec = tmp_path / "broken.yaml"
    spec.write_text("format: 1\nname: broken\nmodles: []\n")
    ended = edgematrix("spec", "check", str(spec), "--json")
    record = json.loads(ended.err)["error"]
    assert ended.code == 2
    assert ended.out == ""
    assert record["code"] == "spec_invalid"
    assert {"file", "line", "message", "remedy"} <= set(record["mistakes"][0])


def test_a_usage_error_with_json_is_a_document_too(edgematrix: Edgematrix) -> None:
    assert json.loads(edgematrix("show", "--colour", "--json").err)["error"]["code"] == "usage"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("wrong", "do this"), 2),
        (errors.InfrastructureError("down", "start it"), 3),
        (errors.JobError("the model", "look"), 1),
    ],
)
def test_an_error_of_ours_prints_its_message_and_remedy_and_no_traceback(
    edgematrix: Edgematrix, monkeypatch: pytest.MonkeyPatch, error: errors.EdgematrixError, code: int
) -> None:
    raising(monkeypatch, error)
    ended = edgematrix("list")
    assert ended.code == code
    assert ended.err.splitlines() == [f"error: {error.message}", f"  {error.remedy}"]


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), errors.InternalError("oops")])
def test_what_nobody_expected_is_called_a_bug_and_its_traceback_is_kept(
    edgematrix: Edgematrix, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    raising(monkeypatch, error)
    ended = edgematrix("list")
    assert ended.code == 4
    assert "bug in edgematrix" in ended.err
    assert "Traceback" not in ended.err
    kept = next(tmp_path.glob("edgematrix-bug-*.txt"))
    assert str(kept) in ended.err
    assert "oops" in kept.read_text()
    assert "Traceback" in kept.read_text()


def test_an_interrupted_command_is_code_130(edgematrix: Edgematrix, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert edgematrix("list").code == 130


def test_a_database_that_cannot_be_reached_is_code_3(edgematrix: Edgematrix, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEMATRIX_DATABASE_URL", f"postgresql://nobody@/none?host={tmp_path}")
    ended = edgematrix("list")
    assert ended.code == 3
    assert "database" in ended.err
    assert "Traceback" not in ended.err


def test_a_state_folder_that_cannot_be_made_is_code_3(edgematrix: Edgematrix, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEMATRIX_HOME", str(tmp_path / "file" / "home"))
    ended = edgematrix("list")
    assert ended.code == 3
    assert "EDGEMATRIX_HOME" in ended.err
