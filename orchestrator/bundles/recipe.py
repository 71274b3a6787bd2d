"""What goes into a bundle, as data: packages, wheels, and what of them nobody needs."""

from __future__ import annotations

from dataclasses import dataclass

PYTHON = "3.11"

#: Runtime → the distributions it needs, as named in ``wheels.lock``. numpy and psutil come with each.
RUNTIMES = {"onnx": "onnxruntime", "tflite": "tflite-runtime", "litert": "ai-edge-litert"}
COMMON_WHEELS = ("numpy", "psutil")
DEFAULT_RUNTIMES = ("onnx", "tflite")


@dataclass(frozen=True)
class Architecture:
    """One kind of CPU in the words of each tool: ours, uname's, Debian's, its multiarch folder, and the name of its loader."""

    name: str
    machine: str
    debian: str
    triplet: str
    loader: str


ARCHITECTURES = {
    "aarch64": Architecture("arm64", "aarch64", "arm64", "aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
    "x86_64": Architecture("x86_64", "x86_64", "amd64", "x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
}

DEBIAN_PACKAGES = (
    "libc6",
    "zlib1g",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "libstdc++6",
    f"python{PYTHON}-minimal",
    f"libpython{PYTHON}-minimal",
    f"libpython{PYTHON}-stdlib",
)

#: glibc versions whose wheels the packaged libc can run: from the oldest tag to Debian 12's.
GLIBC_MINORS = range(17, 37)

#: Shared libraries of the packages, by the beginning of their names, that the interpreter or a runtime loads.
LIBRARIES = (
    "ld-linux",
    "libc.so",
    "libm.so",
    "libmvec.so",
    "libdl.so",
    "libpthread.so",
    "librt.so",
    "libutil.so",
    "libresolv.so",
    "libz.so",
    "libexpat.so",
    "libffi.so",
    "libgcc_s.so",
    "libstdc++.so",
)

#: What the smallest program needs that can unpack the rest.
SEED_LIBRARIES = ("ld-linux", "libc.so", "libm.so", "libz.so", "libexpat.so")

#: Parts of the standard library that no agent uses.
UNUSED_MODULES = frozenset(
    [
        "__phello__",
        "_pydecimal.py",
        "antigravity.py",
        "asyncio",
        "asynchat.py",
        "asyncore.py",
        "cgi.py",
        "cgitb.py",
        "curses",
        "dbm",
        "distutils",
        "doctest.py",
        "ensurepip",
        "ftplib.py",
        "idlelib",
        "imaplib.py",
        "lib2to3",
        "mailbox.py",
        "mailcap.py",
        "msilib",
        "nntplib.py",
        "pdb.py",
        "pickletools.py",
        "poplib.py",
        "pydoc.py",
        "pydoc_data",
        "smtpd.py",
        "smtplib.py",
        "sqlite3",
        "telnetlib.py",
        "test",
        "this.py",
        "tkinter",
        "tomllib",
        "turtle.py",
        "turtledemo",
        "venv",
        "wsgiref",
        "xdrlib.py",
        "xmlrpc",
        "zoneinfo",
        "EXTERNALLY-MANAGED",
    ]
)
UNUSED_EXTENSIONS = (
    "_asyncio",
    "_codecs_",
    "_crypt",
    "_ctypes_test",
    "_curses",
    "_dbm",
    "_hashlib",
    "_lsprof",
    "_lzma",
    "_bz2",
    "_multibytecodec",
    "_sqlite3",
    "_ssl",
    "_test",
    "_uuid",
    "_xx",
    "_zoneinfo",
    "audioop",
    "nis",
    "ossaudiodev",
    "readline",
    "xx",
)

#: Folders and files of the wheels that are only needed to build, to test or to convert models.
UNUSED_IN_WHEELS = (
    "numpy/*/tests/*",
    "numpy/tests/*",
    "numpy/f2py/*",
    "numpy/distutils/*",
    "numpy/*/include/*",
    "numpy/doc/*",
    "*.pyi",
    "*.pyx",
    "*.pxd",
    "*.a",
    "*.h",
    "onnxruntime/quantization/*",
    "onnxruntime/tools/*",
    "onnxruntime/transformers/*",
    "onnxruntime/datasets/*",
    "psutil/tests/*",
    "ai_edge_litert/tools/*",
    "*.data/scripts/*",
    "*.dist-info/RECORD",
)
