"""What goes wrong between us and a host, each with its remedy. All of them make the device's health unknown until a check decides."""

from __future__ import annotations

from typing import ClassVar

from agent.errors import DeviceUnreachable


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


#: A host that answers, and a login that cannot be: somebody has to do something.
REFUSALS = (HostKeyUnknown, HostKeyChanged, LoginRefused, KeyUnusable)
