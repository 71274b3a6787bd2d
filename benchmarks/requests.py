"""Makes the request of a latency run, as the orchestrator would, from a model file and generated inputs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from agent import protocol


def content(path: Path) -> protocol.ContentRef:
    """Return the reference of a file: its SHA-256 and size."""
    data = path.read_bytes()
    return protocol.ContentRef(hashlib.sha256(data).hexdigest(), len(data))


def random_inputs(path: Path, shape: tuple[int, ...], dtype: str, count: int, seed: int) -> protocol.InputsRef:
    """Write ``count`` random samples of ``shape`` (floats in 0..1, integers over their range) as ``.npy`` and return their reference."""
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        values: Any = generator.random((count, *shape), dtype=np.float32).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        values = generator.integers(limits.min, limits.max, (count, *shape), dtype=dtype, endpoint=True)
    np.save(path, values)
    return protocol.InputsRef(content(path), count, list(shape), dtype)


def latency_request(
    job_id: str,
    model: Path,
    runtime: str,
    inputs: protocol.InputsRef,
    load: protocol.LoadSettings,
    steps: list[dict[str, Any]],
    telemetry_hz: float,
    interpreter: list[str],
) -> protocol.RunRequest:
    """Return the request of one latency run on one thread, its runner started by ``interpreter``."""
    return protocol.RunRequest(
        protocol=protocol.PROTOCOL_VERSION,
        job_id=job_id,
        attempt=1,
        fence=1,
        scenario="latency",
        task="classification",
        scores="logits",
        model=content(model),
        runtime=runtime,
        inputs=inputs,
        steps=steps,
        settings=protocol.Settings(num_threads=1, graph_optimization="all" if runtime == "onnx" else None),
        load=load,
        interpreter=interpreter,
        timeout_secs=300.0,
        telemetry_hz=telemetry_hz,
    )
