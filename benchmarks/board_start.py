"""``python board_start.py ARCHIVE ROOT NAME SYS``: the agent's own ``start``, whose supervisor finds sysfs at SYS.

Everything else is the agent of the archive: this program only hands over another folder of files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> int:
    archive, root, name, sysfs = (Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
    sys.path.insert(0, str(archive))
    from agent import device, launch, protocol
    from agent.host import HostFiles

    def detach(folder: Path, request: protocol.RunRequest, lock: int) -> None:
        argv = launch.runner_argv(archive, request.interpreter, root, name)
        launch.detach(root, folder, request, argv, device.archive_sha256(archive), lock, HostFiles(sys=sysfs))

    print(json.dumps({"ok": True, **device.start(root, name, 1, detach)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
