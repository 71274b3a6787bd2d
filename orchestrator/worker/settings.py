"""Where this installation keeps things and whom it talks to; read from ``EDGEMATRIX_*`` environment variables."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def _default_home() -> Path:
    data_home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data_home) / "edgematrix"


class Settings(BaseSettings):
    """With no variable set this is the embedded default: SQLite, a private Redis and this computer as the device, all below ``home``."""

    model_config = SettingsConfigDict(env_prefix="EDGEMATRIX_", env_ignore_empty=True, frozen=True, extra="ignore")

    home: Path = Field(default_factory=_default_home)
    redis_url: str | None = None
    database_url: str | None = None
    artifacts_url: str | None = None
    gateway: str = "local"
    agent_python: Path | None = None
    #: How many devices a gateway speaks to at once; each waits for its device most of the time.
    worker_slots: int = Field(default=16, ge=1, le=512)

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        # It is written into the device's row and the children's variables, and both are read in other working folders.
        return home.expanduser().absolute()

    @property
    def embedded(self) -> bool:
        """Whether this process brings its own Redis, scheduler and worker."""
        return self.redis_url is None

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'edgematrix.sqlite'}"

    @property
    def resolved_artifacts_url(self) -> str:
        return self.artifacts_url or str(self.home / "artifacts")

    @property
    def redis_socket(self) -> Path:
        return self.home / "run" / "redis.sock"

    @property
    def resolved_redis_url(self) -> str:
        return self.redis_url or f"redis+socket://{self.redis_socket}"

    @property
    def gateway_folder(self) -> Path:
        """What this gateway may lose at any time: partial spools, cached artifacts, logs."""
        return self.home / "gateway" / self.gateway
