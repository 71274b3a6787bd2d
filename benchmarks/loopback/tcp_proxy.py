"""A link that can be cut, restored and slowed down: a userspace proxy in front of a server on loopback."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time

_BLOCK_BYTES = 256 * 1024


class TcpProxy:
    """Forwards ``port`` to ``target_port``. While cut, nothing passes and nobody is told, as when a cable is pulled."""

    def __init__(self, target_port: int, delay_secs: float = 0.0) -> None:
        self._target_port = target_port
        self.delay_secs = delay_secs
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._passes = threading.Event()
        self._passes.set()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False
        self.forwarded_bytes = 0
        self.cut_after_bytes: int | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()

    @property
    def is_cut(self) -> bool:
        return not self._passes.is_set()

    def cut(self) -> None:
        """Let nothing pass; connections stand still."""
        self._passes.clear()

    def restore(self) -> None:
        """Let everything pass again, what was held back included."""
        self.cut_after_bytes = None
        self._passes.set()

    def reset(self) -> None:
        """Close every connection, as a router that restarts does."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed = True
        self._passes.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near:
            self._passes.wait()
            try:
                far = socket.create_connection(("127.0.0.1", self._target_port), 5.0)
            except OSError:
                return
            with far:
                pair = {near: far, far: near}
                with self._lock:
                    self._open |= set(pair)
                try:
                    self._forward(pair)
                finally:
                    with self._lock:
                        self._open -= set(pair)

    def _forward(self, pair: dict[socket.socket, socket.socket]) -> None:
        with selectors.DefaultSelector() as selector:
            for end in pair:
                end.settimeout(None)
                selector.register(end, selectors.EVENT_READ, end)
            while not self._closed:
                for key, _ in selector.select(1.0):
                    end = key.data
                    try:
                        data = end.recv(_BLOCK_BYTES)
                    except OSError:
                        return
                    if not data:
                        return
                    self._count(len(data))
                    self._passes.wait()
                    if self.delay_secs:
                        time.sleep(self.delay_secs)
                    try:
                        pair[end].sendall(data)
                    except OSError:
                        return

    def _count(self, size: int) -> None:
        with self._lock:
            self.forwarded_bytes += size
            if self.cut_after_bytes is not None and self.forwarded_bytes >= self.cut_after_bytes:
                self._passes.clear()
