"""How numbers and names are written."""

from __future__ import annotations

import pytest

from orchestrator.report.words import clean, counted, fixed, listed, number, p_value, shortened, signed, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.0, "0"),
        (0.0827, "0.0827"),
        (12.345, "12.3"),
        (9375.4, "9\u202f375"),
        (-1.5, "−1.50"),
        (1e-7, "0.000000100"),
    ],
)
def test_a_number_has_three_significant_digits_and_no_exponent(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_difference_has_its_sign_and_a_rounded_zero_has_none() -> None:
    assert [signed(value) for value in (1.25, -0.6, 0.0, -0.04, 0.04, None)] == ["+1.2", "−0.6", "0.0", "0.0", "0.0", "–"]


def test_a_small_p_is_told_as_a_bound() -> None:
    assert [p_value(value) for value in (0.0002, 0.0416, None)] == ["< 0.001", "0.042", "–"]


def test_a_list_that_is_too_long_says_how_much_it_leaves_out() -> None:
    assert listed(["a", "b", "c", "d", "e"], 3) == "a, b and 3 more"
    assert listed(["a", "b"]) == "a and b"
    assert listed([]) == ""


def test_a_long_name_keeps_both_ends() -> None:
    assert shortened("onnx-u8s8-per-channel-reduced", 13) == "onnx-u…educed"
    assert len(shortened("x" * 200, 30)) == 30


def test_untrusted_text_is_bounded_and_printable() -> None:
    assert clean("a\x00b\u202ec\nd") == "a\ufffdb\ufffdc\nd"
    assert len(clean("y" * 10_000)) == 2000


def test_counts_and_sizes_read_as_words() -> None:
    assert (counted(1, "job"), counted(1200, "query", "queries")) == ("1 job", "1\u202f200 queries")
    assert [size(count) for count in (900, 88_000, 2_450_000, 16_000_000_000)] == ["900 B", "88 kB", "2.5 MB", "16.0 GB"]
    assert fixed(97.549) == "97.5"
