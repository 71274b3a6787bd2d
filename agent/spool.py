"""The append-only block files that a device writes and the orchestrator reads while they grow.

One writer per file. A file is a header, then blocks::

    header   magic (8 bytes), format, JSON length, CRC-32 of the JSON (u32 each), JSON of {"stream": ..., "columns": [[name, dtype], ...]}
    block    payload length, CRC-32 of the payload, sequence from 0, row count, CRC-32 of these four (u32 each), payload
    payload  for each column: one byte of encoding, then its values: 0 the plain values, 1 a u8 base and u4 offsets from it

Everything is little-endian. Only ``<u8`` columns named ``*_ns`` use encoding 1, in every block where their span fits (4.29 s): a query of
four stamps takes 21 bytes. A writer that dies leaves a torn tail, which is cut off and counted; damage before the tail is an error. A
reader believes no size before it has checked it, so a hostile file raises :class:`SpoolDamaged` and never exhausts memory.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from agent.errors import InfrastructureError, storage_error

#: Format history: 1 first release. Readers accept the present format and the one before it.
SPOOL_FORMAT = 1
READABLE_FORMATS = (1,)

MAX_HEADER_BYTES = 64 * 1024
MAX_BLOCK_BYTES = 64 * 1024 * 1024
MAX_ROWS = 1 << 28

_MAGIC = b"EMSPOOL\n"
_HEADER = struct.Struct("<8sIII")
_BLOCK = struct.Struct("<IIII")
_CRC = struct.Struct("<I")
_BASE = struct.Struct("<Q")
_BLOCK_HEADER_BYTES = _BLOCK.size + _CRC.size
_PLAIN, _BASE_AND_OFFSETS = 0, 1
_SCALARS = {"u1", "i1", "<u2", "<u4", "<u8", "<i4", "<i8", "<f4", "<f8"}
_SUB_ARRAY = re.compile(r"\(([1-9][0-9]{0,7}),\)<f4")
_COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_READ_BYTES = 4 * 1024 * 1024

Columns = Dict[str, np.ndarray]


class SpoolDamaged(InfrastructureError):
    """A spool holds what its writer cannot have written."""

    code = "spool_damaged"


@dataclass(frozen=True)
class SpoolContents:
    """All rows of a spool: one array per column, ``torn_bytes`` cut off at the end."""

    stream: str
    columns: Columns
    block_count: int
    torn_bytes: int
    format: int


class SpoolWriter:
    """Write one spool: the file must not exist yet.

    Raises :class:`DiskFull` or :class:`FolderUnwritable` (from the constructor too) when the file system refuses, ValueError for columns
    that do not match.
    """

    def __init__(self, path: Path, stream: str, columns: Sequence[Tuple[str, str]]) -> None:
        self._path = path
        self._columns = [(name, text, _dtype(text)) for name, text in columns]
        layout = {"stream": stream, "columns": [[name, dtype] for name, dtype in columns]}
        text = json.dumps(layout, separators=(",", ":")).encode()
        _read_layout(text)
        self._sequence = 0
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o644)
        except OSError as error:
            raise storage_error(error, path) from error
        self._append(_HEADER.pack(_MAGIC, SPOOL_FORMAT, len(text), zlib.crc32(text)) + text)

    def write(self, columns: Mapping[str, np.ndarray]) -> None:
        """Append one block. Every column has the same number of rows; integers must fit their column's type. No rows, no block."""
        if set(columns) != {name for name, _, _ in self._columns}:
            raise ValueError(f"columns {sorted(columns)} are not those of the spool {[name for name, _, _ in self._columns]}")
        rows = len(columns[self._columns[0][0]])
        if rows == 0:
            return
        parts: List[bytes] = []
        for name, _, dtype in self._columns:
            values = _as_dtype(name, columns[name], dtype)
            if len(values) != rows:
                raise ValueError(f"column {name} has {len(values)} rows, the first one {rows}")
            parts += _encode(name, values)
        payload = b"".join(parts)
        if len(payload) > MAX_BLOCK_BYTES:
            raise ValueError(f"a block of {len(payload)} bytes is more than the {MAX_BLOCK_BYTES} allowed; write fewer rows at once")
        header = _BLOCK.pack(len(payload), zlib.crc32(payload), self._sequence, rows)
        self._append(header + _CRC.pack(zlib.crc32(header)) + payload)
        self._sequence += 1

    def close(self) -> None:
        """Close the file; harmless when closed already."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _append(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            raise storage_error(error, self._path) from error


class SpoolParser:
    """Read a spool piece by piece, as it arrives from a device.

    ``feed`` returns the blocks that became complete; ``stream``, ``columns`` and ``format`` are known (not None) once the header was read.
    ``finish`` says how many bytes of a torn tail were left.
    """

    def __init__(self, expected_stream: Optional[str] = None, max_rows: int = MAX_ROWS) -> None:
        self.stream: Optional[str] = None
        self.columns: Optional[List[Tuple[str, str]]] = None
        self.format: Optional[int] = None
        self.block_count = 0
        self.row_count = 0
        self._expected_stream = expected_stream
        self._max_rows = max_rows
        self._buffer = bytearray()

    def feed(self, data: Union[bytes, memoryview]) -> List[Columns]:
        """Take the next bytes of the file. Raises :class:`SpoolDamaged`."""
        self._buffer += data
        if self.columns is None and not self._read_header():
            return []
        blocks: List[Columns] = []
        while True:
            block = self._read_block()
            if block is None:
                return blocks
            blocks.append(block)

    def finish(self) -> int:
        """Return the bytes of the torn tail. Raises :class:`SpoolDamaged` when not even the header is complete."""
        if self.columns is None:
            raise SpoolDamaged(f"the header is incomplete: {len(self._buffer)} bytes", _REMEDY)
        return len(self._buffer)

    def empty_columns(self) -> Columns:
        """Return one empty array per column; the header must have been read."""
        return {name: np.zeros(0, _dtype(text)) for name, text in self.columns or ()}

    def _read_header(self) -> bool:
        if len(self._buffer) < _HEADER.size:
            if not _MAGIC.startswith(bytes(self._buffer[: len(_MAGIC)])):
                raise SpoolDamaged("this is not a spool: wrong magic", _REMEDY)
            return False
        magic, version, length, checksum = _HEADER.unpack_from(self._buffer)
        if magic != _MAGIC:
            raise SpoolDamaged("this is not a spool: wrong magic", _REMEDY)
        if version not in READABLE_FORMATS:
            message = f"spool format {version}; this reader knows {READABLE_FORMATS}"
            raise SpoolDamaged(message, "use agent and orchestrator of the same release")
        if length > MAX_HEADER_BYTES:
            raise SpoolDamaged(f"a header of {length} bytes is more than the {MAX_HEADER_BYTES} allowed", _REMEDY)
        if len(self._buffer) < _HEADER.size + length:
            return False
        text = bytes(self._buffer[_HEADER.size : _HEADER.size + length])
        if zlib.crc32(text) != checksum:
            raise SpoolDamaged("the header's checksum is wrong", _REMEDY)
        stream, columns = _read_layout(text)
        if self._expected_stream not in (None, stream):
            raise SpoolDamaged(f"this is the stream {stream!r}, not {self._expected_stream!r}", _REMEDY)
        self.stream, self.columns, self.format = stream, columns, version
        del self._buffer[: _HEADER.size + length]
        return True

    def _read_block(self) -> Optional[Columns]:
        buffer = self._buffer
        if len(buffer) < _BLOCK_HEADER_BYTES:
            return None
        length, checksum, sequence, rows = _BLOCK.unpack_from(buffer)
        if zlib.crc32(buffer[: _BLOCK.size]) != _CRC.unpack_from(buffer, _BLOCK.size)[0]:
            # A power cut may leave a file longer than what was written: zeros up to its end are a torn tail.
            if buffer.count(0) == len(buffer):
                return None
            raise SpoolDamaged(f"block {self.block_count}: the checksum of its header is wrong", _REMEDY)
        if sequence != self.block_count:
            raise SpoolDamaged(f"block {self.block_count}: its sequence number is {sequence}", _REMEDY)
        if length > MAX_BLOCK_BYTES or not 0 < rows <= length:
            raise SpoolDamaged(f"block {sequence}: {rows} rows in {length} bytes", _REMEDY)
        if self.row_count + rows > self._max_rows:
            raise SpoolDamaged(f"more than the {self._max_rows} rows allowed", _REMEDY)
        end = _BLOCK_HEADER_BYTES + length
        if len(buffer) < end:
            return None
        payload = bytes(memoryview(buffer)[_BLOCK_HEADER_BYTES:end])
        if zlib.crc32(payload) != checksum:
            if buffer.count(0, end) == len(buffer) - end:
                return None
            raise SpoolDamaged(f"block {sequence}: the checksum of its values is wrong", _REMEDY)
        columns = _decode(payload, rows, self.columns or [], sequence)
        del buffer[:end]
        self.block_count += 1
        self.row_count += rows
        return columns


def read_spool(source: Union[bytes, Path], expected_stream: Optional[str] = None, max_rows: int = MAX_ROWS) -> SpoolContents:
    """Read a whole spool; its columns are concatenated over all blocks.

    Raises :class:`SpoolDamaged` for anything a writer cannot have left behind, for another stream than the expected one, and for more than
    ``max_rows`` rows. Takes the size of the columns in memory and a block beside them: the rows of a file are counted first.
    """
    parser = SpoolParser(expected_stream, max_rows)
    columns: Columns = {}
    for piece in _pieces(source):
        first = parser.row_count
        for block in parser.feed(piece):
            if not columns:
                rows = min(_rows_ahead(source, parser.columns or []), max_rows)
                columns = {name: np.empty((rows, *values.shape[1:]), values.dtype) for name, values in block.items()}
            end = first + len(next(iter(block.values())))
            for name, values in block.items():
                columns[name][first:end] = values
            first = end
    torn_bytes = parser.finish()
    # What was counted may end with a block whose values are torn.
    columns = {name: values[: parser.row_count] for name, values in (columns or parser.empty_columns()).items()}
    return SpoolContents(parser.stream or "", columns, parser.block_count, torn_bytes, parser.format or 0)


def count_rows(path: Path) -> int:
    """Count the rows of the complete blocks, from the block headers alone; the values' checksums are not verified.

    Raises :class:`SpoolDamaged` as :func:`read_spool` does for what it looks at.
    """
    parser = SpoolParser()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        parser.feed(file.read(_HEADER.size))
        parser.feed(file.read(_HEADER.unpack_from(parser._buffer)[2] if len(parser._buffer) == _HEADER.size else 0))
        parser.finish()
        rows, sequence = 0, 0
        while True:
            header = file.read(_BLOCK_HEADER_BYTES)
            if len(header) < _BLOCK_HEADER_BYTES or not any(header):
                return rows
            length, _, found, block_rows = _BLOCK.unpack_from(header)
            if zlib.crc32(header[: _BLOCK.size]) != _CRC.unpack_from(header, _BLOCK.size)[0] or found != sequence:
                raise SpoolDamaged(f"block {sequence}: its header is damaged", _REMEDY)
            if file.tell() + length > size:
                return rows
            file.seek(length, os.SEEK_CUR)
            rows, sequence = rows + block_rows, sequence + 1


def _rows_ahead(source: Union[bytes, Path], columns: Sequence[Tuple[str, str]]) -> int:
    """Count the rows that a reader of the whole will find at most, from the block headers; it stops where the reader will complain."""
    row_bytes = sum(4 if text == "<u8" else _dtype(text).itemsize for _, text in columns)
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.seek(_HEADER.size + _HEADER.unpack(file.read(_HEADER.size))[2])
        found = 0
        while True:
            header = file.read(_BLOCK_HEADER_BYTES)
            if len(header) < _BLOCK_HEADER_BYTES:
                return found
            length, _, _, rows = _BLOCK.unpack_from(header)
            # A hostile file must not have us reserve more memory than its own size justifies.
            if rows * row_bytes > length or file.tell() + length > size:
                return found
            file.seek(length, os.SEEK_CUR)
            found += rows


_REMEDY = "keep the file for inspection and repeat the attempt; check the device's storage when it happens again"


def _dtype(text: str) -> np.dtype[Any]:
    """Return the dtype of a column; a sub-array column is at most one block long per row. Raises SpoolDamaged for any other text."""
    if text in _SCALARS:
        return np.dtype(text)
    found = _SUB_ARRAY.fullmatch(text)
    if not found or int(found.group(1)) * 4 > MAX_BLOCK_BYTES // 2:
        raise SpoolDamaged(f"column type {text!r:.40} is not allowed", _REMEDY)
    return np.dtype(("<f4", (int(found.group(1)),)))


def _read_layout(text: bytes) -> Tuple[str, List[Tuple[str, str]]]:
    """Check the header's JSON: a stream and at least one column, each with its own plain name and an allowed type."""
    try:
        layout = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpoolDamaged(f"the header is not JSON: {error}", _REMEDY) from error
    stream = layout.get("stream") if isinstance(layout, dict) else None
    pairs = layout.get("columns") if isinstance(layout, dict) else None
    if not isinstance(stream, str) or not _COLUMN_NAME.fullmatch(stream) or not isinstance(pairs, list) or not pairs:
        raise SpoolDamaged("the header names no stream or no columns", _REMEDY)
    columns: List[Tuple[str, str]] = []
    for pair in pairs:
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        if not is_pair or not _COLUMN_NAME.fullmatch(pair[0]):
            raise SpoolDamaged(f"column {len(columns)} of the header is malformed", _REMEDY)
        _dtype(pair[1])
        columns.append((pair[0], pair[1]))
    if len({name for name, _ in columns}) != len(columns):
        raise SpoolDamaged("the header names a column twice", _REMEDY)
    return stream, columns


