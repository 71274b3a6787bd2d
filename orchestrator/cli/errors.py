"""How an error ends a command: its message and remedy on standard error, no traceback, and the exit code of its class."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from typing import Any

import typer

from agent.errors import EdgematrixError
from orchestrator.cli.exit_codes import BY_ERROR_CLASS, ExitCode


def report_error(error: Exception, *, as_json: bool) -> int:
    """Print ``error`` on standard error and return the exit code that belongs to it."""
    if isinstance(error, EdgematrixError):
        code = BY_ERROR_CLASS.get(error.error_class, ExitCode.BUG)
        record = _record(error)
        text = _bug_text(error.message, _write_traceback(error)) if code is ExitCode.BUG else _error_text(error)
    elif isinstance(error, typer.TyperException):
        code = ExitCode.WRONG_INPUT
        message = error.format_message()
        record = {"class": "configuration", "code": "usage", "message": message, "remedy": "Add --help to see what the command takes."}
        text = _usage_text(error, message)
    elif isinstance(error, typer.Abort):
        return ExitCode.INTERRUPTED
    else:
        code = ExitCode.BUG
        where = _write_traceback(error)
        message = f"{type(error).__name__}: {error}"
        record = {
            "class": "bug",
            "code": "internal",
            "message": message,
            "remedy": f"Please report it with {where}",
            "traceback_file": where,
        }
        text = _bug_text(message, where)
    sys.stderr.write((json.dumps({"error": record}) if as_json else text) + "\n")
    return code


def _record(error: EdgematrixError) -> dict[str, Any]:
    record = error.to_json()
    mistakes = getattr(error, "mistakes", None)
    if mistakes:
        fields = ("file", "line", "column", "path", "message", "remedy")
        record["mistakes"] = [{name: getattr(mistake, name, None) for name in fields} for mistake in mistakes]
    return record


def _error_text(error: EdgematrixError) -> str:
    """Every mistake of a spec on its own lines as ``file:line: message``; any other error as its message and remedy."""
    mistakes = getattr(error, "mistakes", None)
    if not mistakes:
        return f"error: {error.message}" + (f"\n  {error.remedy}" if error.remedy else "")
    lines = []
    for mistake in mistakes:
        what = f"{mistake.path}: {mistake.message}" if mistake.path else mistake.message
        lines.append(f"{mistake.file}:{mistake.line}: {what}")
        if mistake.remedy:
            lines.append(f"  {mistake.remedy}")
    count = len(mistakes)
    return "\n".join([*lines, f"{count} mistake{'s' if count != 1 else ''}; nothing was submitted."])


def _usage_text(error: Exception, message: str) -> str:
    context = getattr(error, "ctx", None)
    if context is None:
        return f"error: {message}"
    if type(error).__name__ == "NoArgsIsHelpError":
        return message
    return f"{context.get_usage()}\n\nerror: {message}\n  '{context.command_path} --help' shows what it takes."


def _bug_text(message: str, traceback_file: str) -> str:
    return f"This is a bug in edgematrix: {message}\n  The traceback is in {traceback_file}; please report it."


def _write_traceback(error: Exception) -> str:
    """Write the traceback where a user can find it and return the path; a full disk must not hide the error itself."""
    text = "".join(traceback.format_exception(error))
    try:
        handle, path = tempfile.mkstemp(prefix="edgematrix-bug-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        sys.stderr.write(text)
        return "the lines above"
    return path
