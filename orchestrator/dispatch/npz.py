"""Read arrays out of an untrusted ``.npz`` file: no pickles, and no memory taken on the word of a header."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.lib import format as npy_format

from agent.errors import ConfigurationError
from agent.protocol import MAX_STREAM_BYTES

#: All that the zip reader raises for damaged, encrypted or exotic archives.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError, RuntimeError, OverflowError)

MAX_ARRAY_BYTES = MAX_STREAM_BYTES


class ArrayUnreadable(ConfigurationError):
    """The file or one of its arrays cannot be used; the message says why, ``remedy`` what to do."""

    code: ClassVar[str] = "array_unreadable"


class NpzFile:
    """The arrays of one ``.npz``, by name. Raises :class:`ArrayUnreadable` for anything that is not one."""

    def __init__(self, data: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _ZIP_ERRORS as error:
            raise ArrayUnreadable(f"not an .npz file: {error}", "write it with numpy.savez_compressed") from error
        self._members = {item.filename.removesuffix(".npy"): item for item in self._zip.infolist()}

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def read(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Return one array, in C order. Raises :class:`ArrayUnreadable`; the caller has made sure that the name exists."""
        member = self._members[name]
        if member.file_size > MAX_ARRAY_BYTES:
            raise ArrayUnreadable(
                f"the array {name!r} has {member.file_size} bytes, more than the {MAX_ARRAY_BYTES} allowed", "use fewer samples"
            )
        try:
            with self._zip.open(member) as stream:
                content = stream.read(member.file_size + 1)
        except _ZIP_ERRORS as error:
            self._unreadable(name, error)
        return self._parse(name, content)

    def _parse(self, name: str, content: bytes) -> np.ndarray[Any, np.dtype[Any]]:
        stream = io.BytesIO(content)
        try:
            version = npy_format.read_magic(stream)
            read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, is_fortran, dtype = read_header(stream)
        except (ValueError, SyntaxError, TypeError, RecursionError) as error:
            self._unreadable(name, error)
        if dtype.hasobject:
            raise ArrayUnreadable(f"the array {name!r} holds Python objects, which are never loaded", "save numbers or text, not objects")
        start = stream.tell()
        count = 1
        for size in shape:
            count *= size
        if any(size < 0 for size in shape) or count * dtype.itemsize != len(content) - start:
            self._unreadable(name, ValueError(f"its header says {shape} of {dtype}, but {len(content) - start} bytes follow"))
        flat = np.frombuffer(content, dtype, count, start) if count else np.empty(0, dtype)
        return np.asarray(flat.reshape(shape, order="F" if is_fortran else "C"), order="C")

    def _unreadable(self, name: str, error: Exception) -> NoReturn:
        raise ArrayUnreadable(f"the array {name!r} cannot be read: {error}", "write the file again with numpy.savez_compressed") from error


def npy_bytes(array: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    """Return the ``.npy`` form of an array: version 1.0, C order, little-endian; the same array gives the same bytes everywhere."""
    little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    stream = io.BytesIO()
    npy_format.write_array(stream, little, version=(1, 0), allow_pickle=False)
    return stream.getvalue()
