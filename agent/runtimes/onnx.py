"""ONNX Runtime."""

from __future__ import annotations

import functools
import importlib
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from agent.errors import (
    EdgematrixError,
    InternalError,
    MissingRuntime,
    ProviderUnavailable,
    RequestInvalid,
    ShapeMismatch,
    UnsupportedOperator,
)
from agent.protocol import PlacedNode, Settings, TensorInfo
from agent.runtimes.base import BoundQuery, Runtime, first_line

#: Our words for ONNX Runtime's graph optimization levels; None is its default, which is ``all``.
GRAPH_OPTIMIZATIONS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"
#: A profile is about a kilobyte for each node that ran; a model whose loops make more of it than this is not looked at.
_MAX_PROFILE_BYTES = 64 * 1024 * 1024
_KERNEL_TIME = "_kernel_time"
_DTYPES = {"float": "float32", "double": "float64"}


class OnnxRuntime(Runtime):
    """One ``InferenceSession``: sequential, ``num_threads`` threads inside an operator, one between operators. QDQ models have float
    inputs and outputs.
    """

    name = "onnx"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        try:
            self._package: Any = importlib.import_module("onnxruntime")
        except Exception as error:
            message = f"no working onnxruntime here: {first_line(error)}"
            raise MissingRuntime(message, "install onnxruntime in the device's environment") from error
        self._provider = self._find_provider()
        level = settings.graph_optimization or "all"
        if level not in GRAPH_OPTIMIZATIONS:
            raise RequestInvalid(f"unknown graph_optimization {level!r}", f"use one of {', '.join(GRAPH_OPTIMIZATIONS)}")
        self._level = level

    def facts(self) -> Dict[str, str]:
        return {
            "name": self.name,
            "package": "onnxruntime",
            "version": str(self._package.__version__),
            "provider": self._provider,
            "graph_optimization": self._level,
            "intra_op_num_threads": str(self.settings.num_threads),
            "inter_op_num_threads": "1",
        }

    def _find_provider(self) -> str:
        asked = self.settings.provider.lower()
        if asked in ("default", "cpu"):
            return _CPU
        present: List[str] = self._package.get_available_providers()
        for provider in present:
            if provider.lower() in (asked, f"{asked}executionprovider"):
                return provider
        others = [provider.replace("ExecutionProvider", "").lower() for provider in present if provider != _CPU]
        known = ", ".join(["default", "cpu", *others])
        message = f"this onnxruntime {self._package.__version__} has no execution provider {self.settings.provider!r}"
        raise ProviderUnavailable(message, f"use one of {known}, or install a build of onnxruntime that brings it")

    def _options(self) -> Any:
        options = self._package.SessionOptions()
        options.intra_op_num_threads = self.settings.num_threads
        options.inter_op_num_threads = 1
        options.execution_mode = self._package.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = getattr(self._package.GraphOptimizationLevel, GRAPH_OPTIMIZATIONS[self._level])
        options.log_severity_level = 3
        return options

    def _session_of(self, model: Path, options: Any) -> Any:
        providers = [self._provider, _CPU]
        if self._provider == _TENSORRT and _CUDA in self._package.get_available_providers():
            # what TensorRT does not take stays on the GPU
            providers.insert(1, _CUDA)
        return self._package.InferenceSession(str(model), options, providers=list(dict.fromkeys(providers)))

    def _load(self, model: Path) -> None:
        self._session = self._session_of(model, self._options())
        if self._provider not in self._session.get_providers():
            # ONNX Runtime falls back to the CPU with no more than a warning
            raise ProviderUnavailable(f"{self._provider} does not start on this device", "check its driver, or ask for the provider cpu")

    def _describe(self) -> Tuple[List[TensorInfo], List[TensorInfo]]:
        return [_tensor(item) for item in self._session.get_inputs()], [_tensor(item) for item in self._session.get_outputs()]

    def _bind(self, example: np.ndarray) -> BoundQuery:
        feed: Dict[str, np.ndarray] = {}
        set_input = functools.partial(feed.__setitem__, self.inputs[0].name)
        return BoundQuery(set_input, functools.partial(self._session.run, None, feed), _same)

    def _expected_provider(self) -> Optional[str]:
        return None if self.settings.provider.lower() == "default" else self._provider

    def _placed_nodes(self, model: Path, example: np.ndarray, scratch: Path) -> List[PlacedNode]:
        """Profile one query in a session of its own: its record names the provider of every node that ran.

        The measured session is closed first: two at once might not fit into memory.
        """
        self._session = None
        options = self._options()
        options.enable_profiling = True
        options.profile_file_prefix = str(scratch / "placement")
        session = self._session_of(model, options)
        session.run(None, {self.inputs[0].name: example})
        profile = session.end_profiling()
        try:
            size = os.path.getsize(profile)
            if size > _MAX_PROFILE_BYTES:
                raise InternalError(f"the profile of one query has {size} bytes; at most {_MAX_PROFILE_BYTES} are read")
            with open(profile, encoding="utf-8") as file:
                return _nodes_of(json.load(file))
        finally:
            os.unlink(profile)

    def _translate(self, error: Exception, otherwise: type[EdgematrixError], message: str) -> EdgematrixError:
        said = first_line(error)
        lowered = said.lower()
        signs = ("not implemented", "could not find an implementation", "is not a registered function/op", "no op registered")
        if type(error).__name__ == "NotImplemented" or any(sign in lowered for sign in signs):
            remedy = "use a newer onnxruntime on the device, or export the model without this operator"
            return UnsupportedOperator(f"onnxruntime {self._package.__version__} lacks an operator of the model: {said}", remedy)
        if "model ir version" in lowered or "opset" in lowered:
            return otherwise(f"{message}: {said}", "use a newer onnxruntime on the device, or export the model with an older opset")
        return otherwise(f"{message}: {said}", "check the file with `onnx.checker`, and that it runs in onnxruntime elsewhere")


def _nodes_of(events: List[Dict[str, Any]]) -> List[PlacedNode]:
    """Return each node of a profile once, in the order in which they ran first; the body of a loop runs many times."""
    found: Dict[Tuple[Any, ...], PlacedNode] = {}
    for event in events:
        arguments = event.get("args") or {}
        if event.get("cat") == "Node" and "provider" in arguments:
            name = str(event.get("name", "")).replace(_KERNEL_TIME, "")
            node = PlacedNode(name, str(arguments.get("op_name", "")), str(arguments["provider"]))
            found.setdefault((name, arguments.get("node_index"), node.provider), node)
    return list(found.values())


def _same(outputs: List[np.ndarray]) -> List[np.ndarray]:
    return outputs


def _tensor(item: Any) -> TensorInfo:
    """Describe one input or output; symbolic and unknown sizes become -1."""
    inner = item.type[len("tensor(") : -1] if item.type.startswith("tensor(") else ""
    if inner in ("", "string"):
        message = f"{item.name!r} is {item.type}; only tensors of numbers can be measured"
        raise ShapeMismatch(message, "export the model without this input or output")
    shape = [size if isinstance(size, int) and size >= 0 else -1 for size in item.shape or []]
    return TensorInfo(str(item.name), shape, _DTYPES.get(inner, inner))
