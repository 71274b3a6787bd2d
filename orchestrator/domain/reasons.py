"""Why a person did something, in their own words: one printable line, since it is shown on the terminals of others."""

from __future__ import annotations

from agent.errors import ConfigurationError

_MOST_CHARACTERS = 500


class ReasonTooLong(ConfigurationError):
    code = "reason_too_long"


def one_line(why: str) -> str:
    """The reason without line breaks and control characters; raises :class:`ReasonTooLong` beyond 500 characters."""
    line = " ".join("".join(character if character.isprintable() else " " for character in why).split())
    if len(line) > _MOST_CHARACTERS:
        raise ReasonTooLong(f"the reason has {len(line)} characters", f"say it in {_MOST_CHARACTERS}")
    return line
