"""A look at a TFLite file before the runtime sees it.

tflite-runtime 2.14 does not verify the FlatBuffer and ends in a segmentation fault on a file cut short. This check follows every reference
that the interpreter follows while loading (``schema.fbs`` version 3): each must stay inside the file, and each index inside its list.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Iterator, List, Optional, Union

from agent.errors import ModelRejected

_REMEDY = "submit the file again if it was cut short; otherwise convert the model again"

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_U64 = struct.Struct("<Q")

# Field numbers of the tables in schema.fbs.
_MODEL_OPERATOR_CODES, _MODEL_SUBGRAPHS, _MODEL_BUFFERS = 1, 2, 4
_SUBGRAPH_TENSORS, _SUBGRAPH_INPUTS, _SUBGRAPH_OUTPUTS, _SUBGRAPH_OPERATORS = 0, 1, 2, 3
_TENSOR_SHAPE, _TENSOR_BUFFER, _TENSOR_NAME = 0, 2, 3
_OPERATOR_OPCODE, _OPERATOR_INPUTS, _OPERATOR_OUTPUTS = 0, 1, 2
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2
_OPTIONAL_TENSOR = -1


def check_tflite_file(path: Path) -> None:
    """Raise :class:`ModelRejected` unless ``path`` is a TFLite model whose references all stay inside it."""
    with path.open("rb") as file:
        if path.stat().st_size < 8:
            raise ModelRejected(f"the model is not a TFLite file: {path.stat().st_size} bytes", _REMEDY)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[4:8] != b"TFL3":
                raise ModelRejected(f"the model is not a TFLite file: its identifier is {data[4:8]!r}, not b'TFL3'", _REMEDY)
            try:
                _check_model(data)
            except (struct.error, _OutsideError) as error:
                raise ModelRejected(f"the model is damaged or cut short ({path.stat().st_size} bytes): {error}", _REMEDY) from error


class _OutsideError(Exception):
    """A reference that leaves the file or its list."""


_Data = Union[mmap.mmap, bytes]


class _Table:
    """One FlatBuffers table: a position, and a vtable that says where its fields are."""

    def __init__(self, data: _Data, position: int) -> None:
        self._data = data
        self._position = position
        self._vtable = position - _I32.unpack_from(data, position)[0]
        if self._vtable < 0:
            raise _OutsideError("a table begins before the file")
        self._vtable_bytes = _U16.unpack_from(data, self._vtable)[0]
        if self._vtable + self._vtable_bytes > len(data):
            raise _OutsideError("a table's description ends after the file")

    def _at(self, field: int) -> Optional[int]:
        slot = 4 + 2 * field
        if slot + 2 > self._vtable_bytes:
            return None
        offset = _U16.unpack_from(self._data, self._vtable + slot)[0]
        return self._position + offset if offset else None

    def number(self, field: int, layout: struct.Struct) -> int:
        at = self._at(field)
        return 0 if at is None else int(layout.unpack_from(self._data, at)[0])

    def vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """Return position and length of a vector that lies inside the file; (0, 0) where there is none."""
        at = self._at(field)
        if at is None:
            return 0, 0
        start = at + _U32.unpack_from(self._data, at)[0]
        count = _U32.unpack_from(self._data, start)[0]
        if start + 4 + count * item_bytes > len(self._data):
            raise _OutsideError("a list ends after the file")
        return start + 4, count

    def tables(self, field: int) -> Iterator[_Table]:
        start, count = self.vector(field, 4)
        for at in range(start, start + 4 * count, 4):
            yield _Table(self._data, at + _U32.unpack_from(self._data, at)[0])

    def indices(self, field: int) -> List[int]:
        start, count = self.vector(field, 4)
        return list(struct.unpack_from(f"<{count}i", self._data, start)) if count else []


def _check_model(data: _Data) -> None:
    model = _Table(data, _U32.unpack_from(data, 0)[0])
    operator_code_count = sum(1 for _ in model.tables(_MODEL_OPERATOR_CODES))
    buffer_count = 0
    for buffer in model.tables(_MODEL_BUFFERS):
        buffer.vector(_BUFFER_DATA, 1)
        if buffer.number(_BUFFER_OFFSET, _U64) + buffer.number(_BUFFER_SIZE, _U64) > len(data):
            raise _OutsideError("a buffer ends after the file")
        buffer_count += 1
    subgraph_count = 0
    for subgraph in model.tables(_MODEL_SUBGRAPHS):
        _check_subgraph(subgraph, operator_code_count, buffer_count)
        subgraph_count += 1
    if not subgraph_count:
        raise _OutsideError("there is no graph in it")


def _check_subgraph(subgraph: _Table, operator_code_count: int, buffer_count: int) -> None:
    tensor_count = 0
    for tensor in subgraph.tables(_SUBGRAPH_TENSORS):
        tensor.vector(_TENSOR_SHAPE, 4)
        tensor.vector(_TENSOR_NAME, 1)
        if tensor.number(_TENSOR_BUFFER, _U32) >= max(buffer_count, 1):
            raise _OutsideError("a tensor names a buffer that is not there")
        tensor_count += 1
    _check_indices(subgraph.indices(_SUBGRAPH_INPUTS) + subgraph.indices(_SUBGRAPH_OUTPUTS), tensor_count)
    for operator in subgraph.tables(_SUBGRAPH_OPERATORS):
        if operator.number(_OPERATOR_OPCODE, _U32) >= operator_code_count:
            raise _OutsideError("an operator names a code that is not there")
        _check_indices(operator.indices(_OPERATOR_INPUTS) + operator.indices(_OPERATOR_OUTPUTS), tensor_count)


def _check_indices(indices: List[int], tensor_count: int) -> None:
    if any(not _OPTIONAL_TENSOR <= index < tensor_count for index in indices):
        raise _OutsideError("a tensor is named that is not there")
