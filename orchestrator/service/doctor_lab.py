"""What ``doctor`` says of a lab's own servers: Redis, the schedulers, the gateways, and whether the clocks agree."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, text
from sqlmodel import col, select

from orchestrator.domain.states import DeviceHealth
from orchestrator.service.views import Check
from orchestrator.store.database import open_database, read_session
from orchestrator.store.tables import Device, Lock
from orchestrator.worker.presence import presence_name
from orchestrator.worker.settings import Settings

#: Leases and the scheduler's lock end by the clocks of different hosts.
MAX_CLOCK_DIFFERENCE_SECS = 2.0


def examine_lab(settings: Settings) -> Iterator[Check]:
    """Return one line for each server and each gateway that has devices or messages."""
    import redis

    url = settings.resolved_redis_url
    waiting: dict[str, int] = {}
    try:
        client: Any = redis.Redis.from_url(url.replace("redis+socket://", "unix://"), socket_connect_timeout=3, socket_timeout=3)
        facts = client.info()
        waiting = {str(key, "utf-8", "replace").removeprefix("gateway."): client.llen(key) for key in client.scan_iter("gateway.*", 1000)}
        yield Check("Redis", "ok", f"{without_password(url)} (version {facts['redis_version']})")
        yield from keeping(facts)
    except (redis.RedisError, ValueError) as error:
        yield Check("Redis", "failed", f"{without_password(url)} does not answer: {error}", "start it, or mend EDGEMATRIX_REDIS_URL")
    yield from _from_database(_read(settings), waiting, time.time())


def keeping(facts: Mapping[str, Any]) -> Iterator[Check]:
    """Say whether this Redis keeps what it is told, by its ``INFO``; nothing when it does."""
    if not int(facts.get("aof_enabled", 0)):
        yield Check("Redis persistence", "warning", "appendonly is off: a restart forgets what is queued", "appendonly yes in redis.conf")
    policy = facts.get("maxmemory_policy")
    if policy != "noeviction":
        yield Check(
            "Redis memory", "warning", f"maxmemory-policy is {policy}: messages may be dropped", "maxmemory-policy noeviction in redis.conf"
        )


def without_password(url: str) -> str:
    """The address as it may be shown."""
    head, separator, tail = url.rpartition("@")
    return f"{head.split('://')[0]}://…@{tail}" if separator else url


@dataclass(frozen=True)
class _Told:
    """What the database says; nothing where it says nothing, since the line "database" has told what is wrong with it."""

    locks: Mapping[str, Lock] = field(default_factory=dict)
    devices: Mapping[str, int] = field(default_factory=dict)
    clock: float | None = None


def _read(settings: Settings) -> _Told:
    try:
        engine = open_database(settings.resolved_database_url)
        try:
            with read_session(engine) as session:
                clock = None
                if engine.dialect.name == "postgresql":
                    clock = float(session.connection().execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
                in_use = col(Device.health) != DeviceHealth.RETIRED
                counted = session.execute(select(Device.gateway, func.count()).where(in_use).group_by(col(Device.gateway))).all()
                locks = session.exec(select(Lock)).all()
                return _Told({lock.name: lock for lock in locks}, {gateway: int(count) for gateway, count in counted}, clock)
        finally:
            engine.dispose()
    except Exception:  # noqa: BLE001 - see _Told
        return _Told()


def _from_database(told: _Told, waiting: Mapping[str, int], now: float) -> Iterator[Check]:
    if told.clock is not None and abs(now - told.clock) > MAX_CLOCK_DIFFERENCE_SECS:
        found = f"this host's clock is {now - told.clock:+.1f} s off the database server's; leases end by both"
        yield Check("clocks", "failed", found, "let all hosts keep the time: systemctl enable --now systemd-timesyncd (or chrony)")
    yield _scheduler(told.locks.get("scheduler"), now)
    served = {name.removeprefix(presence_name("")) for name, lock in told.locks.items() if lock.expires_at >= now and name != "scheduler"}
    for gateway in sorted({*told.devices, *waiting, *served}):
        count = told.devices.get(gateway, 0)
        about = f"{count} device{'' if count == 1 else 's'}, messages waiting: {waiting.get(gateway, 0)}"
        yield _gateway(told.locks.get(presence_name(gateway)), gateway, about, now)


def _scheduler(lock: Lock | None, now: float) -> Check:
    if lock is None or lock.expires_at < now:
        return Check("scheduler", "warning", "none is active", "on one host of the lab: edgematrix scheduler")
    return Check("scheduler", "ok", f"active on {lock.holder.split(':')[0]}")


def _gateway(lock: Lock | None, gateway: str, about: str, now: float) -> Check:
    if lock is not None and lock.expires_at >= now:
        return Check(f"gateway {gateway}", "ok", f"served by {lock.holder.split(':')[0]}; {about}")
    return Check(f"gateway {gateway}", "warning", f"nobody serves it; {about}", f"on that gateway: edgematrix worker --gateway {gateway}")
