"""Device profiles: what kind of board a device is, as data. ``device_profiles/`` holds one file for each, and their schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestrator.domain.mistakes import ProfileError
from orchestrator.domain.scalars import Flag, Name, NotNegative, Number, Positive, Text, Word
from orchestrator.domain.validation import validate
from orchestrator.domain.yaml_text import read_yaml

PROFILE_FORMAT = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RuntimeCapability(_Frozen):
    """What a runtime can be asked for on this kind of board: its providers (ONNX Runtime) or delegates (TFLite)."""

    providers: Annotated[tuple[Name, ...], Field(min_length=1)]
    note: Text = ""


class ThermalLimits(_Frozen):
    """Where the board begins to slow down and its hard limit, in °C; ``source`` says who states it.

    None: no number holds for all boards of the kind, and the trip points of the device itself are read when it runs.
    """

    throttle_c: Number | None = None
    critical_c: Number | None = None
    source: Word | None = None

    @model_validator(mode="after")
    def _stated_by_someone(self) -> ThermalLimits:
        if (self.throttle_c is not None or self.critical_c is not None) and self.source is None:
            raise ValueError("limits are given without a source | add `source:` with the document that states them")
        return self


class HealthLimits(_Frozen):
    """What a health check demands before a device may measure."""

    min_free_disk_mb: NotNegative = 500.0
    max_clock_offset_secs: Positive = 5.0
    max_background_load_percent: Annotated[NotNegative, Field(le=100)] = 25.0


class DeviceProfile(_Frozen):
    """One kind of board. ``sensors`` are those that a device of this kind is expected to have; one that lacks them is used, and says so.

    ``interpreter`` is the command prefix of the environment ``default``, or ``bundle``: the board gets a Python of ours.
    """

    format: Literal[1]
    name: Name
    title: Word
    board: Word
    arch: Literal["x86_64", "arm64"]
    transports: Annotated[tuple[Name, ...], Field(min_length=1)]
    runtimes: dict[Literal["onnx", "tflite"], RuntimeCapability]
    sensors: tuple[Word, ...] = ()
    thermal: ThermalLimits | None = None
    health: HealthLimits = HealthLimits()
    interpreter: Literal["bundle"] | Annotated[tuple[Word, ...], Field(min_length=1)]
    tried_on_hardware: Flag
    tried_note: Text = ""


def parse_profile(text: str, file: str) -> DeviceProfile:
    """Read one profile; its name must be that of the file. Raises :class:`ProfileError` with every mistake and its line."""
    document = read_yaml(text, file)
    profile, mistakes = validate(DeviceProfile, document)
    stem = file.rsplit("/", 1)[-1].removesuffix(".yaml")
    if profile is not None and profile.name != stem:
        mistakes.append(document.source.mistake(("name",), f"the file is called {stem}.yaml", f"write `name: {stem}` or rename the file"))
    if profile is None or mistakes:
        raise ProfileError(mistakes)
    return profile


def profile_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a profile; ``device_profiles/schema.json`` is this."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **DeviceProfile.model_json_schema()}
