"""Time series as Parquet: one row per query, sample, reading or event, named by content in the artifact store.

The columns of each stream are those of :mod:`agent.protocol`. A column of shape (rows, N) becomes a fixed-size list, which pandas and
others read as one array per row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.domain.results import TraceInfo
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.errors import TraceDamaged

Column = npt.NDArray[Any]

#: Bounds the memory that a writer needs beside the columns, and a reader at once; a group is also the piece that a reader may skip.
_ROWS_PER_GROUP = 512 * 1024


def write_trace(columns: Mapping[str, Column]) -> bytes:
    """Return the columns, of shape (rows,) or (rows, N) with as many rows each, as Parquet (zstd); the same columns give the same bytes.

    Raises ValueError for columns of different lengths or of more than two dimensions.
    """
    sink = pa.BufferOutputStream()
    _write(columns, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _write(columns: Mapping[str, Column], sink: Any) -> None:
    table = pa.table({name: _to_arrow(name, column) for name, column in columns.items()})
    pq.write_table(
        table,
        sink,
        row_group_size=_ROWS_PER_GROUP,
        compression="zstd",
        compression_level=1,
        write_statistics=False,
        **_encodings(table.schema),
    )


def publish_trace(store: ArtifactStore, columns: Mapping[str, Column]) -> TraceInfo:
    """Write a trace into the store and return its name, to be made visible by :func:`orchestrator.store.results.insert_result`."""
    ref = store.put_written(partial(_write, columns), "trace")
    return TraceInfo(sha256=ref.sha256, size_bytes=ref.size_bytes, rows=len(next(iter(columns.values()), ())))


def read_trace(store: ArtifactStore, sha256: str, columns: Sequence[str] | None = None) -> dict[str, Column]:
    """Return the columns asked for (all by default) as arrays of shape (rows,) or (rows, N), of the types they were written with.

    The arrays may be read-only views of what was read. ``pandas.DataFrame(read_trace(...))`` makes a frame of one-dimensional columns.

    Raises :class:`TraceDamaged` for what is not a whole Parquet file or lacks a column, beside the errors of
    :meth:`ArtifactStore.get_bytes`, which checks the digest.
    """
    return parse_trace(store.get_bytes(sha256), columns, name=sha256)


def parse_trace(data: bytes, columns: Sequence[str] | None = None, *, name: str = "trace") -> dict[str, Column]:
    """As :func:`read_trace`, from bytes at hand; ``name`` is what an error calls them."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
        if missing:
            raise TraceDamaged(f"trace {name} has no column {missing[0]!r}", f"it has {', '.join(file.schema_arrow.names)}")
        # One after the other: a column is copied out of its row groups, and all of them twice in memory would be twice a soak.
        wanted = file.schema_arrow.names if columns is None else columns
        return {column: _to_numpy(file.read(columns=[column]).column(column)) for column in wanted}
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a name that is not UTF-8
        raise TraceDamaged(f"trace {name} is not a whole Parquet file: {error}", "restore it from a backup") from error


def _to_arrow(name: str, column: Column) -> Any:
    if column.ndim == 1:
        return pa.array(column)
    if column.ndim != 2 or column.shape[1] == 0:
        raise ValueError(f"column {name!r} has shape {column.shape}; a trace takes (rows,) or (rows, N)")
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(column).reshape(-1)), column.shape[1])


def _encodings(schema: Any) -> dict[str, Any]:
    """Times differ little from row to row and floats share their exponents: both shrink, and read quicker than a dictionary."""
    chosen = {}
    for field in schema:
        if pa.types.is_integer(field.type) and field.name.endswith("_ns"):
            chosen[field.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_floating(field.type) and not pa.types.is_float16(field.type):
            chosen[field.name] = "BYTE_STREAM_SPLIT"
    others = [field.name for field in schema if field.name not in chosen and not pa.types.is_fixed_size_list(field.type)]
    return {"use_dictionary": others, "column_encoding": chosen or None}


def _to_numpy(column: Any) -> Column:
    if not pa.types.is_fixed_size_list(column.type):
        plain: Column = column.to_numpy()
        return plain
    width = column.type.list_size
    parts = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, width) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.empty((0, width), column.type.value_type.to_pandas_dtype())
