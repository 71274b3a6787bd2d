"""A gateway process: one drive per job at a time, and a folder that may be lost at any moment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine

from agent.errors import MissingRuntime
from orchestrator.dispatch.gateway import Gateway
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.database import migrate, open_database, session
from orchestrator.store.tables import Device


@pytest.fixture
def engine(sqlite_url: str) -> Engine:
    return open_database(sqlite_url)


@pytest.fixture
def gateway(engine: Engine, tmp_path: Path) -> Gateway:
    return Gateway(engine, ArtifactStore(str(tmp_path / "artifacts")), tmp_path / "gateway", lambda: 0.0, "local")


def test_one_job_is_driven_by_one_and_others_are_driven_meanwhile(gateway: Gateway) -> None:
    with gateway.job_lock("a", 1) as first, gateway.job_lock("a", 1) as second, gateway.job_lock("b", 1) as other:
        assert (first, second, other) == (True, False, True)
    with gateway.job_lock("a", 1) as again:
        assert again
    assert list((gateway.folder / "locks").iterdir()) == []


def test_another_process_of_the_gateway_is_kept_out_too_and_a_dead_one_keeps_nobody_out(gateway: Gateway, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from orchestrator.dispatch.gateway import Gateway\n"
        "with Gateway(None, None, Path(sys.argv[1]), time.time, 'local').job_lock('a', 1) as mine:\n"
        "    print(mine, flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(gateway.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with gateway.job_lock("a", 1) as mine:
            assert not mine
        holder.kill()
        holder.wait()
    with gateway.job_lock("a", 1) as mine:
        assert mine


def test_threads_that_come_and_go_never_hold_one_job_together(gateway: Gateway) -> None:
    inside, most, taken = 0, 0, 0
    count = threading.Lock()

    def work() -> None:
        nonlocal inside, most, taken
        for _ in range(200):
            with gateway.job_lock("a", 1) as mine:
                if mine:
                    with count:
                        inside += 1
                        most, taken = max(most, inside), taken + 1
                    with count:
                        inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert taken > 0


def test_a_gateway_whose_folder_was_lost_builds_the_same_agent_again(gateway: Gateway) -> None:
    built = gateway.package
    shutil.rmtree(gateway.folder)
    assert gateway.package == built
    assert built.path.exists()


def test_what_was_pulled_of_a_run_is_forgotten_and_no_more(gateway: Gateway) -> None:
    (gateway.run_folder("a.1", 1) / "queries.spool").write_bytes(b"x")
    (gateway.run_folder("b.1", 1) / "queries.spool").write_bytes(b"x")
    gateway.forget_run("a.1", 1)
    gateway.forget_run("never.1", 1)
    assert [path.name for path in (gateway.folder / "runs").iterdir()] == ["b.1"]


def test_an_environment_that_a_device_lacks_is_told_with_the_command_that_adds_it(gateway: Gateway, engine: Engine) -> None:
    migrate(engine)
    with session(engine) as opened:
        device = Device(name="pi", profile="p", gateway="g", transport="local", address={}, root="/r", labels={}, facts={}, added_at=0.0)
        opened.add(device)
        opened.flush()
        with pytest.raises(MissingRuntime, match="'litert'") as caught:
            gateway.environment_of(opened, device, "litert")
    assert caught.value.remedy == "edgematrix env add litert --python PATH --device pi"


def test_one_connection_serves_all_jobs_of_a_device_until_it_is_closed(gateway: Gateway) -> None:
    device = Device(name="pi", profile="p", gateway="g", transport="local", address={}, root="/r", labels={}, facts={}, added_at=0.0)
    first = gateway.agent_for(device, ["python3"])
    assert gateway.agent_for(device, ["other"]).transport is first.transport
    gateway.close()
    assert gateway.agent_for(device, ["python3"]).transport is not first.transport
