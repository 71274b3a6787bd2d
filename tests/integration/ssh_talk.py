"""What the tests of SSH say to a server, and how they wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.errors import DeviceUnreachable
from benchmarks.loopback.sshd import Sshd
from orchestrator.transports.ssh import SshTransport

MEGABYTE = 1024 * 1024


def say(wire: SshTransport, *words: str) -> str:
    return wire.run(["printf", "%s|", *words], timeout_secs=30.0, max_output_bytes=MEGABYTE).stdout.decode()


def logins(sshd: Sshd) -> int:
    return (sshd.folder / "sshd.log").read_text().count("Accepted publickey")


def until(look: Callable[[], object]) -> object:
    """Look until there is something; what cannot be reached yet is looked for again."""
    end = time.monotonic() + 60.0
    while True:
        try:
            found = look()
        except DeviceUnreachable:
            found = None
        if found is not None:
            return found
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)
