"""TensorFlow Lite, through whichever package brings an interpreter: tflite-runtime or ai-edge-litert."""

from __future__ import annotations

import importlib
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, Optional, Set, Tuple

import numpy as np

from agent.errors import EdgematrixError, MissingRuntime, ProviderUnavailable, RequestInvalid, UnsupportedOperator
from agent.protocol import PlacedNode, Settings, TensorInfo
from agent.runtimes.base import BoundQuery, Runtime, first_line
from agent.runtimes.selftest import TFLITE_MODEL, tflite_self_test
from agent.runtimes.tflite_file import check_tflite_file

#: Where an interpreter may come from, in order of preference: distribution and module.
PACKAGES = (("tflite-runtime", "tflite_runtime.interpreter"), ("ai-edge-litert", "ai_edge_litert.interpreter"))

#: Our words for what may run the nodes: the package's own choice (XNNPACK where it was built in), XNNPACK for sure, the built-in kernels
#: alone.
PROVIDERS = ("default", "xnnpack", "builtin")

_DELEGATE = "DELEGATE"
_XNNPACK = "XNNPACK"
_BUILTIN = "builtin"
_REMEDY_INSTALL = "install tflite-runtime (Python up to 3.11, with numpy below 2) or ai-edge-litert in the device's environment"


class TfliteRuntime(Runtime):
    """One ``Interpreter``. **invoke** is ``Interpreter.invoke`` alone, which is what TensorFlow's ``benchmark_model`` times."""

    name = "tflite"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.provider not in PROVIDERS:
            raise ProviderUnavailable(f"tflite has no delegate {settings.provider!r} here", f"use one of {', '.join(PROVIDERS)}")
        if settings.graph_optimization is not None:
            raise RequestInvalid("tflite has no graph optimization levels", "leave graph_optimization out for tflite variants")
        self._package, self._module = find_interpreter()

    def facts(self) -> Dict[str, str]:
        return {
            "name": self.name,
            "package": self._package,
            "version": package_version(self._package, self._module),
            "provider": self.settings.provider,
            "num_threads": str(self.settings.num_threads),
        }

    def _check_file(self, model: Path) -> None:
        check_tflite_file(model)

    def _interpreter_of(self, **model: Any) -> Any:
        resolver = self._module.OpResolverType
        kind = resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES if self.settings.provider == "builtin" else resolver.AUTO
        interpreter = self._module.Interpreter(num_threads=self.settings.num_threads, experimental_op_resolver_type=kind, **model)
        interpreter.allocate_tensors()
        return interpreter

    def _load(self, model: Path) -> None:
        self._interpreter = self._interpreter_of(model_path=str(model))
        if self.settings.provider == "xnnpack" and not _delegates(self._interpreter) and not self._has_xnnpack():
            message = f"{self._package} {package_version(self._package, self._module)} was built without XNNPACK"
            raise ProviderUnavailable(message, "ask for the provider default or builtin, or use ai-edge-litert")

    def _has_xnnpack(self) -> bool:
        """XNNPACK runs float matrix products in every build that has it: see whether it takes the one of the tiny model."""
        return bool(_delegates(self._interpreter_of(model_content=TFLITE_MODEL)))

    def _describe(self) -> Tuple[List[TensorInfo], List[TensorInfo]]:
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        return [_tensor(detail) for detail in inputs], [_tensor(detail) for detail in outputs]

    def _bind(self, example: np.ndarray) -> BoundQuery:
        interpreter = self._interpreter
        index = interpreter.get_input_details()[0]["index"]
        if list(example.shape) != interpreter.get_input_details()[0]["shape"].tolist():
            interpreter.resize_tensor_input(index, list(example.shape))
            interpreter.allocate_tensors()
        indices = [detail["index"] for detail in interpreter.get_output_details()]
        get_tensor, set_tensor = interpreter.get_tensor, interpreter.set_tensor

        def set_input(batch: np.ndarray) -> None:
            set_tensor(index, batch)

        def fetch(_: Any) -> List[np.ndarray]:
            return [get_tensor(index) for index in indices]

        return BoundQuery(set_input, interpreter.invoke, fetch)

    def _expected_provider(self) -> Optional[str]:
        return {"xnnpack": _XNNPACK, "builtin": _BUILTIN}.get(self.settings.provider)

    def _placed_nodes(self, model: Path, example: np.ndarray, scratch: Path) -> List[PlacedNode]:
        """Return the primary subgraph's nodes with who runs them, from the interpreter that was measured: nothing is run again.

        A delegate adds a DELEGATE node and leaves the nodes it replaces in the list (tflite-runtime 2.14 and ai-edge-litert 1.2 to 2.3
        alike), so the replaced ones are those on a path from the delegate node's outputs back to its inputs. The only delegate we ever
        load is the package's own default, XNNPACK. A node has no name of its own: it is called after its first output.
        """
        operations = self._interpreter._get_ops_details()
        delegated: Set[int] = set()
        for delegate in _delegates(self._interpreter):
            delegated |= _replaced_by(delegate, operations)
        names = {detail["index"]: str(detail["name"]) for detail in self._interpreter.get_tensor_details()}
        return [
            PlacedNode(
                next((names.get(int(tensor), "") for tensor in operation["outputs"]), ""),
                str(operation["op_name"]),
                _XNNPACK if operation["index"] in delegated else _BUILTIN,
            )
            for operation in operations
            if operation["op_name"] != _DELEGATE
        ]

    def _translate(self, error: Exception, otherwise: type[EdgematrixError], message: str) -> EdgematrixError:
        said = first_line(error)
        lowered = said.lower()
        version = package_version(self._package, self._module)
        if any(sign in lowered for sign in ("unresolved custom op", "didn't find op for", "select tensorflow op", "unsupported op")):
            remedy = "use a newer runtime on the device, or convert the model to built-in operators that it has"
            return UnsupportedOperator(f"{self._package} {version} lacks an operator of the model: {said}", remedy)
        broken = tflite_self_test(self._module)
        if broken is not None:
            return MissingRuntime(f"{self._package} {version} is broken here, it does not even run a tiny model: {broken}", _REMEDY_INSTALL)
        return otherwise(f"{message}: {said}", f"check that {self._package} {version} runs this file elsewhere; convert it again if not")


