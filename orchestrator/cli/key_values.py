"""Options of the form ``KEY=VALUE``, which may be repeated."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def key_values(items: Sequence[str] | None, option: str) -> dict[str, str]:
    """Read them; a later one of the same key wins. A word that is no pair ends the command with the option's name."""
    pairs = {}
    for item in items or ():
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"'{item}' is not KEY=VALUE", param_hint=option)
        pairs[key] = value
    return pairs
