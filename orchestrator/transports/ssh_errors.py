"""What goes wrong between us and a host, each with its remedy. All of them make the device's health unknown until a check decides."""

from __future__ import annotations

from typing import ClassVar

from agent.errors import DeviceUnreachable

_MOST_CHARACTERS = 400


class HostKeyUnknown(DeviceUnreachable):
    """No key is pinned for this host, or none is known of a jump host."""

    code: ClassVar[str] = "host_key_unknown"


class HostKeyChanged(DeviceUnreachable):
    """The host shows another key than the one pinned: another machine, one set up anew, or somebody in between."""

    code: ClassVar[str] = "host_key_changed"


class LoginRefused(DeviceUnreachable):
    """The host is there and takes none of our keys."""

    code: ClassVar[str] = "login_refused"


class KeyUnusable(DeviceUnreachable):
    """Our own private key cannot be read, or asks for a passphrase that nobody is here to type."""

    code: ClassVar[str] = "key_unusable"


class LinkLost(DeviceUnreachable):
    """The connection broke in the middle; what was asked may or may not have happened."""

    code: ClassVar[str] = "link_lost"


def heard(error: object) -> str:
    """What a host said, as far as it fits into a message: one printable line, for it reaches a person's terminal."""
    line = " ".join("".join(character if character.isprintable() else " " for character in str(error)).split())
    return line[:_MOST_CHARACTERS]


def link_lost(when: str, cause: BaseException | None = None) -> LinkLost:
    """The error for a connection that broke; ``when`` says in which moment."""
    told = "no answer in time" if isinstance(cause, TimeoutError) else heard(cause or "") or (type(cause).__name__ if cause else "")
    return LinkLost(
        f"the connection broke {when}" + (f": {told}" if told else ""),
        "try again; when it stays so, see the SSH server's log on the device (journalctl -u ssh)",
    )


#: A host that answers, and a login that cannot be: somebody has to do something.
REFUSALS = (HostKeyUnknown, HostKeyChanged, LoginRefused, KeyUnusable)
