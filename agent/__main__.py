"""``PYTHON agent.pyz COMMAND``: one JSON line on stdout, exit status 0 for ``{"ok": true, ...}`` and 1 for ``{"ok": false, "error":
...}``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Dict, NoReturn, Optional, Sequence

from agent import bundle, content, custody, device, health, launch, layout, protocol
from agent.errors import EdgematrixError, InternalError, RequestInvalid
from agent.host import HostFiles

#: Twice what the orchestrator waits for the slowest command. A supervisor has no such limit: a forked process inherits none.
_MAX_SECS = 600


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command and return its exit status."""
    try:
        asked = _parser().parse_args(arguments)
        if asked.command == "runner":
            return _runner(asked)
        # Whoever asked may be gone, and a runtime may hang in native code: it must not burn a CPU beside the next measurement.
        signal.alarm(_MAX_SECS)
        reply, status = {"ok": True, **_answer(asked)}, 0
    except EdgematrixError as error:
        reply, status = {"ok": False, "error": error.to_json()}, 1
    except Exception:  # noqa: BLE001 (the orchestrator reads stdout: even our own mistakes must arrive as a record)
        reply, status = {"ok": False, "error": InternalError(traceback.format_exc()[-4000:], "report this").to_json()}, 1
    finally:
        signal.alarm(0)
    sys.stdout.write(json.dumps(reply, separators=(",", ":")) + "\n")
    sys.stdout.flush()
    return status


def _answer(asked: argparse.Namespace) -> Dict[str, Any]:
    archive = launch.running_archive()
    if asked.command == "hello":
        return device.hello(archive)
    if asked.command == "facts":
        return device.facts(archive)
    root = _root(asked.root)
    if asked.command == "contents":
        return content.contents(root)
    if asked.command == "verify":
        return content.verify(root, asked.sha256)
    if asked.command == "join":
        return content.join(root, asked.sha256, asked.parts)
    if asked.command == "unpack":
        return bundle.unpack(root, asked.sha256)
    if asked.command == "health":
        return health.health(root, HostFiles())
    if asked.command == "thermals":
        return health.thermals(HostFiles())
    if asked.command == "prune":
        return content.prune(root, frozenset(asked.keep), asked.unused_secs, asked.max_bytes, time.time())
    if asked.command == "ps":
        return device.ps(root)
    if asked.command == "start":
        return _start(archive, root, asked)
    runs = {"status": device.status, "cancel": device.cancel, "clean": device.clean}
    return runs[asked.command](root, asked.name, asked.fence)


def _start(archive: Optional[Path], root: Path, asked: argparse.Namespace) -> Dict[str, Any]:
    archive = launch.need_archive(archive)
    agent_sha256 = device.archive_sha256(archive)

    def detach(folder: Path, request: protocol.RunRequest, lock: int) -> None:
        argv = launch.runner_argv(archive, request.interpreter, root, asked.name)
        launch.detach(root, folder, request, argv, agent_sha256, lock)

    return {**device.start(root, asked.name, asked.fence, detach), "utc_unix_secs": time.time()}


def _runner(asked: argparse.Namespace) -> int:
    """Become the runner of a run: for the supervisor only. Prints no JSON; its report is a file."""
    from agent import runner_process

    runner_process.prepare(asked.supervisor)
    root = _root(asked.root)
    folder = layout.run_folder(root, asked.name)
    custody.note(root, custody.RUNNER_STARTED, asked.name)
    from agent import runner

    try:
        return runner.main(folder, root)
    finally:
        custody.note(root, custody.RUNNER_ENDED, asked.name)


def _root(text: str) -> Path:
    root = Path(os.path.abspath(text))
    if root == Path(root.anchor):
        raise RequestInvalid(f"{root} is no root for a device", "give a folder of its own")
    return root


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RequestInvalid(message, self.format_usage().strip())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="agent.pyz", description="edgematrix on the device")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    commands.add_parser("hello", help="who answers here, and whether the agent can work on this machine")
    commands.add_parser("facts", help="conditions and environment; every runtime runs a tiny model")
    for name, told in (
        ("contents", "list models and inputs on this device"),
        ("verify", "check one of them against its digest, and remove it when it is wrong"),
        ("join", "make one content file of its parts, and say which of them are missing or damaged"),
        ("health", "room, other work, sensors and power supply of this device"),
        ("thermals", "one reading of temperatures, fans and battery"),
        ("unpack", "make an interpreter of the bundle that came as content"),
        ("prune", "remove content that was not used for long, or the longest unused above a size"),
        ("ps", "list all runs on this device"),
        ("start", "start a pushed run"),
        ("status", "what is true of a run; a higher fence adopts it"),
        ("cancel", "ask a run to end"),
        ("clean", "remove a run that has ended"),
        ("runner", "internal: what the supervisor starts"),
    ):
        command = commands.add_parser(name, help=told)
        if name in ("verify", "join", "unpack"):
            command.add_argument("sha256")
        elif name not in ("contents", "health", "thermals", "prune", "ps"):
            command.add_argument("name")
        command.add_argument("--root", required=True)
        if name in ("start", "status", "cancel", "clean"):
            command.add_argument("--fence", type=int, required=True)
        if name == "join":
            command.add_argument("--parts", type=int, required=True)
        if name == "prune":
            command.add_argument("--keep", nargs="*", default=[])
            command.add_argument("--unused-secs", type=float)
            command.add_argument("--max-bytes", type=int)
        if name == "runner":
            command.add_argument("--supervisor", type=int, required=True)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
