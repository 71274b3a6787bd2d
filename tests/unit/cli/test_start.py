"""Why ``--help`` is quick: what a command does not need it does not import."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json, sys
from orchestrator.cli import run
code = run(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


def modules_after(*arguments: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    return set(modules)


def test_help_imports_typer_and_nothing_else_that_is_not_in_the_standard_library() -> None:
    packages = {name.split(".")[0] for name in modules_after("--help")}
    foreign = {
        name for name in packages if name not in sys.stdlib_module_names and not name.startswith(("__", "_virtualenv", "_distutils"))
    }
    assert foreign <= {"agent", "orchestrator", "typer", "annotated_doc", "shellingham", "rich", "click", "typing_extensions"}
    assert "rich" not in foreign


def test_help_of_one_command_imports_no_other_command_and_no_analysis() -> None:
    modules = modules_after("compare", "--help")
    assert "orchestrator.cli.compare" in modules
    assert "orchestrator.cli.run" not in modules
    assert not {"numpy", "pandas", "sqlalchemy", "rich", "orchestrator.service"} & modules
