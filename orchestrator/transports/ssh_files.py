"""Files on a host over SFTP: whole or not at all, pipelined, and never more than was asked for."""

from __future__ import annotations

import contextlib
import errno
import posixpath
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import paramiko
from paramiko.message import Message

from agent.errors import DeviceReplyInvalid, DeviceUnreachable, DiskFull, EdgematrixError, FolderUnwritable
from orchestrator.transports.ssh_blocks import EXTENDED, EXTENDED_REPLY, Blocks, Buffered
from orchestrator.transports.ssh_channel import REPLY_TIMEOUT_SECS, start_channel
from orchestrator.transports.ssh_errors import heard, link_lost

_READ_ONLY = 1


class SshFiles:
    """The SFTP session of one connection. Not for several threads at once: the caller sees to that."""

    def __init__(self, transport: paramiko.Transport) -> None:
        try:
            self._channel = start_channel(transport, lambda opened: opened.invoke_subsystem("sftp"), REPLY_TIMEOUT_SECS)
            self._channel.settimeout(REPLY_TIMEOUT_SECS)
            self._sftp = paramiko.SFTPClient(Buffered(self._channel))
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not transport.is_active():
                raise link_lost("while SFTP was opened", error) from error
            told = "no answer in time" if isinstance(error, TimeoutError) else heard(error) or "it closes at once"
            raise DeviceUnreachable(
                f"the host offers no SFTP: {told}", "add `Subsystem sftp internal-sftp` to its sshd_config and restart its SSH server"
            ) from error
        except Exception as error:
            raise _garbage(error) from error
        with self._read_errors("the limits of its SFTP server"):
            self._blocks = Blocks(self._sftp)

    def put(self, data: IO[bytes], size_bytes: int, target: str, executable: bool) -> None:
        """Write to a temporary name beside ``target``, then rename over it. Missing folders are made."""
        temporary = posixpath.join(posixpath.dirname(target), f".incoming-{secrets.token_hex(8)}")
        with self._write_errors(target, size_bytes):
            file = self._create(temporary)
            try:
                with file:
                    self._blocks.write(file, data)
                    file.chmod(0o700 if executable else 0o600)
                self._rename(temporary, target)
            except BaseException:
                with contextlib.suppress(Exception):
                    self._sftp.remove(temporary)
                raise

    def read_from(self, path: str, offset: int, max_bytes: int) -> bytes | None:
        """At most ``max_bytes`` from ``offset``; None when there is no such file."""
        with self._read_errors(path):
            size = self.size_of(path)
            if size is None:
                return None
            count = min(max_bytes, max(0, size - offset))
            if count == 0:
                return b""
            with self._sftp.file(path, "rb") as file:
                return self._blocks.read(file, offset, offset + count)

    def size_of(self, path: str) -> int | None:
        """The size of a regular file, None when there is none. Raises :class:`DeviceReplyInvalid` for a link, a folder or a pipe."""
        with self._read_errors(path):
            try:
                found = self._sftp.lstat(path)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR):
                    return None
                raise
            if found.st_mode is None or found.st_size is None or not stat.S_ISREG(found.st_mode):
                raise DeviceReplyInvalid(f"{path} is a link, a folder or a pipe where a file belongs", "remove what is in its place")
            return int(found.st_size)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._sftp.close()

    # --- below -----------------------------------------------------------------------------------------------

    def _create(self, path: str) -> paramiko.SFTPFile:
        try:
            return self._sftp.file(path, "wbx")
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        self._make_folders(posixpath.dirname(path))
        return self._sftp.file(path, "wbx")

    def _make_folders(self, folder: str) -> None:
        missing = []
        while folder not in ("", "/"):
            try:
                self._sftp.stat(folder)
                break
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
                missing.append(folder)
                folder = posixpath.dirname(folder)
        for name in reversed(missing):
            try:
                self._sftp.mkdir(name, 0o700)
            except OSError:
                # Somebody else may have made it meanwhile; if it is not that, the file's creation tells.
                with contextlib.suppress(OSError):
                    self._sftp.stat(name)
                    continue
                raise

    def _rename(self, source: str, target: str) -> None:
        try:
            self._sftp.posix_rename(source, target)
        except OSError as error:
            if "unsupported" not in str(error).lower():
                raise
            # A server without OpenSSH's extension does not rename over a file.
            with contextlib.suppress(OSError):
                self._sftp.remove(target)
            self._sftp.rename(source, target)

    @contextmanager
    def _read_errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except EdgematrixError:
            raise
        except (EOFError, paramiko.SSHException, TimeoutError, ConnectionError) as error:
            raise link_lost(f"at {path}", error) from error
        except OSError as error:
            if self._dead():
                raise link_lost(f"at {path}", error) from error
            raise DeviceUnreachable(
                f"{path} cannot be read: {heard(error.strerror or error)}", "see its permissions on the device"
            ) from error
        except Exception as error:
            self.close()
            raise _garbage(error) from error

    @contextmanager
    def _write_errors(self, target: str, size_bytes: int) -> Iterator[None]:
        try:
            yield
        except EdgematrixError:
            raise
        except (EOFError, paramiko.SSHException, TimeoutError, ConnectionError) as error:
            raise link_lost(f"at {target}", error) from error
        except OSError as error:
            if self._dead():
                raise link_lost(f"at {target}", error) from error
            raise self._why_unwritable(target, size_bytes, error) from error
        except Exception as error:
            self.close()
            raise _garbage(error) from error

    def _dead(self) -> bool:
        return bool(self._channel.closed or not self._channel.get_transport().is_active())

    def _why_unwritable(self, target: str, size_bytes: int, error: OSError) -> EdgematrixError:
        """SFTP says no more than "Failure" of a full disk, so the file system is asked."""
        folder = posixpath.dirname(target)
        free_bytes, read_only = self._file_system(folder)
        if read_only:
            return FolderUnwritable(
                f"{target} cannot be written: its file system is read-only", "see the device's storage (dmesg), or choose another --root"
            )
        if free_bytes is not None and free_bytes < size_bytes + 4096:
            return DiskFull(
                f"no room to write {target}: {free_bytes / 1e6:.1f} MB are free and {size_bytes / 1e6:.1f} MB are needed",
                "make room: edgematrix device clean NAME",
            )
        return FolderUnwritable(
            f"{target} cannot be written: {heard(error.strerror or error)}", f"make {folder} writable for the user we log in as"
        )

    def _file_system(self, folder: str) -> tuple[int | None, bool]:
        """Free bytes for us and whether it is read-only, of the nearest folder that exists; (None, False) when it does not tell."""
        while True:
            try:
                kind, reply = self._sftp._request(EXTENDED, "statvfs@openssh.com", folder)
            except OSError as error:
                if error.errno == errno.ENOENT and folder not in ("", "/"):
                    folder = posixpath.dirname(folder)
                    continue
                return None, False
            except (paramiko.SSHException, EOFError):
                return None, False
            if kind != EXTENDED_REPLY or not isinstance(reply, Message):
                return None, False
            _, fragment, _, _, available, _, _, _, _, flags, _ = (reply.get_int64() for _ in range(11))
            return int(fragment * available), bool(flags & _READ_ONLY)


def _garbage(error: Exception) -> DeviceReplyInvalid:
    """What is no SFTP makes the library fail in many ways."""
    return DeviceReplyInvalid(
        f"the host's SFTP server answers what is no SFTP: {heard(error) or type(error).__name__}",
        "log in by hand: `ssh HOST true` must print nothing (shell start-up files often do), and its sftp subsystem must be an SFTP server",
    )
