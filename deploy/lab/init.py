"""The first process of an emulated device: lays its root out, keeps its SSH server running, and collects what others leave behind.

Started by path inside the device's namespaces as ``python init.py CONFIG``; standard library only. When it ends, the kernel ends
everything else of the device.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_RESTART_SECS = 0.5


def main(config_file: str) -> None:
    config = json.loads(Path(config_file).read_text())
    socket.sethostname(config["name"])
    _lay_out(config)
    children: dict[str, int] = {}

    def stop(number: int, frame: object) -> None:
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    started_at = 0.0
    while True:
        if "sshd" not in children:
            time.sleep(max(0.0, started_at + _RESTART_SECS - time.monotonic()))
            started_at = time.monotonic()
            children["sshd"] = _start_sshd(config)
        pid, _ = os.wait()
        if pid == children["sshd"]:
            # As systemd would: a server that dies is started again, and what runs on the device does not notice.
            del children["sshd"]


def _lay_out(config: dict[str, Any]) -> None:
    root = Path(config["root"])
    layers = f"lowerdir={config['base']},upperdir={config['upper']},workdir={config['work']}"
    _mount("-t", "overlay", "overlay", "-o", layers, str(root))
    for name in ("dev", "proc", "sys", "tmp", "root"):
        (root / name).mkdir(exist_ok=True)
    _mount("-t", "proc", "proc", str(root / "proc"))
    if config["plant"] is None:
        _mount("-t", "sysfs", "-o", "ro", "sysfs", str(root / "sys"))
    else:
        _lay_out_plant(config["plant"], root / "sys")
    _mount("-t", "tmpfs", "-o", "mode=755,size=64m", "tmpfs", str(root / "dev"))
    for name, (major, minor) in _DEVICES.items():
        os.mknod(root / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        os.chmod(root / "dev" / name, 0o666)  # noqa: S103 - these are for everybody, as on any machine
    (root / "dev" / "shm").mkdir()
    with contextlib.suppress(FileExistsError):
        os.symlink("/proc/self/fd", root / "dev" / "fd")
    for program in config["programs"]:
        target = root / program.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        _mount("--bind", program, str(target))
    # The server runs on this machine's own files until it changes its root; only who root is there differs: its shell is the device's.
    # A mount over that one file would be gone as soon as this machine replaces it, which adding a user does.
    _mount("-t", "overlay", "overlay", "-o", f"lowerdir=/etc,upperdir={config['etc']},workdir={config['etc_work']}", "/etc")


def _lay_out_plant(plant: dict[str, Any], sys_folder: Path) -> None:
    """The files of a board that is not there, and what the kernel tells this device of its own control group."""
    _mount("--bind", plant["sys"], str(sys_folder))
    for kind, options, place in plant["mounts"]:
        _mount("-t", kind, *(["-o", options] if options else []), kind, str(sys_folder / place))
        _mount("-o", "remount,bind,ro", str(sys_folder / place))
    _mount("-o", "remount,bind,ro", str(sys_folder))


def _start_sshd(config: dict[str, Any]) -> int:
    process = subprocess.Popen(
        ["/usr/sbin/sshd", "-D", "-e", "-f", config["sshd_config"]], stdin=subprocess.DEVNULL, start_new_session=True
    )
    return process.pid


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
