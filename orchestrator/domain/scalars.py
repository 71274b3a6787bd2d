"""The strict scalar types that specs and profiles are made of: no text is taken for a number, no number for text."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Strict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
AXES_PATTERN = r"^[A-Za-z]{1,16}$"

#: Tags of a value that is either a bare word or a mapping. pydantic puts them into its paths, and ``validation`` takes them out again.
IS_WORD, IS_MAPPING = "<word>", "<mapping>"

Text = Annotated[str, Strict(), Field(max_length=4_000)]
Word = Annotated[str, Strict(), Field(min_length=1, max_length=200)]
Name = Annotated[str, Strict(), Field(pattern=NAME_PATTERN)]
Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict(), Field(ge=-(2**63), lt=2**63)]
PositiveWhole = Annotated[int, Strict(), Field(ge=1, lt=2**31)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Strict(), Field(pattern=SHA256_PATTERN)]


def as_list(value: Any) -> Any:
    """Take a single value for a list of one."""
    return value if isinstance(value, (list, tuple)) or value is None else [value]


class OneOrMany:
    """Marks a tuple field that may be written as one bare value; the JSON Schema says so, too."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(as_list, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a value that stands twice."""
    for index, item in enumerate(values):
        if item in values[:index]:
            raise ValueError(f"{item!r} stands twice | remove one of them")
    return values
