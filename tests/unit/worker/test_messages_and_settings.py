"""What a worker takes from its queue, and where an installation keeps its things."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import __version__
from orchestrator.worker import local_environment, tasks
from orchestrator.worker.celery_app import NUDGE_EXPIRES_SECS, VISIBILITY_TIMEOUT_SECS, make_app, queue_of
from orchestrator.worker.settings import Settings
from orchestrator.worker.tasks import CHECK, DRIVE, register_tasks


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tasks, "drive", lambda gateway, job_id, fence: calls.append((gateway, job_id, fence)))
    monkeypatch.setattr(tasks, "check_device", lambda gateway, name: calls.append((gateway, name)))
    return calls


@pytest.mark.parametrize("version", [__version__ + ".1", "", "0"])
def test_a_message_of_another_version_is_refused_with_the_remedy(
    done: list[tuple[Any, ...]], version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[dict[str, str]] = []
    # How the program logs is set once per process, and by whichever test comes first.
    monkeypatch.setattr(tasks, "log", SimpleNamespace(error=lambda event, **facts: logged.append(facts)))
    app = make_app("memory://")
    register_tasks(app, "the gateway")  # type: ignore[arg-type]
    app.tasks[DRIVE]("job", 3, version)
    app.tasks[CHECK]("pi", version)
    assert done == []
    assert [facts["remedy"].startswith("install the same edgematrix") for facts in logged] == [True, True]


def test_a_message_of_this_version_reaches_this_process_gateway(done: list[tuple[Any, ...]]) -> None:
    app = make_app("memory://")
    register_tasks(app, "the gateway")  # type: ignore[arg-type]
    app.tasks[DRIVE]("job", 3, __version__)
    app.tasks[CHECK]("pi", __version__)
    assert done == [("the gateway", "job", 3), ("the gateway", "pi")]


def test_messages_for_a_gateway_that_is_away_expire_instead_of_piling_up(redis_socket: Path, redis_url: str) -> None:
    import json

    import redis

    app = make_app(f"redis+socket://{redis_socket}")
    app.send_task(DRIVE, args=["job", 1, __version__], queue=queue_of("away"), expires=NUDGE_EXPIRES_SECS)
    with redis.Redis(unix_socket_path=str(redis_socket)) as client:
        (message,) = client.lrange(queue_of("away"), 0, -1)
    assert json.loads(message)["headers"]["expires"] is not None
    assert NUDGE_EXPIRES_SECS < VISIBILITY_TIMEOUT_SECS
    app.close()


def test_every_setting_that_we_give_celery_is_one_that_it_has() -> None:
    from celery.app.defaults import NAMESPACES, flatten

    known = {name for name, _ in flatten(NAMESPACES)}
    ours = set(make_app("memory://").conf.changes)
    # The first is read by the transport of Redis straight from the configuration, the second is Celery's own note.
    assert ours - known <= {"visibility_timeout", "deprecated_settings"}


def test_with_nothing_set_everything_lies_below_the_home_folder(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.embedded
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/edgematrix.sqlite"
    assert settings.resolved_artifacts_url == f"{tmp_path}/artifacts"
    assert settings.resolved_redis_url == f"redis+socket://{tmp_path}/run/redis.sock"
    assert tmp_path in settings.gateway_folder.parents


def test_a_home_named_from_here_is_the_same_home_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEMATRIX_HOME", "lab")
    assert Settings().home == tmp_path / "lab"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGEMATRIX_HOME", "~/lab")
    assert Settings().home == tmp_path / "lab"


def test_a_variable_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEMATRIX_REDIS_URL", "")
    monkeypatch.setenv("EDGEMATRIX_HOME", "")
    settings = Settings()
    assert settings.embedded
    assert settings.home.is_absolute()
    assert settings.home.name == "edgematrix"


def test_a_lab_names_its_own_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "REDIS_URL": "redis://r/0",
        "DATABASE_URL": "postgresql://d/x",
        "ARTIFACTS_URL": "s3://b",
        "GATEWAY": "attic",
    }.items():
        monkeypatch.setenv(f"EDGEMATRIX_{name}", value)
    settings = Settings()
    assert not settings.embedded
    assert (settings.resolved_redis_url, settings.resolved_database_url) == ("redis://r/0", "postgresql://d/x")
    assert (settings.resolved_artifacts_url, settings.gateway_folder.name) == ("s3://b", "attic")


def test_the_agent_s_python_is_the_one_named_else_the_one_beside_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_environment.sys, "prefix", str(tmp_path / ".venv"))
    assert local_environment.find_agent_python(Settings(home=tmp_path)) is None
    python = tmp_path / ".venvs" / "agent" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert local_environment.find_agent_python(Settings(home=tmp_path)) == python
    assert local_environment.find_agent_python(Settings(home=tmp_path, agent_python=Path("/other"))) == Path("/other")


def test_logs_go_to_stderr_from_their_level_on_and_answers_keep_stdout() -> None:
    program = (
        "import logging, structlog; from orchestrator.worker.logs import configure_logs\n"
        "configure_logs(logging.WARNING); log = structlog.get_logger()\n"
        "log.info('quiet'); log.warning('loud', job='j1')\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == ""
    assert "loud" in said.stderr
    assert "j1" in said.stderr
    assert "quiet" not in said.stderr
    assert "\x1b" not in said.stderr
