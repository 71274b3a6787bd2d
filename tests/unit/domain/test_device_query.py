from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ConfigurationError
from orchestrator.domain.device_query import DeviceFacts, QueryInvalid, parse_query

PI = DeviceFacts("pi-1", "raspberry-pi-5", "lab-a", "arm64", "none", {"room": "a", "slot-no": "3"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", True),
        ("not all", False),
        ("name == 'pi-1'", True),
        ("'pi-1' == name", True),
        ("name != 'pi-1'", False),
        ("arch == 'arm64' and emulated == 'none'", True),
        ("profile in ('raspberry-pi-4', 'raspberry-pi-5')", True),
        ("profile not in ['raspberry-pi-5']", False),
        ("profile in ('raspberry-pi')", False),
        ("label.room == 'a'", True),
        ("label['slot-no'] == '3'", True),
        ("label.room", True),
        ("label.rack", False),
        ("label.rack == 'a'", False),
        ("label.rack != 'a'", True),
        ("not (gateway == 'lab-b') or name == 'x'", True),
        ("gateway == 'lab-b' or gateway == 'lab-a' and label.room == 'b'", False),
    ],
)
def test_an_expression_means_what_python_would_take_it_for(text: str, expected: bool) -> None:
    assert parse_query(text).matches(PI) is expected


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "for example"),
        ("name = 'x'", "=="),
        ("nam == 'x'", "did you mean 'name'"),
        ("room == 'a'", "label.KEY"),
        ("name", "compare it"),
        ("name == pi", "put it in quotes: 'pi'"),
        ("label.slot == 3", "put it in quotes: '3'"),
        ("name < 'x'", "use =="),
        ("'a' == name == 'b'", "and"),
        ("__import__('os').system('true')", "use all"),
        ("name.upper() == 'X'", "use "),
        ("label.a.b == 'x'", "use "),
        ("(lambda: 1)()", "use all"),
        ("[x for x in y]", "use all"),
        ("name == 'x' if all else all", "use all"),
        ("f'{name}' == name", "label.KEY"),
        ("(" * 300 + "all" + ")" * 300, ""),
        ("not " * 150 + "all", ""),
        ("all and " * 200 + "all", "label"),
        ("name == 'a\x00b", ""),
    ],
)
def test_anything_else_is_refused_with_what_to_write(text: str, remedy: str) -> None:
    with pytest.raises(QueryInvalid) as caught:
        parse_query(text)
    assert remedy in caught.value.remedy
    assert isinstance(caught.value, ConfigurationError)


@given(st.text(alphabet="namelbr.=!'(),[] andortinll", max_size=40))
@settings(max_examples=300, deadline=None)
def test_no_text_gives_anything_but_an_answer_or_a_refusal(text: str) -> None:
    try:
        answer = parse_query(text).matches(PI)
    except QueryInvalid:
        return
    assert answer in (True, False)
