"""ONNX Runtime."""

from __future__ import annotations

import functools
import importlib
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from agent.errors import EdgematrixError, MissingRuntime, ProviderUnavailable, RequestInvalid, ShapeMismatch, UnsupportedOperator
from agent.protocol import Placement, Settings, TensorInfo
from agent.runtimes.base import BoundQuery, Runtime, first_line

#: Our words for ONNX Runtime's graph optimization levels; None is its default, which is ``all``.
GRAPH_OPTIMIZATIONS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

_CPU = "CPUExecutionProvider"
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
        providers = [self._provider] if self._provider == _CPU else [self._provider, _CPU]
        return self._package.InferenceSession(str(model), options, providers=providers)

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

    def _placement(self, model: Path, example: np.ndarray, scratch: Path) -> Placement:
        """Profile one query in a session of its own: its record names the provider of every node that ran."""
        options = self._options()
        options.enable_profiling = True
        options.profile_file_prefix = str(scratch / "placement")
        session = self._session_of(model, options)
        session.run(None, {self.inputs[0].name: example})
        profile = session.end_profiling()
        try:
            with open(profile, encoding="utf-8") as file:
                events = json.load(file)
        finally:
            os.unlink(profile)
        counts: Dict[str, int] = {}
        seen = set()
        for event in events:
            arguments = event.get("args") or {}
            node = arguments.get("node_index")
            if event.get("cat") == "Node" and "provider" in arguments and node not in seen:
                seen.add(node)
                counts[arguments["provider"]] = counts.get(arguments["provider"], 0) + 1
        if not counts:
            return Placement(self.settings.provider, session.get_providers(), {}, "the profile of this model names no node")
        return Placement(self.settings.provider, sorted(counts), counts)

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
