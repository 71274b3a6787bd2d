"""The streams of a run as they came from the device, checked: nothing is computed from columns that did not pass here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agent.errors import DeviceReplyInvalid
from agent.protocol import EVENT_CODES, EVENT_COLUMNS, PHASES, PROBE_COLUMNS, QUERY_COLUMNS, TELEMETRY_COLUMNS

#: Columns of a stream: a mapping of names to arrays of one length, or a DataFrame.
Columns: TypeAlias = Mapping[str, Any]
Arrays: TypeAlias = dict[str, NDArray[Any]]

#: A duration or time beyond this (104 days in nanoseconds) is no measurement; sums of three stay far inside 64 bits.
_LONGEST_NS = 2**53
#: A monotonic clock beyond this (146 years of uptime) is none.
_LATEST_NS = 2**62
_DAMAGED = "the agent on the device wrote what the protocol does not allow; reinstall it and run again"


def checked_queries(queries: Columns | None) -> Arrays:
    """Check the ``queries`` stream; a missing one is empty. Raises DeviceReplyInvalid when it breaks the protocol."""
    if queries is None:
        return {name: np.empty(0, dtype=kind) for name, kind in QUERY_COLUMNS}
    columns = _complete("queries", queries, QUERY_COLUMNS)
    if any(column.dtype.kind != "u" for column in columns.values()):
        raise DeviceReplyInvalid("the columns of the queries stream do not fit together", _DAMAGED)
    if columns["phase"].size and int(columns["phase"].max()) >= len(PHASES):
        raise DeviceReplyInvalid(f"a query names phase {int(columns['phase'].max())}; there are {len(PHASES)}", _DAMAGED)
    for name in ("start_ns", "pre_ns", "invoke_ns", "post_ns"):
        if columns[name].size and int(columns[name].max()) > _LONGEST_NS:
            raise DeviceReplyInvalid(f"a query has {name} = {int(columns[name].max())}, more than 104 days", _DAMAGED)
    return columns


def checked_telemetry(telemetry: Columns | None, origin_ns: int) -> Arrays:
    """Check the telemetry and bring its times, raw monotonic ones, to the runner's origin, from which queries count.

    Earlier times are negative. Raises DeviceReplyInvalid when the stream breaks the protocol.
    """
    if telemetry is None:
        return {name: np.empty(0, dtype=np.int64 if name == "time_ns" else kind) for name, kind in TELEMETRY_COLUMNS}
    return _from_origin("telemetry", _complete("telemetry", telemetry, TELEMETRY_COLUMNS), origin_ns)


def checked_events(events: Columns | None, origin_ns: int) -> Arrays:
    """Check the events, their times brought to the runner's origin as those of the telemetry, and sort them by time.

    Raises DeviceReplyInvalid when the stream breaks the protocol.
    """
    if events is None:
        return {name: np.empty(0, dtype=np.int64 if name == "time_ns" else kind) for name, kind in EVENT_COLUMNS}
    columns = _from_origin("events", _complete("events", events, EVENT_COLUMNS), origin_ns)
    if columns["code"].size and int(columns["code"].max()) >= len(EVENT_CODES):
        raise DeviceReplyInvalid(f"an event has code {int(columns['code'].max())}; there are {len(EVENT_CODES)}", _DAMAGED)
    order = np.argsort(columns["time_ns"], kind="stable")
    return {name: column[order] for name, column in columns.items()}


def checked_probes(probes: Columns | None) -> Arrays:
    """Check the ``probes`` stream; a missing one is empty. Raises DeviceReplyInvalid when it breaks the protocol."""
    if probes is None:
        return {name: np.empty(0, dtype=kind) for name, kind in PROBE_COLUMNS}
    columns = _complete("probes", probes, PROBE_COLUMNS)
    if columns["start_ns"].size and int(columns["start_ns"].max()) > _LONGEST_NS:
        raise DeviceReplyInvalid(f"a probe has start_ns = {int(columns['start_ns'].max())}, more than 104 days", _DAMAGED)
    return columns


def _complete(stream: str, given: Columns, wanted: tuple[tuple[str, str], ...]) -> Arrays:
    missing = [name for name, _ in wanted if name not in given]
    if missing:
        raise DeviceReplyInvalid(f"the {stream} stream has no column {missing[0]!r}", _DAMAGED)
    columns = {name: np.asarray(given[name]) for name, _ in wanted}
    if len({column.shape for column in columns.values()}) != 1:
        raise DeviceReplyInvalid(f"the columns of the {stream} stream do not fit together", _DAMAGED)
    return columns


def _from_origin(stream: str, columns: Arrays, origin_ns: int) -> Arrays:
    latest = int(columns["time_ns"].max()) if columns["time_ns"].size else 0
    if latest > _LATEST_NS or not 0 <= origin_ns <= _LATEST_NS:
        raise DeviceReplyInvalid(
            f"the {stream} reaches {latest} ns and the runner started at {origin_ns} ns, which no clock shows", _DAMAGED
        )
    return {**columns, "time_ns": columns["time_ns"].astype(np.int64) - origin_ns}
