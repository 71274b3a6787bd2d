"""Load the device profiles that come with edgematrix."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from agent.errors import ConfigurationError
from orchestrator.domain.mistakes import Mistake, ProfileError, did_you_mean
from orchestrator.domain.profiles import DeviceProfile, parse_profile

#: Stands beside the ``orchestrator`` package, in a checkout and when installed.
PROFILES_FOLDER = Path(__file__).resolve().parents[2] / "device_profiles"


class UnknownProfile(ConfigurationError):
    """No profile has that name."""

    code: ClassVar[str] = "unknown_profile"


def load_profiles(folder: Path = PROFILES_FOLDER) -> list[DeviceProfile]:
    """Return every profile, by name. Raises :class:`ProfileError` with the mistakes of all files at once."""
    found: list[DeviceProfile] = []
    mistakes: list[Mistake] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            found.append(_read(path))
        except ProfileError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ProfileError(mistakes)
    return found


def load_profile(name: str, folder: Path = PROFILES_FOLDER) -> DeviceProfile:
    """Return one profile; mistakes in others do not matter.

    Raises :class:`UnknownProfile` that names those there are, or :class:`ProfileError`.
    """
    files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if name not in files:
        known = ", ".join(files) or f"none in {folder}"
        raise UnknownProfile(f"there is no device profile {name!r}; there are: {known}", did_you_mean(name, list(files)))
    return _read(files[name])


def _read(path: Path) -> DeviceProfile:
    try:
        return parse_profile(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError([Mistake(str(path), 1, 1, "", f"cannot be read: {error}", "save it as UTF-8 text")]) from error
