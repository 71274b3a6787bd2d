"""A lab with two gateways, run by the commands of the systemd units: what is killed, stopped or frozen, and what becomes of the matrix."""

from __future__ import annotations

import json
import platform
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import sqlalchemy

from benchmarks.loopback.sshd import Sshd, sshd_program
from tests.integration.running import AGENT_PYTHON, DIGITS, REPOSITORY, Command, Home, measured_for, stopped, variant, write_spec
from tests.integration.units import Service, read_unit

pytestmark = pytest.mark.skipif(sshd_program() is None, reason="there is no OpenSSH server (apt-get install openssh-server)")

GATEWAYS = ("bench-1", "bench-2")
PROFILE = "linux-arm64" if platform.machine() in ("aarch64", "arm64") else "linux-x86_64"


@dataclass
class Lab:
    """Two gateways with a board each, and the host of the schedulers. Every host has a home of its own."""

    home: Home
    settings: dict[str, str]
    database: sqlalchemy.Engine
    servers: dict[str, Sshd]
    services: list[Service] = field(default_factory=list)

    def gateway(self, name: str) -> Service:
        return self._start(read_unit("edgematrix-worker@.service", name), name)

    def scheduler(self, host: str) -> Service:
        return self._start(read_unit("edgematrix-scheduler.service"), host)

    def _start(self, unit: Any, host: str) -> Service:
        # The environment file's last line differs between hosts; the unit's own variables say the same.
        settings = {name: value for name, value in self.settings.items() if name != "EDGEMATRIX_GATEWAY"}
        service = Service(unit, self.home.path / host, settings, self.home.specs / f"{host}.log")
        self.services.append(service)
        return service.start()

    def connections(self, gateway: str) -> list[int]:
        """The processes of the board's SSH server, but not what runs on the board."""
        server = psutil.Process(self.servers[gateway].pid)
        return [process.pid for process in (server, *server.children(recursive=True)) if process.name().startswith("sshd")]

    def add_board(self, name: str, gateway: str, sshd: Sshd) -> Command:
        address = sshd.address()
        return self.home.start(
            *("device", "add", name, "--profile", PROFILE, "--ssh", f"{address['user']}@127.0.0.1:{address['port']}"),
            *("--key", sshd.client_key, "--host-key", sshd.host_key, "--gateway", gateway, "--interpreter", AGENT_PYTHON),
            *("--root", self.root(name)),
            **self.settings,
        )

    def root(self, board: str) -> Path:
        return self.home.path / "boards" / board

    def submit(self, run_secs: float) -> str:
        """Two models on every board, each measured for so long."""
        digits = [variant("fp32", DIGITS / "onnx_fp32.onnx"), variant("u8u8", DIGITS / "onnx_u8u8.onnx", precision="w8a8")]
        spec = write_spec(self.home.specs, digits, name="both", scenarios=measured_for(run_secs))
        ended = self.home.run("submit", spec, "--json", **self.settings)
        assert ended.code == 0, ended.stderr
        return str(json.loads(ended.stdout)["experiment_id"])

    def finish(self, experiment: str) -> None:
        ended = self.home.run("watch", experiment, **self.settings)
        assert ended.code == 0, ended.stdout + ended.stderr

    def query(self, sql: str, **values: Any) -> list[Any]:
        with self.database.connect() as connection:
            return list(connection.execute(sqlalchemy.text(sql), values).all())

    def active(self) -> Service | None:
        """The scheduler that holds the lock."""
        holders = self.query("SELECT holder FROM lock WHERE name = 'scheduler' AND expires_at > extract(epoch FROM now())")
        pids = {int(holder.split(":")[1]) for (holder,) in holders}
        return next((service for service in self.services if service.running and service.pid in pids), None)

    def served(self, gateway: str) -> bool:
        """What ``doctor`` tells of it."""
        return bool(
            self.query("SELECT 1 FROM lock WHERE name = :name AND expires_at > extract(epoch FROM now())", name=f"gateway.{gateway}")
        )

    def in_hand(self, gateway: str) -> list[str]:
        """The drives that the gateway's worker is in the middle of: each holds a lock file, and removes it at its end."""
        return [path.name for path in (self.home.path / gateway).glob(f"gateway/{gateway}/locks/*")]

    def wait_for_running(self, gateway: str) -> None:
        """Wait until a board of that gateway is in the middle of a run."""
        sql = "SELECT 1 FROM job JOIN device ON device.lease_job_id = job.id WHERE device.gateway = :gateway AND job.state = 'running'"
        self.home.wait_for(lambda: self.query(sql, gateway=gateway) or None, f"a run at {gateway}")

    def finished(self) -> int:
        ((count,),) = self.query("SELECT count(*) FROM job WHERE state = 'finished'")
        return int(count)

    def starts(self) -> dict[str, int]:
        """How often each run was begun, as the boards themselves wrote it down."""
        found: dict[str, int] = {}
        for log in self.home.path.glob("boards/*/custody.log"):
            for line in map(json.loads, log.read_text().splitlines()):
                if line["event"] == "taken":
                    found[line["run"]] = found.get(line["run"], 0) + 1
        return found

    def assert_each_job_ran_once(self, experiment: str) -> None:
        """Four jobs, two at each gateway: ended once, with one result and one attempt, and begun once on the board."""
        jobs = self.query(
            "SELECT job.id, gateway, outcome, attempts, (SELECT count(*) FROM result WHERE job_id = job.id),"
            " (SELECT count(*) FROM state_change WHERE subject = 'job' AND subject_id = job.id AND new = 'finished')"
            " FROM job JOIN device ON device.id = job.device_id WHERE experiment_id = :experiment ORDER BY gateway",
            experiment=experiment,
        )
        assert [row[1:] for row in jobs] == [(gateway, "completed", 1, 1, 1) for gateway in GATEWAYS for _ in range(2)]
        starts = self.starts()
        assert [starts[f"{row.id}.1"] for row in jobs] == [1, 1, 1, 1]


