"""Numbers and names as a reader sees them: units, signs, dashes for what is unknown, and no control characters."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

#: Stands where a number is not known; the cause is in the title beside it.
ABSENT = "–"

_MINUS = "\u2212"
# Controls and the marks that reorder text: a name from a device must not rearrange the line it stands in.
_UNPRINTABLE = re.compile("[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def clean(text: object, limit: int = 2000) -> str:
    """Return untrusted text as one printable, bounded string; characters that cannot be shown become U+FFFD."""
    shown = _UNPRINTABLE.sub("\ufffd", str(text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def shortened(text: str, limit: int) -> str:
    """Keep both ends of a long name: they are what tells variants apart."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def number(value: float | None, digits: int = 3) -> str:
    """Return ``digits`` significant digits without an exponent; thousands are set apart."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 9)}f}".replace(",", "\u202f").replace("-", _MINUS)


def fixed(value: float | None, decimals: int = 1) -> str:
    if value is None or not math.isfinite(value):
        return ABSENT
    shown = f"{value:.{decimals}f}".replace("-", _MINUS)
    return shown.lstrip(_MINUS) if not shown.strip("-0." + _MINUS) else shown


def signed(value: float | None, decimals: int = 1) -> str:
    """Return a difference with its sign; zero has none."""
    shown = fixed(value, decimals)
    if value is None or shown == ABSENT or shown.startswith(_MINUS) or not shown.strip("0."):
        return shown
    return f"+{shown}"


def p_value(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def size(count: int) -> str:
    """Return bytes as kB, MB or GB (powers of ten, as file listings do)."""
    if count >= 10**9:
        return f"{count / 10**9:.1f} GB"
    if count >= 10**6:
        return f"{count / 10**6:.1f} MB"
    return f"{count / 1000:.0f} kB" if count >= 1000 else f"{count} B"


def whole(count: int) -> str:
    return f"{count:,}".replace(",", "\u202f")


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return ``3 variants`` or ``1 variant``."""
    return f"{whole(count)} {singular if count == 1 else (plural or singular + 's')}"


def listed(names: Sequence[str], limit: int = 4) -> str:
    """Join names as a sentence does, and count what does not fit."""
    if len(names) > limit:
        return f"{', '.join(names[: limit - 1])} and {len(names) - limit + 1} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
