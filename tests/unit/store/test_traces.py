"""What may be relied on when a time series is kept as Parquet."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from agent import protocol
from agent.errors import DigestMismatch
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.errors import TraceDamaged
from orchestrator.store.traces import parse_trace, publish_trace, read_trace, write_trace


def queries(rows: int, seed: int = 7) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    invoke = random.lognormal(12, 0.05, rows).astype("<u4")
    pre, post = random.integers(2_000, 4_000, rows).astype("<u4"), random.integers(900, 1_100, rows).astype("<u4")
    return {
        "phase": np.full(rows, 4, "u1"),
        "sample": (np.arange(rows) % 300).astype("<u4"),
        "start_ns": np.cumsum(invoke.astype("<u8") + pre + post + 800).astype("<u8"),
        "pre_ns": pre,
        "invoke_ns": invoke,
        "post_ns": post,
    }


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path))


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, column in expected.items():
        assert found[name].dtype == column.dtype, name
        assert found[name].shape == column.shape, name
        np.testing.assert_array_equal(found[name], column)


def test_a_published_trace_is_found_by_its_digest_with_its_rows_and_size(store: ArtifactStore) -> None:
    columns = queries(5_000)
    info = publish_trace(store, columns)
    assert info.rows == 5_000
    assert info.sha256 == hashlib.sha256(store.get_bytes(info.sha256)).hexdigest()
    assert info.size_bytes == store.size_bytes(info.sha256)
    assert_same(read_trace(store, info.sha256), columns)


@pytest.mark.parametrize(
    "stream",
    [protocol.QUERY_COLUMNS, protocol.sample_columns(5), protocol.output_columns(10), protocol.TELEMETRY_COLUMNS, protocol.EVENT_COLUMNS],
    ids=["queries", "samples", "outputs", "telemetry", "events"],
)
@pytest.mark.parametrize("rows", [0, 1, 1_000])
def test_every_stream_of_the_protocol_comes_back_bit_for_bit(stream: tuple[tuple[str, str], ...], rows: int) -> None:
    random = np.random.default_rng(rows)
    columns = {}
    for name, kind in stream:
        dtype = np.dtype(kind)
        raw = np.frombuffer(random.bytes(rows * dtype.itemsize), dtype.base)
        columns[name] = raw.reshape(rows, *dtype.shape)
    found = parse_trace(write_trace(columns))
    assert list(found) == list(columns)
    for name, column in columns.items():
        assert (found[name].dtype, found[name].shape) == (column.dtype, column.shape)
        assert found[name].tobytes() == column.tobytes()  # also NaN, by its bits


@given(
    arrays.arrays(
        st.sampled_from(["u1", "i1", "<u2", "<u4", "<u8", "<i4", "<i8", "<f4", "<f8"]), st.tuples(st.integers(0, 40), st.integers(1, 5))
    ),
    st.sampled_from(["value", "value_ns"]),
)
def test_any_numbers_of_any_width_come_back_bit_for_bit(values: np.ndarray, name: str) -> None:
    for column in (values, values[:, 0]):
        found = parse_trace(write_trace({name: column}))[name]
        assert (found.dtype, found.shape, found.tobytes()) == (column.dtype, column.shape, column.tobytes())


def test_only_the_columns_asked_for_are_read_in_the_order_asked(store: ArtifactStore) -> None:
    columns = queries(100)
    info = publish_trace(store, columns)
    found = read_trace(store, info.sha256, ["invoke_ns", "phase"])
    assert_same(found, {"invoke_ns": columns["invoke_ns"], "phase": columns["phase"]})


def test_the_same_columns_have_the_same_digest() -> None:
    assert write_trace(queries(1_000)) == write_trace(queries(1_000))
    assert write_trace(queries(1_000)) != write_trace(queries(1_000, seed=8))


def test_pandas_reads_a_trace_without_edgematrix() -> None:
    columns = {**queries(50), "values": np.arange(150, dtype="<f4").reshape(50, 3)}
    frame = pd.read_parquet(io.BytesIO(write_trace(columns)))
    assert list(frame.columns) == list(columns)
    np.testing.assert_array_equal(frame["invoke_ns"].to_numpy(), columns["invoke_ns"])
    np.testing.assert_array_equal(np.stack(frame["values"].to_numpy()), columns["values"])


def test_a_frame_is_made_of_what_was_read() -> None:
    frame = pd.DataFrame(parse_trace(write_trace(queries(50))))
    assert frame["start_ns"].is_monotonic_increasing


def test_columns_in_a_row_of_a_larger_array_are_written_right() -> None:
    table = np.arange(60, dtype="<u4").reshape(20, 3)
    columns = {"every_third": table[:, 1], "transposed": table.reshape(3, 20).T}
    assert_same(parse_trace(write_trace(columns)), columns)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises((ValueError, pa.ArrowInvalid)):
        write_trace({"a": np.arange(3), "b": np.arange(4)})


def test_more_than_two_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="rows, N"):
        write_trace({"a": np.zeros((2, 2, 2))})


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(TraceDamaged, match="'invok_ns'") as caught:
        parse_trace(write_trace(queries(3)), ["invok_ns"])
    assert "invoke_ns" in caught.value.remedy


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_torn_trace_is_damaged_and_nothing_else(share: float) -> None:
    data = write_trace(queries(20_000))
    with pytest.raises(TraceDamaged, match="Parquet"):
        parse_trace(data[: int(len(data) * share)])


def test_whatever_bytes_change_the_trace_is_read_or_damaged() -> None:
    data = write_trace({"values": np.arange(30, dtype="<f4").reshape(10, 3), **queries(10)})
    random = np.random.default_rng(11)
    damaged = 0
    for _ in range(400):
        changed = bytearray(data)
        for position in random.integers(0, len(data), 3):
            changed[position] = random.integers(0, 256)
        try:
            parse_trace(bytes(changed))
        except TraceDamaged:
            damaged += 1
    assert damaged > 100


def test_a_trace_damaged_on_the_disk_is_found_by_its_digest(store: ArtifactStore) -> None:
    info = publish_trace(store, queries(1_000))
    place = store.local_path(info.sha256)
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    with pytest.raises(DigestMismatch):
        read_trace(store, info.sha256)


def test_a_trace_of_many_row_groups_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.store import traces

    monkeypatch.setattr(traces, "_ROWS_PER_GROUP", 1_000)
    columns = {**queries(4_500), "values": np.arange(9_000, dtype="<f4").reshape(4_500, 2)}
    data = write_trace(columns)
    assert pq.ParquetFile(io.BytesIO(data)).num_row_groups == 5
    assert_same(parse_trace(data), columns)