@pytest.fixture(scope="module")
def boards(shared_home: Home, postgres_socket: Path, redis_socket: Path) -> Iterator[Lab]:
    """The lab with its boards registered, and no process of it running."""
    name = f"two_gateways_{uuid.uuid4().hex}"
    with psycopg.connect(host=str(postgres_socket), user="postgres", dbname="postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        with register_boards(shared_home, f"postgresql+psycopg://postgres@/{name}?host={postgres_socket}", redis_socket) as made:
            yield made
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def lab(boards: Lab) -> Iterator[Lab]:
    """Afterwards none of its services is left, whatever the test did."""
    try:
        yield boards
    finally:
        for service in boards.services:
            service.kill()
        boards.services.clear()


@contextmanager
def register_boards(home: Home, database_url: str, redis_socket: Path) -> Iterator[Lab]:
    told = {
        "EDGEMATRIX_REDIS_URL": f"redis+socket://{redis_socket}",
        "EDGEMATRIX_DATABASE_URL": database_url,
        "EDGEMATRIX_ARTIFACTS_URL": str(home.specs / "artifacts"),
        "EDGEMATRIX_GATEWAY": GATEWAYS[0],
    }
    lines = [line for line in (REPOSITORY / "deploy" / "edgematrix.env").read_text().splitlines() if not line.startswith("#")]
    settings = {name: told[name] for name in (line.partition("=")[0] for line in lines)}
    engine = sqlalchemy.create_engine(database_url)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        servers = {name: stack.enter_context(Sshd(home.specs / f"sshd-{name}")) for name in GATEWAYS}
        lab = Lab(home, settings, engine, servers)
        assert home.run("device", "list", **settings).code == 0  # makes the tables, before two commands do so at once
        adding = [lab.add_board(f"board-of-{name}", name, servers[name]) for name in GATEWAYS]
        for ended in [command.end() for command in adding]:
            assert ended.code == 0, ended.stdout + ended.stderr
        yield lab


def test_a_standby_takes_over_from_a_killed_scheduler_and_the_matrix_finishes(lab: Lab) -> None:
    for name in GATEWAYS:
        lab.gateway(name)
    schedulers = [lab.scheduler("server-a"), lab.scheduler("server-b")]
    experiment = lab.submit(2.0)
    lab.wait_for_running(GATEWAYS[0])
    active = lab.home.wait_for(lab.active)
    active.kill()
    lab.finish(experiment)
    lab.assert_each_job_ran_once(experiment)
    (standby,) = [service for service in schedulers if service is not active]
    assert lab.active() is standby
    assert [service.stop()[0] for service in lab.services if service.running] == [0, 0, 0]
    lab.home.assert_nothing_runs()


def test_a_gateway_told_to_stop_ends_in_time_and_its_run_goes_on_and_is_picked_up(lab: Lab) -> None:
    lab.scheduler("server-a")
    workers = {name: lab.gateway(name) for name in GATEWAYS}
    experiment = lab.submit(4.0)
    lab.wait_for_running(GATEWAYS[0])
    assert lab.served(GATEWAYS[0])
    code, seconds = workers[GATEWAYS[0]].stop()
    assert (code, seconds < workers[GATEWAYS[0]].unit.stop_secs) == (0, True)
    assert not lab.served(GATEWAYS[0])
    assert lab.served(GATEWAYS[1])
    # The run ends on the board while nobody serves its gateway.
    outcome = lab.root(f"board-of-{GATEWAYS[0]}") / "jobs"
    lab.home.wait_for(lambda: next(iter(outcome.glob("*/outcome.json")), None), "the end of the run on the board")
    lab.gateway(GATEWAYS[0])
    lab.finish(experiment)
    lab.assert_each_job_ran_once(experiment)
    assert [service.stop()[0] for service in lab.services if service.running] == [0, 0, 0]
    lab.home.assert_nothing_runs()


def test_a_gateway_told_to_stop_twice_finishes_the_step_in_hand_however_slow_the_board_is(lab: Lab) -> None:
    lab.scheduler("server-a")
    workers = {name: lab.gateway(name) for name in GATEWAYS}
    experiment = lab.submit(4.0)
    lab.wait_for_running(GATEWAYS[0])
    worker = workers[GATEWAYS[0]]
    with ExitStack() as frozen:
        for pid in lab.connections(GATEWAYS[0]):
            frozen.enter_context(stopped(pid))

        def hangs() -> bool | None:
            before = lab.in_hand(GATEWAYS[0])
            time.sleep(1.0)
            return True if before and lab.in_hand(GATEWAYS[0]) == before else None

        lab.home.wait_for(hangs, "a step that waits for the board")
        worker.send(signal.SIGTERM)
        time.sleep(1.0)
        assert worker.running
        assert lab.in_hand(GATEWAYS[0])
    assert worker.stop()[0] == 0
    assert lab.in_hand(GATEWAYS[0]) == []
    lab.gateway(GATEWAYS[0])
    lab.finish(experiment)
    lab.assert_each_job_ran_once(experiment)


def test_a_scheduler_frozen_past_its_term_doubles_nothing_when_it_thaws(lab: Lab) -> None:
    for name in GATEWAYS:
        lab.gateway(name)
    schedulers = [lab.scheduler("server-a"), lab.scheduler("server-b")]
    experiment = lab.submit(2.0)
    lab.wait_for_running(GATEWAYS[1])
    frozen = lab.home.wait_for(lab.active)
    (standby,) = [service for service in schedulers if service is not frozen]
    with stopped(frozen.pid):
        lab.home.wait_for(lambda: lab.active() is standby or None, "the standby's turn")
        done = lab.query("SELECT count(*) FROM job WHERE state = 'finished'")
        lab.home.wait_for(
            lambda: lab.query("SELECT count(*) FROM job WHERE state = 'finished'") != done or None, "progress under the standby"
        )
    lab.home.wait_for(lambda: "standby" in frozen.log.read_text() or None, "the thawed scheduler to notice")
    lab.finish(experiment)
    lab.assert_each_job_ran_once(experiment)
    assert lab.active() is standby
    assert [service.stop()[0] for service in lab.services] == [0, 0, 0, 0]
    lab.home.assert_nothing_runs()


def test_a_scheduler_told_to_stop_hands_over_at_once(lab: Lab) -> None:
    first = lab.scheduler("server-a")
    lab.home.wait_for(lambda: lab.active() is first or None, "the first to be active")
    standby = lab.scheduler("server-b")
    lab.home.wait_for(lambda: "standby" in standby.log.read_text() or None, "the second to wait")
    assert first.stop()[0] == 0
    # Its term does not run any more: either the lock is free, or the standby has it.
    ((holder, expires_at),) = lab.query("SELECT holder, expires_at FROM lock WHERE name = 'scheduler'")
    assert expires_at == 0.0 or f":{standby.pid}:" in holder
    lab.home.wait_for(lambda: lab.active() is standby or None, "the standby's turn")
    assert standby.stop()[0] == 0
