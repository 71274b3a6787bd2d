"""The spool: what a device wrote is what the orchestrator reads, and nothing a device sends can hurt the reader."""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from agent.errors import FolderUnwritable
from agent.protocol import QUERIES, QUERY_COLUMNS, output_columns, sample_columns
from agent.spool import MAX_BLOCK_BYTES, SpoolDamaged, SpoolParser, SpoolWriter, count_rows, read_spool


def _queries(rows: int, start: int = 0, gap_ns: int = 60_000) -> dict[str, np.ndarray]:
    numbers = np.arange(rows)
    return {
        "phase": np.full(rows, 4),
        "sample": numbers % 7,
        "start_ns": np.uint64(start) + np.uint64(gap_ns) * numbers.astype(np.uint64),
        "pre_ns": numbers * 3,
        "invoke_ns": numbers * 5 + 50_000,
        "post_ns": numbers % 11,
    }


@pytest.fixture
def spool(tmp_path: Path) -> bytes:
    """Three blocks of queries: 100, 50 and 25 rows."""
    path = tmp_path / "queries.spool"
    with SpoolWriter(path, QUERIES, QUERY_COLUMNS) as writer:
        for number, rows in enumerate((100, 50, 25)):
            writer.write(_queries(rows, start=number * 10**9))
    return path.read_bytes()


def test_what_was_written_is_read_back(spool: bytes) -> None:
    contents = read_spool(spool, QUERIES)
    assert (contents.stream, contents.block_count, contents.torn_bytes, contents.format) == (QUERIES, 3, 0, 1)
    assert [(name, array.dtype.str.replace("|", "")) for name, array in contents.columns.items()] == [
        tuple(column) for column in QUERY_COLUMNS
    ]
    for name, expected in _queries(50, start=10**9).items():
        np.testing.assert_array_equal(contents.columns[name][100:150], expected)


def test_six_million_queries_take_less_than_130_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "queries.spool"
    with SpoolWriter(path, QUERIES, QUERY_COLUMNS) as writer:
        writer.write(_queries(16_384))
    assert path.stat().st_size / 16_384 * 6_000_000 < 130e6


def test_a_query_longer_than_four_seconds_keeps_its_time(tmp_path: Path) -> None:
    path = tmp_path / "queries.spool"
    queries = _queries(3, gap_ns=9 * 10**9)
    queries["invoke_ns"] = np.array([1, 9 * 10**9, 2**63], np.uint64)
    with SpoolWriter(path, QUERIES, QUERY_COLUMNS) as writer:
        writer.write(queries)
    columns = read_spool(path).columns
    np.testing.assert_array_equal(columns["invoke_ns"], queries["invoke_ns"])
    np.testing.assert_array_equal(columns["start_ns"], queries["start_ns"])


def test_samples_and_outputs_are_read_back_with_their_nan(tmp_path: Path) -> None:
    rows = {"sample": np.arange(4), "digest": np.array([0, 1, 2**64 - 1, 5], np.uint64), "finite": np.array([1, 0, 1, 1])}
    rows.update(confidence=np.array([0.5, np.nan, 1, 0], np.float32), class_0=np.array([3, -1, 0, 2]), score_0=np.ones(4, np.float32))
    with SpoolWriter(tmp_path / "samples.spool", "samples", sample_columns(1)) as writer:
        writer.write(rows)
    for name, array in read_spool(tmp_path / "samples.spool").columns.items():
        np.testing.assert_array_equal(array, rows[name])
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    with SpoolWriter(tmp_path / "outputs.spool", "outputs", output_columns(3)) as writer:
        writer.write({"sample": np.arange(4), "values": values})
        writer.write({"sample": np.arange(4), "values": values * 2})
    np.testing.assert_array_equal(read_spool(tmp_path / "outputs.spool").columns["values"], np.concatenate([values, values * 2]))


def test_a_spool_without_blocks_has_empty_columns_of_the_right_shape(tmp_path: Path) -> None:
    SpoolWriter(tmp_path / "outputs.spool", "outputs", output_columns(3)).close()
    columns = read_spool(tmp_path / "outputs.spool").columns
    assert columns["values"].shape == (0, 3)
    assert columns["sample"].shape == (0,)


def test_a_torn_tail_is_cut_off_and_counted_wherever_the_writer_died(spool: bytes) -> None:
    header_bytes = len(spool) - len(_blocks(spool)[0])
    ends = [header_bytes, *_block_ends(spool)]
    for length in range(header_bytes, len(spool) + 1):
        contents = read_spool(spool[:length])
        complete = sum(end <= length for end in ends) - 1
        assert contents.block_count == complete
        assert contents.torn_bytes == length - ends[complete]
        assert len(contents.columns["sample"]) == (0, 100, 150, 175)[complete]