def _as_dtype(name: str, values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    given = np.asarray(values)
    if given.ndim != 1 + len(dtype.shape) or given.shape[1:] != dtype.shape:
        raise ValueError(f"column {name}: values of shape {given.shape} do not fit {dtype}")
    converted = np.ascontiguousarray(given, dtype=dtype.base)
    if dtype.base.kind in "ui" and given.dtype != dtype.base and not np.array_equal(converted, given):
        raise ValueError(f"column {name}: values do not fit {dtype}")
    return converted


def _encode(name: str, values: np.ndarray) -> Iterable[bytes]:
    if name.endswith("_ns") and values.dtype == np.dtype("<u8"):
        base = values.min()
        if int(values.max()) - int(base) < 1 << 32:
            return bytes([_BASE_AND_OFFSETS]), _BASE.pack(int(base)), (values - base).astype("<u4").tobytes()
    return bytes([_PLAIN]), values.tobytes()


def _decode(payload: bytes, rows: int, columns: Sequence[Tuple[str, str]], sequence: int) -> Columns:
    position = 0
    decoded: Columns = {}
    for name, text in columns:
        dtype = _dtype(text)
        encoding = payload[position] if position < len(payload) else _PLAIN
        packed = encoding == _BASE_AND_OFFSETS
        if encoding not in (_PLAIN, _BASE_AND_OFFSETS) or (packed and text != "<u8"):
            raise SpoolDamaged(f"block {sequence}: column {name} has the unknown encoding {encoding}", _REMEDY)
        start = position + 1 + (_BASE.size if packed else 0)
        stored = np.dtype("<u4") if packed else dtype
        position = start + rows * stored.itemsize
        if position > len(payload):
            raise SpoolDamaged(f"block {sequence}: {rows} rows do not fit its {len(payload)} bytes", _REMEDY)
        values = np.frombuffer(payload, dtype=stored, count=rows, offset=start)
        if packed:
            base = _BASE.unpack_from(payload, start - _BASE.size)[0]
            values = values.astype("<u8") + np.uint64(base)
        decoded[name] = values
    if position != len(payload):
        raise SpoolDamaged(f"block {sequence}: {len(payload) - position} bytes too many for {rows} rows", _REMEDY)
    return decoded


def _pieces(source: Union[bytes, Path]) -> Iterable[Union[bytes, memoryview]]:
    if not isinstance(source, Path):
        view = memoryview(source)
        for start in range(0, len(view), _READ_BYTES):
            yield view[start : start + _READ_BYTES]
        return
    with source.open("rb") as file:
        while True:
            piece = file.read(_READ_BYTES)
            if not piece:
                return
            yield piece
