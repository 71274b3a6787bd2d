"""Starts a run as the agent's `start` does, with another sysfs and program as its runner: ``start_with.py ROOT NAME FENCE SYS
RUNNER_ARGV…``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from agent import device, launch, protocol
from agent.errors import EdgematrixError
from agent.host import HostFiles


def main() -> None:
    root, name, fence, sysfs, runner_argv = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:]

    def detach(folder: Path, request: protocol.RunRequest, lock: int) -> None:
        launch.detach(root, folder, request, runner_argv, "0" * 64, lock, HostFiles(sys=sysfs))

    try:
        reply = {"ok": True, **device.start(root, name, fence, detach)}
    except EdgematrixError as error:
        reply = {"ok": False, "error": error.to_json()}
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


main()