def test_a_last_block_with_wrong_values_is_a_torn_tail(spool: bytes) -> None:
    contents = read_spool(spool[:-1] + bytes([spool[-1] ^ 0xFF]))
    assert contents.block_count == 2
    assert contents.torn_bytes > 0


def test_zeros_behind_the_last_block_are_a_torn_tail(spool: bytes) -> None:
    contents = read_spool(spool + bytes(4096))
    assert (contents.block_count, contents.torn_bytes) == (3, 4096)


def test_damage_before_the_tail_is_an_error(spool: bytes) -> None:
    first_end = _block_ends(spool)[0]
    with pytest.raises(SpoolDamaged, match="checksum of its values"):
        read_spool(spool[: first_end - 1] + bytes([spool[first_end - 1] ^ 1]) + spool[first_end:])


def test_a_lost_block_is_an_error(spool: bytes) -> None:
    first, second, _ = _block_ends(spool)
    with pytest.raises(SpoolDamaged, match="sequence"):
        read_spool(spool[:first] + spool[second:])


def test_a_spool_of_another_stream_is_refused(spool: bytes) -> None:
    with pytest.raises(SpoolDamaged, match="not 'samples'"):
        read_spool(spool, "samples")


def test_more_rows_than_allowed_are_refused(spool: bytes) -> None:
    with pytest.raises(SpoolDamaged, match="174 rows"):
        read_spool(spool, max_rows=174)
    assert len(read_spool(spool, max_rows=175).columns["sample"]) == 175


@pytest.mark.parametrize(
    "columns",
    [
        [],
        "sample",
        [["sample", "O"]],
        [["sample", "<f2"]],
        [["sample", "<U9999999"]],
        [["values", "(99999999,)<f4"]],
        [["values", "(2,2)<f4"]],
        [["values", "(0,)<f4"]],
        [["../../etc/passwd", "u1"]],
        [["sample", "u1"], ["sample", "u1"]],
        [["sample"]],
        [[1, 2]],
    ],
)
def test_a_header_with_hostile_columns_is_refused(columns: object) -> None:
    with pytest.raises(SpoolDamaged):
        read_spool(_header({"stream": "queries", "columns": columns}))


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 30_000, b'{"stream":7,"columns":[["a","u1"]]}', b"1" * 6_000, b"\xff\xfe"])
def test_a_header_that_is_not_the_right_json_is_refused(text: bytes) -> None:
    with pytest.raises(SpoolDamaged):
        read_spool(_raw_header(text))


def test_a_header_of_an_unknown_format_says_what_to_do() -> None:
    with pytest.raises(SpoolDamaged) as caught:
        read_spool(struct.pack("<8sIII", b"EMSPOOL\n", 99, 0, 0))
    assert "same release" in caught.value.remedy


def test_a_header_longer_than_allowed_is_refused_before_it_is_read() -> None:
    with pytest.raises(SpoolDamaged, match="4294967295 bytes"):
        read_spool(struct.pack("<8sIII", b"EMSPOOL\n", 1, 0xFFFFFFFF, 0))


@pytest.mark.parametrize(
    ("length", "rows"), [(0xFFFFFFFF, 1), (MAX_BLOCK_BYTES + 1, 1), (10, 0), (10, 11), (10, 0xFFFFFFFF), (10, 3), (10, 10)]
)
def test_a_block_with_hostile_sizes_is_refused(length: int, rows: int) -> None:
    payload = bytes(min(length, 10))
    block = struct.pack("<IIII", length, zlib.crc32(payload), 0, rows)
    hostile = _header({"stream": "queries", "columns": [["sample", "<u4"]]}) + block + struct.pack("<I", zlib.crc32(block)) + payload
    with pytest.raises(SpoolDamaged):
        read_spool(hostile)


def test_an_unknown_encoding_is_refused() -> None:
    payload = b"\x01" + bytes(12)
    block = struct.pack("<IIII", len(payload), zlib.crc32(payload), 0, 1)
    hostile = _header({"stream": "queries", "columns": [["sample", "<u4"]]}) + block + struct.pack("<I", zlib.crc32(block)) + payload
    with pytest.raises(SpoolDamaged, match="encoding"):
        read_spool(hostile)


