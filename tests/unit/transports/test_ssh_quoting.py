"""Nothing that a name holds is ever read by a shell."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import RequestInvalid
from orchestrator.transports.ssh import quote_command

SHOW = (sys.executable, "-S", "-E", "-c", "import os, sys; os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))")
HOSTILE = [
    "$(reboot)",
    "`reboot`",
    "; reboot",
    "&& reboot",
    "| reboot",
    "> /etc/passwd",
    "a\nreboot",
    "'",
    '"',
    "\\",
    "*",
    "~root",
    "!!",
    "#",
    "",
    "-rf",
    "\r",
    "\t",
    "$IFS",
    "ü\x7f\x1b[31m",
]
#: Everything an argument of a process can be: any text without NUL that the file system's encoding knows.
WORDS = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=30) | st.sampled_from(HOSTILE)


def seen_by(shell: str, words: list[str]) -> list[str]:
    """What a command gets that ``shell`` starts from the quoted line."""
    told = subprocess.run([shell, "-c", quote_command([*SHOW, *words])], capture_output=True, check=True, timeout=60).stdout
    return told.decode().split("\0")


@pytest.mark.parametrize("shell", ["sh", "bash"])
@settings(max_examples=40, deadline=None)
@given(words=st.lists(WORDS, min_size=1, max_size=8))
def test_a_shell_takes_a_quoted_line_apart_into_exactly_the_words_it_was_made_of(shell: str, words: list[str]) -> None:
    assert seen_by(shell, words) == words


def test_every_hostile_name_at_once_arrives_as_it_is() -> None:
    assert seen_by("sh", HOSTILE) == HOSTILE


@pytest.mark.parametrize("words", [[], ["ls", "a\0b"], ["\0"]])
def test_what_no_command_can_be_is_refused(words: list[str]) -> None:
    with pytest.raises(RequestInvalid, match="NUL"):
        quote_command(words)
