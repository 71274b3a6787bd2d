"""The declarative input steps as a spec writes them: ``- quantize`` or ``- dequantize: {scale: 0.5, zero_point: 83}``.

The agent's table (``agent.protocol.STEP_PARAMETERS``) says what travels; here the same parameters are pydantic models, so that a mistake is
told with its line and the JSON Schema knows them. :meth:`Step.wire` gives the form that travels.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, Strict, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from orchestrator.domain.scalars import AXES_PATTERN, Number, OneOrMany, Positive, PositiveWhole, Whole

_Integer = Annotated[Whole, Field(gt=-(2**31), lt=2**31)]
_Axes = Annotated[str, Strict(), Field(pattern=AXES_PATTERN)]

_Numbers = Annotated[tuple[Number, ...], Field(min_length=1), OneOrMany()]


class _Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)


class Dequantize(_Parameters):
    """Turn stored integers into real values: (x - zero_point) * scale."""

    scale: Positive
    zero_point: _Integer = 0


class Resize(_Parameters):
    """Resize height and width of an image sample."""

    height: PositiveWhole
    width: PositiveWhole
    method: Literal["nearest", "bilinear"] = "bilinear"


class Layout(_Parameters):
    """Reorder the axes, e.g. from NHWC to NCHW."""

    source: _Axes = Field(alias="from")
    target: _Axes = Field(alias="to")

    @model_validator(mode="after")
    def _same_axes(self) -> Layout:
        if sorted(self.source) != sorted(self.target) or len(set(self.source)) != len(self.source):
            raise ValueError(f"{self.source} and {self.target} do not name the same axes | write for example {{from: NHWC, to: NCHW}}")
        return self


class Scale(_Parameters):
    """x * factor + offset."""

    factor: Number
    offset: Number = 0.0


class Normalize(_Parameters):
    """(x - mean) / std, as one number or one for each channel of the last axis."""

    mean: _Numbers
    std: _Numbers

    @model_validator(mode="after")
    def _usable(self) -> Normalize:
        if any(value == 0 for value in self.std):
            raise ValueError("std holds a zero | a standard deviation is above zero")
        if len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise ValueError(f"{len(self.mean)} means and {len(self.std)} stds | give one of each for each channel")
        return self


class Quantize(_Parameters):
    """Quantize by the model's own input scale and zero point; round half to even, saturating."""


class Cast(_Parameters):
    dtype: Literal["float32", "float64", "float16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"]


class Reshape(_Parameters):
    """Reshape one sample; one axis may be -1."""

    shape: Annotated[tuple[_Integer, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _sizes(self) -> Reshape:
        if any(size == 0 or size < -1 for size in self.shape) or self.shape.count(-1) > 1:
            raise ValueError(f"{list(self.shape)} is not a shape | sizes above zero, and at most one -1")
        return self


class Step(BaseModel):
    """One step: exactly one of the kinds below, with its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dequantize: Dequantize | None = None
    resize: Resize | None = None
    layout: Layout | None = None
    scale: Scale | None = None
    normalize: Normalize | None = None
    quantize: Quantize | None = None
    cast: Cast | None = None
    reshape: Reshape | None = None

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {value: {}}
        if isinstance(value, dict):
            if len(value) != 1:
                raise ValueError(f"a step has one key, here are {len(value)} | write each step as its own list item")
            return {key: {} if parameters is None else parameters for key, parameters in value.items()}
        return value

    @property
    def kind(self) -> str:
        return next(iter(self.model_fields_set))

    def wire(self) -> dict[str, Any]:
        """Return the step as the protocol has it: ``{"kind": ..., parameter: value}``, every default written out."""
        parameters = getattr(self, self.kind).model_dump(mode="json", by_alias=True)
        if self.kind == "normalize":
            parameters = {name: values[0] if len(values) == 1 else values for name, values in parameters.items()}
        return {"kind": self.kind, **parameters}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        for entry in schema["properties"].values():
            entry.pop("default", None)
        schema.update(minProperties=1, maxProperties=1)
        return {"anyOf": [{"enum": list(cls.model_fields)}, schema]}
