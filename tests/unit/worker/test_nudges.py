"""What the scheduler sends to gateways, and that a gateway which is away does not fill Redis."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator import __version__
from orchestrator.worker import nudges as module
from orchestrator.worker.celery_app import make_app
from orchestrator.worker.nudges import Nudges


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server(redis_socket: Path, redis_url: str) -> Iterator[Any]:
    with redis.Redis(unix_socket_path=str(redis_socket)) as client:
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nudges(redis_socket: Path, server: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nudges]:
    monkeypatch.setattr(module, "MOST_WAITING", 5)
    app = make_app(f"redis+socket://{redis_socket}")
    yield Nudges(app, clock)
    app.close()


def send(nudges: Nudges, clock: Clock, gateway: str, count: int) -> None:
    for number in range(count):
        clock.now += 1.0
        nudges.drive(gateway, f"job-{number}", number)


def test_a_nudge_names_job_fence_and_version_and_a_check_its_device(nudges: Nudges, server: Any) -> None:
    nudges.drive("attic", "job-7", 3)
    nudges.check("attic", "pi5-a")
    messages = [json.loads(message) for message in server.lrange("gateway.attic", 0, -1)]
    told = {message["headers"]["task"]: json.loads(base64.b64decode(message["body"]))[0] for message in messages}
    assert told == {"edgematrix.drive": ["job-7", 3, __version__], "edgematrix.check": ["pi5-a", __version__]}


def test_messages_for_a_gateway_that_is_away_do_not_heap_up_and_others_get_theirs(nudges: Nudges, server: Any, clock: Clock) -> None:
    send(nudges, clock, "away", 20)
    send(nudges, clock, "cellar", 2)
    assert server.llen("gateway.away") == 5
    assert server.llen("gateway.cellar") == 2


def test_a_gateway_that_is_back_is_told_again(nudges: Nudges, server: Any, clock: Clock) -> None:
    send(nudges, clock, "away", 20)
    server.delete("gateway.away")  # what taking the last message does
    send(nudges, clock, "away", 1)
    assert server.llen("gateway.away") == 1
