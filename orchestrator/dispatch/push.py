"""Brings large content to a device in parts, so that a broken push goes on where it stopped and no drive lasts long.

A part carries its own digest in its name: what lies on the device whole is never sent again, by whatever process. The device joins the
parts and verifies them; see ``agent.content``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from agent import protocol
from agent.errors import DigestMismatch
from orchestrator.transports import Transport

#: The same for every process that pushes, or one would not recognise the parts of another. At 1 MB/s a part takes a quarter of a lease.
PART_BYTES = 8 * 1024 * 1024
#: A device whose storage damages what is written is found out by this many rounds of sending damaged parts again.
_MAX_ROUNDS = 3

Join = Callable[[int], Sequence[int]]
"""``join(part_count)``: let the device join the parts; returns the indices of those that are missing or were damaged."""


@dataclass(frozen=True)
class PartedPush:
    """One file on its way to ``content/<sha256>`` below a device's root."""

    transport: Transport
    content_folder: str
    sha256: str
    size_bytes: int

    def send(self, source: Path, join: Join, out_of_time: Callable[[], bool]) -> bool:
        """Send what is missing, then join. False when time ran out: call again, in whatever process, to go on.

        Raises :class:`DigestMismatch` when ``source`` is not the content it should be, or the device keeps damaging parts; the transport's
        errors otherwise.
        """
        names = _part_names(source, self.sha256)
        missing: Sequence[int] = range(len(names))
        for _ in range(_MAX_ROUNDS):
            if not self._send_parts(source, names, missing, out_of_time):
                return False
            missing = join(len(names))
            if not missing:
                return True
        raise DigestMismatch(
            f"parts {', '.join(str(index) for index in missing[:5])} of {self.sha256} arrive damaged again and again",
            "see the device's storage; a worn-out SD card does this",
        )

    def _send_parts(self, source: Path, names: Sequence[str], wanted: Sequence[int], out_of_time: Callable[[], bool]) -> bool:
        folder = f"{self.content_folder}/{self.sha256}{protocol.PARTS_SUFFIX}"
        sent = 0
        with source.open("rb") as file:
            for index in wanted:
                target = f"{folder}/{names[index]}"
                if self.transport.size_of(target) == self._part_bytes(index):
                    continue
                # At least one in each call: the slowest link gets there, too.
                if sent and out_of_time():
                    return False
                file.seek(index * PART_BYTES)
                self.transport.put_bytes(file.read(PART_BYTES), target)
                sent += 1
        return True

    def _part_bytes(self, index: int) -> int:
        return min(PART_BYTES, self.size_bytes - index * PART_BYTES)


# Remembered: a large file goes in many calls, and reading all of it for each would cost more than sending.
@lru_cache(maxsize=64)
def _part_names(source: Path, sha256: str) -> tuple[str, ...]:
    whole = hashlib.sha256()
    names: list[str] = []
    with source.open("rb") as file:
        while part := file.read(PART_BYTES):
            whole.update(part)
            names.append(f"{len(names):06d}-{hashlib.sha256(part).hexdigest()}")
    if whole.hexdigest() != sha256:
        raise DigestMismatch(f"{source} is not the content {sha256}", "remove it from the gateway's cache; it is fetched anew")
    return tuple(names)