def find_interpreter() -> Tuple[str, Any]:
    """Return the distribution and the interpreter module to use: the first that can be imported, or of several the first that runs a tiny
    model.

    tflite-runtime is imported by numpy 2 without complaint and fails at the first model; only running one tells. Raises
    :class:`MissingRuntime`.
    """
    found: List[Tuple[str, Any]] = []
    causes: List[str] = []
    for package, module_name in PACKAGES:
        try:
            found.append((package, importlib.import_module(module_name)))
        except Exception as error:  # noqa: BLE001 (an extension built for another numpy raises more than ImportError)
            causes.append(f"{package}: {first_line(error)}")
    if not found:
        raise MissingRuntime(f"no TensorFlow Lite interpreter here ({'; '.join(causes)})", _REMEDY_INSTALL)
    working = [item for item in found if len(found) == 1 or tflite_self_test(item[1]) is None]
    return (working or found)[0]


def package_version(package: str, module: Any) -> str:
    """Return the version of an interpreter's distribution, from its metadata or else from its module."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        parent = importlib.import_module(module.__name__.rpartition(".")[0])
        return str(getattr(parent, "__version__", "unknown"))


def _delegates(interpreter: Any) -> List[Dict[str, Any]]:
    return [operation for operation in interpreter._get_ops_details() if operation["op_name"] == _DELEGATE]


def _replaced_by(delegate: Dict[str, Any], operations: List[Dict[str, Any]]) -> Set[int]:
    producer: Dict[int, Dict[str, Any]] = {}
    for operation in operations:
        if operation["op_name"] != _DELEGATE:
            producer.update((int(tensor), operation) for tensor in operation["outputs"])
    given = {int(tensor) for tensor in delegate["inputs"]}
    replaced: Set[int] = set()
    open_tensors = [int(tensor) for tensor in delegate["outputs"]]
    while open_tensors:
        operation = producer.get(open_tensors.pop(), {})
        if operation and operation["index"] not in replaced:
            replaced.add(operation["index"])
            open_tensors += [int(tensor) for tensor in operation["inputs"] if int(tensor) not in given]
    return replaced


def _tensor(detail: Dict[str, Any]) -> TensorInfo:
    """Describe one tensor; scale and zero point only where it is quantized with a single pair. Sizes that may change are -1."""
    signature = detail.get("shape_signature")
    shape = detail["shape"] if signature is None or len(signature) == 0 else signature
    parameters = detail["quantization_parameters"]
    scale: Optional[float] = None
    zero_point: Optional[int] = None
    if len(parameters["scales"]) == 1 and np.dtype(detail["dtype"]).kind in "iu":
        scale, zero_point = float(parameters["scales"][0]), int(parameters["zero_points"][0])
    return TensorInfo(str(detail["name"]), [int(size) for size in shape], np.dtype(detail["dtype"]).name, scale, zero_point)
