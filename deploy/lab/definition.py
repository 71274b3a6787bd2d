"""Which devices a lab has: a YAML file, checked, every mistake told with its line."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from agent.errors import FolderUnwritable
from deploy.lab.kinds import KINDS
from deploy.lab.plant_definition import PlantDefinition
from orchestrator.domain.mistakes import SpecError
from orchestrator.domain.scalars import Name, Number
from orchestrator.domain.validation import validate
from orchestrator.domain.yaml_text import read_yaml

DEFAULT_FILE = Path(__file__).with_name("lab.yaml")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabDevice(_Frozen):
    """One emulated device. A name is at most 40 characters, for it becomes part of names of the kernel.

    ``plant`` gives it a temperature and a governor. With ``faulty_above_c`` its ONNX runtime flips a bit of an output above that.
    """

    name: Annotated[Name, Field(max_length=40)]
    kind: Literal["arm64", "x86-native", "x86-avx2", "bare-arm64"]
    plant: PlantDefinition | None = None
    faulty_above_c: Annotated[Number, Field(ge=-60, le=150)] | None = None

    @model_validator(mode="after")
    def _has_times_that_mean_something(self) -> LabDevice:
        if self.plant is not None and KINDS[self.kind].emulated == "cpu":
            raise ValueError(f"a plant slows its device down, and times mean nothing on {self.kind} | make it x86-native or leave it out")
        if self.faulty_above_c is not None and self.plant is None:
            raise ValueError("faulty_above_c needs a temperature | give the device a plant")
        return self


class LabDefinition(_Frozen):
    """Up to 200 devices with names of their own. Labs of other names and networks stand beside this one, and share only the roots.

    ``name`` begins names of the kernel, which are short.
    """

    format: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,7}$")] = "lab"
    network: IPv4Network = IPv4Network("10.213.0.0/24")
    devices: Annotated[tuple[LabDevice, ...], Field(min_length=1, max_length=200)]

    @field_validator("network")
    @classmethod
    def _is_private(cls, network: IPv4Network) -> IPv4Network:
        if not network.is_private or network.is_loopback or network.is_link_local or not 16 <= network.prefixlen <= 24:
            raise ValueError(f"{network} is no private network from /16 to /24 | take one that nothing here uses, such as 10.214.0.0/24")
        return network

    @model_validator(mode="after")
    def _names_differ(self) -> LabDefinition:
        names = [device.name for device in self.devices]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the name {', '.join(twice)} is given twice | give each device a name of its own")
        return self


def load_definition(path: Path = DEFAULT_FILE) -> LabDefinition:
    """Read a lab's file; :class:`SpecError` tells every mistake with its line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FolderUnwritable(f"{path} cannot be read: {error}", "give a YAML file; deploy/lab/lab.yaml is one") from error
    document = read_yaml(text, str(path))
    found, mistakes = validate(LabDefinition, document)
    if found is None or mistakes:
        raise SpecError(mistakes)
    return found