def test_random_damage_never_does_more_than_shorten_or_refuse(spool: bytes) -> None:
    random_source = random.Random(20261121)
    undamaged = read_spool(spool).columns
    for _ in range(3_000):
        damaged = bytearray(spool)
        for _ in range(random_source.randint(1, 4)):
            damaged[random_source.randrange(len(damaged))] = random_source.randrange(256)
        if random_source.random() < 0.3:
            del damaged[random_source.randrange(len(damaged)) :]
        if random_source.random() < 0.2:
            damaged += random_source.randbytes(40) if hasattr(random_source, "randbytes") else bytes(40)
        try:
            read = read_spool(bytes(damaged)).columns
        except SpoolDamaged:
            continue
        for name, values in read.items():
            np.testing.assert_array_equal(values, undamaged[name][: len(values)])


def test_reading_as_it_arrives_gives_the_same_as_reading_it_whole(spool: bytes) -> None:
    parser = SpoolParser(QUERIES)
    blocks = []
    for start in range(0, len(spool), 13):
        blocks += parser.feed(spool[start : start + 13])
    assert parser.finish() == 0
    assert (parser.block_count, parser.row_count) == (3, 175)
    for name, whole in read_spool(spool).columns.items():
        np.testing.assert_array_equal(np.concatenate([block[name] for block in blocks]), whole)


def test_rows_are_counted_without_reading_the_values(spool: bytes, tmp_path: Path) -> None:
    path = tmp_path / "copy.spool"
    for length, rows in ((len(spool), 175), (len(spool) - 1, 150), (_block_ends(spool)[0], 100)):
        path.write_bytes(spool[:length])
        assert count_rows(path) == rows
    path.write_bytes(b"something else entirely")
    with pytest.raises(SpoolDamaged):
        count_rows(path)


def test_an_existing_spool_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "queries.spool"
    path.write_bytes(b"precious")
    with pytest.raises(FolderUnwritable):
        SpoolWriter(path, QUERIES, QUERY_COLUMNS)
    assert path.read_bytes() == b"precious"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderUnwritable) as caught:
        SpoolWriter(tmp_path / "absent" / "queries.spool", QUERIES, QUERY_COLUMNS)
    assert str(tmp_path / "absent") in caught.value.message


@pytest.mark.parametrize(
    "change", [{"sample": np.array([-1])}, {"sample": np.array([2**32])}, {"phase": np.array([256])}, {"sample": np.array([1, 2])}]
)
def test_values_that_do_not_fit_their_column_are_never_written_wrong(tmp_path: Path, change: dict[str, np.ndarray]) -> None:
    path = tmp_path / "queries.spool"
    with SpoolWriter(path, QUERIES, QUERY_COLUMNS) as writer, pytest.raises(ValueError, match=r"sample|phase|pre_ns|start_ns"):
        writer.write({**_queries(1), **change})
    assert read_spool(path).block_count == 0


def test_columns_of_another_spool_are_refused(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "queries.spool", QUERIES, QUERY_COLUMNS) as writer, pytest.raises(ValueError, match="are not those"):
        writer.write({"sample": np.arange(3)})


def _raw_header(text: bytes) -> bytes:
    return struct.pack("<8sIII", b"EMSPOOL\n", 1, len(text), zlib.crc32(text)) + text


def _header(layout: object) -> bytes:
    return _raw_header(json.dumps(layout).encode())


def _blocks(spool: bytes) -> tuple[bytes, int]:
    length = struct.unpack_from("<8sIII", spool)[2]
    return spool[20 + length :], 20 + length


def _block_ends(spool: bytes) -> list[int]:
    _, position = _blocks(spool)
    ends = []
    while position < len(spool):
        position += 20 + struct.unpack_from("<I", spool, position)[0]
        ends.append(position)
    return ends


def test_reading_takes_the_size_of_the_columns_and_little_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "queries.spool"
    with SpoolWriter(path, QUERIES, QUERY_COLUMNS) as writer:
        for block in range(100):
            writer.write(_queries(4096, start=block * 10**9))
    tracemalloc.start()
    try:
        contents = read_spool(path, QUERIES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = sum(column.nbytes for column in contents.columns.values())
    assert len(contents.columns["sample"]) == 409_600
    # Half of the file is one piece of reading here, and its blocks another; a large file has the same pieces.
    assert peak < size + 3 * 8 * 1024 * 1024


def test_a_block_that_claims_more_rows_than_its_bytes_hold_reserves_no_memory_for_them(spool: bytes) -> None:
    first = len(_header_of(spool))
    length, checksum, sequence, _ = struct.unpack_from("<IIII", spool, first)
    claims = struct.pack("<IIII", length, checksum, sequence, length)
    hostile = spool[:first] + claims + struct.pack("<I", zlib.crc32(claims)) + spool[first + 20 :]
    tracemalloc.start()
    try:
        with pytest.raises(SpoolDamaged, match="rows do not fit"):
            read_spool(hostile)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


def _header_of(spool: bytes) -> bytes:
    return spool[: 20 + struct.unpack_from("<I", spool, 12)[0]]
