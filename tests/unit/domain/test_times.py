"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from orchestrator.domain.times import WrongTime, format_duration, format_moment, parse_duration, parse_moment

BERLIN = ZoneInfo("Europe/Berlin")
#: 2026-11-21 13:00 in Berlin, which is one hour ahead of UTC in winter.
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "secs"), [("90m", 5400), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), ("0.5h", 1800), (" 2H ", 7200), ("4w", 2419200)]
)
def test_a_length_of_time_is_read_as_people_write_it(text: str, secs: float) -> None:
    assert parse_duration(text) == secs


@pytest.mark.parametrize("text", ["", "2", "h", "2 hours", "-2h", "0m", "400d", "1..5h", "2h30", "٣h", "9" * 400 + "h"])
def test_what_is_no_length_of_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(WrongTime) as caught:
        parse_duration(text)
    assert "90m" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2h", datetime(2026, 11, 21, 14, 0, tzinfo=UTC)),
        ("14:30", datetime(2026, 11, 21, 13, 30, tzinfo=UTC)),
        ("08:00", datetime(2026, 11, 22, 7, 0, tzinfo=UTC)),
        ("2026-11-22T08:00", datetime(2026, 11, 22, 7, 0, tzinfo=UTC)),
        ("2026-11-22 08:00", datetime(2026, 11, 22, 7, 0, tzinfo=UTC)),
        ("2026-11-23", datetime(2026, 11, 22, 23, 0, tzinfo=UTC)),
        ("2026-11-22T08:00+05:30", datetime(2026, 11, 22, 2, 30, tzinfo=UTC)),
        ("2026-11-22T08:00Z", datetime(2026, 11, 22, 8, 0, tzinfo=UTC)),
        # Summer time: the zone's offset of that day counts, not today's.
        ("2027-07-01T08:00", datetime(2027, 7, 1, 6, 0, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_in_the_time_zone_of_who_asks(text: str, utc: datetime) -> None:
    assert parse_moment(text, NOW, BERLIN) == utc.timestamp()


def test_a_clock_time_of_tomorrow_keeps_its_wall_clock_when_the_clocks_change_tonight() -> None:
    evening_before = datetime(2026, 10, 24, 20, 0, tzinfo=UTC).timestamp()
    assert parse_moment("08:00", evening_before, BERLIN) == datetime(2026, 10, 25, 7, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("text", ["2026-11-21T12:59", "2020-01-01", "2029-01-01", "25:00", "tomorrow", "", "9999-12-31T23:59", "14:60"])
def test_a_moment_that_has_passed_is_too_far_or_is_none_is_refused(text: str) -> None:
    with pytest.raises(WrongTime):
        parse_moment(text, NOW, BERLIN)


def test_a_moment_is_told_with_its_zone_and_its_day_unless_that_is_today() -> None:
    assert format_moment(NOW + 5400, NOW, BERLIN) == "14:30 CET"
    assert format_moment(NOW + 86400, NOW, BERLIN) == "2026-11-22 13:00 CET"
    # Tomorrow in Berlin, though today in UTC.
    assert format_moment(NOW + 11.5 * 3600, NOW, BERLIN) == "2026-11-22 00:30 CET"


def test_what_this_computer_writes_it_reads_again() -> None:
    assert parse_moment(format_moment(NOW + 86400, NOW).rsplit(" ", 1)[0], NOW) == NOW + 86400


@pytest.mark.parametrize(
    ("secs", "text"),
    [
        (0.4, "0 s"),
        (45, "45 s"),
        (59.7, "1 min"),
        (720, "12 min"),
        (3600, "1 h"),
        (11100, "3 h 05 min"),
        (187200, "2 d 4 h"),
        (3599, "1 h"),
    ],
)
def test_a_length_of_time_is_told_as_exactly_as_a_person_wants_to_know(secs: float, text: str) -> None:
    assert format_duration(secs) == text
