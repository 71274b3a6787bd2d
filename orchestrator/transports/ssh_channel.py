"""Channels of one connection: opened with a deadline, and ended together with what runs behind them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST
from paramiko.message import Message

#: A host that does not answer one question of ours for so long is taken as lost.
REPLY_TIMEOUT_SECS = 20.0


def start_channel(transport: paramiko.Transport, request: Callable[[paramiko.Channel], None], timeout_secs: float) -> paramiko.Channel:
    """Open a channel and make one ``request`` on it. Raises the library's errors, also when no answer comes in time."""
    channel = transport.open_session(timeout=timeout_secs)
    # The library waits without end for the answer to a request: a host that froze just then would hold us for ever.
    limit = threading.Timer(timeout_secs, channel.close)
    limit.daemon = True
    limit.start()
    try:
        request(channel)
    except BaseException:
        channel.close()
        raise
    finally:
        limit.cancel()
    return channel


def kill_command(channel: paramiko.Channel) -> None:
    """Ask the host to kill the command behind a channel (RFC 4254, 6.9): closing it alone leaves one that is silent running.

    OpenSSH does it for every user but root; there the agent's own limit ends what nobody waits for.
    """
    message = Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("signal")
    message.add_boolean(False)
    message.add_string("KILL")
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        # The library has no method for it; this is how its own ones send.
        channel.get_transport()._send_user_message(message)
