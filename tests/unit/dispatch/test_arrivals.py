"""The recorded load pattern of a soak: what is read, and how every mistake in it is told."""

from __future__ import annotations

import pytest

from agent.protocol import MAX_ARRIVALS
from orchestrator.dispatch.arrivals import read_arrivals


def told(data: bytes, cycle_secs: float = 10.0) -> list[tuple[int, str]]:
    times, mistakes = read_arrivals(data, cycle_secs)
    assert times == ()
    return [(item.line, item.message) for item in mistakes]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_times_are_read_in_their_order(ending: str) -> None:
    text = ending.join(["arrival_secs", "0", "0.5", "0.5", "9.999", ""])
    assert read_arrivals(text.encode("utf-8-sig"), 10.0) == ((0.0, 0.5, 0.5, 9.999), [])


def test_every_mistake_is_told_with_its_line() -> None:
    text = b"arrival_secs\n1\n0.5\nsoon\n11\n2,3\nnan\n-1\n"
    assert told(text) == [
        (3, "0.5 s is before the 1 s above it"),
        (4, "'soon' is not one number of seconds"),
        (5, "11 s is not within the cycle of 10 s"),
        (6, "'2, 3' is not one number of seconds"),
        (7, "'nan' is not one number of seconds"),
        (8, "-1 s is not within the cycle of 10 s"),
    ]


@pytest.mark.parametrize(
    ("data", "line", "what"),
    [
        (b"", 1, "names nothing"),
        (b"arrival_secs\n", 1, "no arrivals"),
        (b"arrivals\n1\n", 1, "names 'arrivals', not arrival_secs"),
        (b"arrival_secs,rate\n1,2\n", 1, "names 'arrival_secs, rate'"),
        (b"arrival_secs\n1\n\xff\n", 3, "not UTF-8"),
    ],
)
def test_a_file_of_another_kind_is_refused(data: bytes, line: int, what: str) -> None:
    ((found, message),) = told(data)
    assert found == line
    assert what in message


def test_a_near_miss_of_the_column_is_named() -> None:
    _, (mistake,) = read_arrivals(b"arival_secs\n1\n", 10.0)
    assert mistake.remedy == "did you mean 'arrival_secs'?"


def test_as_many_arrivals_as_the_agent_takes_and_no_more() -> None:
    rows = "".join("1\n" for _ in range(MAX_ARRIVALS))
    assert len(read_arrivals(b"arrival_secs\n" + rows.encode(), 10.0)[0]) == MAX_ARRIVALS
    ((line, message),) = told(b"arrival_secs\n" + rows.encode() + b"1\n")
    assert (line, message) == (MAX_ARRIVALS + 2, f"there are more than {MAX_ARRIVALS} arrivals")


def test_a_file_that_is_wrong_on_every_line_is_not_told_in_full() -> None:
    assert len(told(b"arrival_secs\n" + b"x\n" * 5_000)) == 20
