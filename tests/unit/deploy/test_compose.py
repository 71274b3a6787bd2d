"""What is under ``deploy`` names commands, options and variables that edgematrix has, and servers set up as it needs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from orchestrator.cli import app
from orchestrator.worker.settings import Settings
from tests.integration.units import INSTALLED_AT, UNITS, read_unit

DEPLOY = UNITS.parent
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"].startswith("edgematrix:")}
SETTINGS = {f"EDGEMATRIX_{name.upper()}" for name in Settings.model_fields}
DEADLINE_SECS = 30.0


def accept(arguments: list[str]) -> str:
    """Have the command line parsed as at a start, without starting anything; return the command's name."""
    group = typer.main.get_command(app)
    with group.make_context("edgematrix", list(arguments), resilient_parsing=True) as context:
        name, command, rest = group.resolve_command(context, list(arguments))
        command.make_context(name, rest, parent=context)
    return str(name)


def test_every_service_of_ours_runs_a_command_that_there_is() -> None:
    assert {name: accept(service["command"]) for name, service in OURS.items()} == {
        "scheduler": "scheduler",
        "standby": "scheduler",
        "gateway": "worker",
    }


@pytest.mark.parametrize("file", sorted(path.name for path in UNITS.glob("*.service")))
def test_every_unit_runs_a_command_that_there_is_and_is_started_again_whatever_ended_it(file: str) -> None:
    unit = read_unit(file, "bench-1" if "@" in file else "")
    assert unit.command[0] == INSTALLED_AT
    assert accept(unit.command[1:]) in ("scheduler", "worker")
    assert unit.variables.keys() <= SETTINGS
    assert (unit.options["Restart"], unit.options["User"]) == ("always", "edgematrix")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for path in UNITS.glob("*.service"):
        # The program is not where a host of a lab has it.
        (tmp_path / path.name.replace("@", "@bench-1")).write_text(path.read_text().replace(INSTALLED_AT, "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", *tmp_path.iterdir()], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_variables_are_those_that_edgematrix_reads() -> None:
    named = {name for service in OURS.values() for name in service["environment"]}
    in_file = set(re.findall(r"^(EDGEMATRIX_\w+)=", (DEPLOY / "edgematrix.env").read_text(), re.MULTILINE))
    in_image = set(re.findall(r"\b(EDGEMATRIX_\w+)=", (DEPLOY / "Dockerfile").read_text()))
    assert named | in_file | in_image <= SETTINGS
    # What makes it a lab, for every process of it.
    lab = {"EDGEMATRIX_REDIS_URL", "EDGEMATRIX_DATABASE_URL", "EDGEMATRIX_ARTIFACTS_URL"}
    assert lab <= in_file
    assert all(lab <= service["environment"].keys() for service in OURS.values())


def test_every_value_the_compose_file_asks_for_is_named_in_the_file_to_copy() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    offered = set(re.findall(r"^(\w+)=", (DEPLOY / "compose.env").read_text(), re.MULTILINE))
    assert asked == offered


def test_images_are_pinned_and_every_volume_is_declared() -> None:
    images = {service["image"] for service in COMPOSE["services"].values()}
    images |= set(re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))
    assert [image for image in images if not re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?(-[a-z]+)*", image)] == []
    mounts = [mount.split(":")[0] for service in COMPOSE["services"].values() for mount in service.get("volumes", [])]
    assert {mount for mount in mounts if not mount.startswith(".")} == COMPOSE["volumes"].keys()


def test_a_stopped_container_gets_the_time_that_the_unit_gives() -> None:
    assert float(OURS["gateway"]["stop_grace_period"].removesuffix("s")) >= read_unit("edgematrix-worker@.service").stop_secs
    assert float(OURS["scheduler"]["stop_grace_period"].removesuffix("s")) >= read_unit("edgematrix-scheduler.service").stop_secs


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed (apt-get install redis-server)")
def test_the_redis_of_the_compose_file_asks_for_its_password_and_writes_down_what_is_queued(tmp_path: Path) -> None:
    import redis

    if shutil.which("redis-server") is None or shutil.which("redis-cli") is None:
        pytest.skip("Redis is not installed (apt-get install redis-server)")
    service = COMPOSE["services"]["redis"]
    assert service["command"][:2] == ["sh", "-c"]
    # Compose writes $$ for $.
    script = service["command"][2].replace("$$", "$").replace("/data", str(tmp_path))
    socket = tmp_path / "r.sock"
    script = script.replace("redis-server -", f"redis-server - --port 0 --unixsocket {socket}")
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(["sh", "-c", script], env={**os.environ, "REDIS_PASSWORD": "s3cret"}, stdout=log, stderr=log)
    try:
        end = time.monotonic() + DEADLINE_SECS
        while not socket.exists():
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.02)
        with redis.Redis(unix_socket_path=str(socket)) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis(unix_socket_path=str(socket), password="s3cret") as client:
            # One by one: Redis 6 answers one question at a time.
            told = {**client.config_get("appendonly"), **client.config_get("maxmemory-policy")}
            assert told == {"appendonly": "yes", "maxmemory-policy": "noeviction"}
        healthy = service["healthcheck"]["test"][1].replace("$$", "$").replace("redis-cli", f"redis-cli -s {socket}")
        for password, code in (("s3cret", 0), ("wrong", 1)):
            assert subprocess.call(["sh", "-c", healthy], env={**os.environ, "REDIS_PASSWORD": password}) == code
        assert b"s3cret" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    finally:
        server.terminate()
        server.wait()
