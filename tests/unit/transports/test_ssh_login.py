"""A login that was refused needs a person; one whose answer never came is a link that comes back."""

from __future__ import annotations

import time
from typing import Any

import paramiko
import pytest

from orchestrator.transports import ssh_connection
from orchestrator.transports.ssh_errors import LinkLost, LoginRefused
from orchestrator.transports.ssh_route import parse_target


class Host:
    """A host that takes no key: it answers after ``secs``, and closes the connection after so many keys."""

    def __init__(self, closes_after: int, secs: float = 0.0) -> None:
        self._closes_after, self._secs, self._asked = closes_after, secs, 0

    def auth_publickey(self, user: str, key: Any) -> None:
        self._asked += 1
        time.sleep(self._secs)
        raise paramiko.AuthenticationException("Authentication failed.")

    def is_active(self) -> bool:
        return self._asked < self._closes_after

    def is_authenticated(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("host", "keys", "error"),
    [
        (Host(closes_after=99), 2, LoginRefused),
        (Host(closes_after=6), 9, LoginRefused),
        (Host(closes_after=1), 2, LinkLost),
        (Host(closes_after=99, secs=0.05), 2, LinkLost),
    ],
    ids=["no key is taken", "closed after too many keys", "closed at the first key", "no answer in time"],
)
def test_a_host_that_refuses_is_told_from_one_that_fell_silent(
    monkeypatch: pytest.MonkeyPatch, host: Any, keys: int, error: type[Exception]
) -> None:
    monkeypatch.setattr(ssh_connection, "LOGIN_TIMEOUT_SECS", 0.05)
    monkeypatch.setattr(ssh_connection, "_keys", lambda hop, unusable: ((f"key {number}", None) for number in range(keys)))
    with pytest.raises(error) as caught:
        ssh_connection._log_in(host, parse_target("ada@board"))  # type: ignore[arg-type]
    assert type(caught.value) is error
