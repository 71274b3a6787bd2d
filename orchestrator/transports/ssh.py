"""A device behind an SSH server. One connection per device and process, opened when needed, opened again when it broke."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from agent.errors import DeviceUnreachable, EdgematrixError
from orchestrator.transports.base import CommandResult, Transport
from orchestrator.transports.ssh_command import quote_command, run_command
from orchestrator.transports.ssh_connection import Connection, HostKey, ask_host_key, connect, parse_host_key
from orchestrator.transports.ssh_errors import LinkLost
from orchestrator.transports.ssh_files import SshFiles
from orchestrator.transports.ssh_route import Target, find_route, parse_target

__all__ = ["HostKey", "SshTransport", "Target", "parse_host_key", "parse_target", "probe_host_key", "quote_command"]

#: A host that could not be reached is not asked again for so long: everyone who asks meanwhile gets the same answer at once.
_RETRY_AFTER_SECS = 3.0

Answer = TypeVar("Answer")


def probe_host_key(address: Mapping[str, Any]) -> HostKey:
    """The key that the host of this address shows; nobody logs in there. Raises :class:`agent.errors.DeviceUnreachable`."""
    return ask_host_key(find_route(address, _config_file(), os.environ))


@dataclass(frozen=True)
class _Session:
    connection: Connection
    files: SshFiles


class SshTransport(Transport):
    """The address says ``host`` (or a Host of the OpenSSH configuration), ``port``, ``user``, ``host_key``, ``key_file`` and ``jump``.

    Threads may share it: commands run side by side, transfers one after the other.
    """

    def __init__(self, address: Mapping[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._address = dict(address)
        self._clock = clock
        self._session: _Session | None = None
        self._connecting = threading.Lock()
        self._transferring = threading.Lock()
        self._refused: tuple[float, DeviceUnreachable] | None = None

    def run(self, argv: Sequence[str], *, timeout_secs: float, max_output_bytes: int) -> CommandResult:
        return self._with_session(lambda session: run_command(session.connection.transport, argv, timeout_secs, max_output_bytes))

    def put(self, source: Path, target: str, *, executable: bool = False) -> None:
        def send(session: _Session) -> None:
            with source.open("rb") as data:
                session.files.put(data, source.stat().st_size, target, executable)

        self._transfer(send)

    def put_bytes(self, data: bytes, target: str) -> None:
        self._transfer(lambda session: session.files.put(BytesIO(data), len(data), target, executable=False))

    def read_from(self, path: str, offset: int, max_bytes: int) -> bytes | None:
        return self._transfer(lambda session: session.files.read_from(path, offset, max_bytes))

    def size_of(self, path: str) -> int | None:
        return self._transfer(lambda session: session.files.size_of(path))

    def close(self) -> None:
        with self._connecting:
            session, self._session = self._session, None
        _close(session)

    # --- below -----------------------------------------------------------------------------------------------

    def _transfer(self, use: Callable[[_Session], Answer]) -> Answer:
        with self._transferring:
            return self._with_session(use)

    def _with_session(self, use: Callable[[_Session], Answer]) -> Answer:
        """Use the connection; one that lay idle and turns out to be broken is opened again, once.

        Everything that is asked of a device may be asked twice: files are put whole, and the agent's commands are made for it.
        """
        session, is_new = self._open()
        try:
            return use(session)
        except LinkLost:
            self._drop(session)
            if is_new:
                raise
        session, _ = self._open()
        try:
            return use(session)
        except LinkLost:
            self._drop(session)
            raise

    def _open(self) -> tuple[_Session, bool]:
        with self._connecting:
            if self._session is not None:
                if self._session.connection.alive:
                    return self._session, False
                _close(self._session)
                self._session = None
            if self._refused is not None and self._clock() < self._refused[0]:
                raise _again(self._refused[1])
            try:
                self._session = self._connect()
            except DeviceUnreachable as error:
                self._refused = (self._clock() + _RETRY_AFTER_SECS, error)
                raise
            self._refused = None
            return self._session, True

    def _connect(self) -> _Session:
        pinned = self._address.get("host_key")
        route = find_route(self._address, _config_file(), os.environ)
        connection = connect(route, parse_host_key(pinned) if pinned else None, str(self._address["host"]))
        try:
            return _Session(connection, SshFiles(connection.transport))
        except EdgematrixError:
            connection.close()
            raise

    def _drop(self, session: _Session) -> None:
        with self._connecting:
            if self._session is session:
                self._session = None
        _close(session)


def _again(error: DeviceUnreachable) -> DeviceUnreachable:
    """A new exception of the same kind: one object raised in several threads would gather their tracebacks."""
    return type(error)(error.message, error.remedy)


def _close(session: _Session | None) -> None:
    if session is not None:
        session.files.close()
        session.connection.close()


def _config_file() -> Path:
    return Path.home() / ".ssh" / "config"
