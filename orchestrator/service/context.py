"""What every service call needs: the settings, the store, the clock, and who asks."""

from __future__ import annotations

import getpass
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from agent.errors import FolderUnwritable
from orchestrator.dispatch.gateway import Gateway
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.database import migrate, open_database
from orchestrator.worker.logs import configure_logs
from orchestrator.worker.settings import Settings


@dataclass(frozen=True)
class Context:
    settings: Settings
    engine: Engine
    artifacts: ArtifactStore
    actor: str
    clock: Callable[[], float]

    def gateway(self) -> Gateway:
        """A gateway in this process, to reach this computer's devices without a worker (``device check``, ``env add``)."""
        return Gateway(self.engine, self.artifacts, self.settings.gateway_folder, self.clock, self.settings.gateway)


def open_context(settings: Settings | None = None) -> Context:
    """Make the home folder, bring the database to this version, and say who asks (the login name).

    Raises :class:`agent.errors.FolderUnwritable` for a home that cannot be written, and the store's errors for a database that cannot be
    opened.
    """
    # Commands speak for themselves; what dispatch notes along the way is for the logs of workers and schedulers.
    configure_logs(logging.ERROR)
    chosen = settings or Settings()
    try:
        chosen.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderUnwritable(
            f"{chosen.home} cannot be made: {error.strerror}", "set EDGEMATRIX_HOME to a folder you may write"
        ) from error
    engine = open_database(chosen.resolved_database_url)
    migrate(engine)
    artifacts = ArtifactStore(chosen.resolved_artifacts_url, chosen.home / "cache" / "artifacts")
    return Context(chosen, engine, artifacts, _login_name(), time.time)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user id that has no name
        return "unknown"
