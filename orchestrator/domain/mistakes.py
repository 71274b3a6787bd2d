"""What is wrong with a text that a person wrote, told with the place and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from agent.errors import ConfigurationError

#: Where a value stands in a document: mapping keys and list indexes from the root.
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to tell about one place of a text; lines and columns count from 1."""

    file: str
    line: int
    column: int
    path: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: "
        what = f"{self.path}: {self.message}" if self.path else self.message
        return place + what + (f" ({self.remedy})" if self.remedy else "")


class Mistake(Remark):
    """A remark that stops the work until the text is mended."""

    __slots__ = ()


class SpecWarning(Remark):
    """A remark that stops nothing, but that a person should read."""

    __slots__ = ()


class SpecError(ConfigurationError):
    """A spec that cannot be used; ``mistakes`` holds all of them, in the order of their lines."""

    code: ClassVar[str] = "spec_invalid"

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        ordered = tuple(sorted(dict.fromkeys(mistakes), key=lambda item: (item.file, item.line, item.column)))
        count = "1 mistake" if len(ordered) == 1 else f"{len(ordered)} mistakes"
        super().__init__(f"{count}:\n" + "\n".join(str(item) for item in ordered), "mend the lines named above, then try again")
        self.mistakes = ordered


class ProfileError(SpecError):
    """A device profile that cannot be used."""

    code: ClassVar[str] = "profile_invalid"


@dataclass(frozen=True)
class Source:
    """A text with the place of every value in it: ``values`` and ``keys`` map a path to (line, column)."""

    file: str
    text: str
    values: Mapping[Path, tuple[int, int]] = field(default_factory=dict)
    keys: Mapping[Path, tuple[int, int]] = field(default_factory=dict)

    def place(self, path: Path, at_key: bool = False) -> tuple[int, int]:
        """Return line and column of a value (or of its key); for what the text does not have, of the nearest thing around it."""
        if at_key and path in self.keys:
            return self.keys[path]
        for length in range(len(path), -1, -1):
            found = self.values.get(path[:length])
            if found is not None:
                return found
        return (1, 1)

    def mistake(self, path: Path, message: str, remedy: str = "", at_key: bool = False) -> Mistake:
        line, column = self.place(path, at_key)
        return Mistake(self.file, line, column, path_text(path), message, remedy)

    def warning(self, path: Path, message: str, remedy: str = "") -> SpecWarning:
        line, column = self.place(path)
        return SpecWarning(self.file, line, column, path_text(path), message, remedy)


def path_text(path: Path) -> str:
    """Return a path as people write it: ``models[0].variants[2].file``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """Return a remedy that names the nearest known word, else all of them."""
    near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(known)}" if known else "nothing of the kind is defined"
