"""What can run a model here, in one table. Adding a runtime is one driver, one line and one test."""

from __future__ import annotations

import importlib
from typing import Callable, Dict, Tuple, Type

from agent import runtime_plugins
from agent.errors import MissingRuntime, RequestInvalid
from agent.protocol import Settings
from agent.runtimes.base import BoundQuery as BoundQuery
from agent.runtimes.base import Runtime as Runtime
from agent.runtimes.base import RuntimeAvailability, first_line
from agent.runtimes.golden import onnx_golden, tflite_golden
from agent.runtimes.onnx import OnnxRuntime
from agent.runtimes.selftest import onnx_self_test, tflite_self_test
from agent.runtimes.tflite import TfliteRuntime, find_interpreter, package_version


def _onnx_available() -> RuntimeAvailability:
    try:
        package = importlib.import_module("onnxruntime")
    except Exception as error:  # noqa: BLE001 (an extension built for another numpy raises more than ImportError)
        return RuntimeAvailability(False, cause=f"onnxruntime: {first_line(error)}")
    cause = onnx_self_test(package)
    return RuntimeAvailability(cause is None, "onnxruntime", str(package.__version__), cause, onnx_golden(package))


def _tflite_available() -> RuntimeAvailability:
    try:
        package, module = find_interpreter()
    except MissingRuntime as error:
        return RuntimeAvailability(False, cause=error.message)
    cause = tflite_self_test(module)
    return RuntimeAvailability(cause is None, package, package_version(package, module), cause, tflite_golden(module))


#: name → driver and the proof that it works here. What an environment brings itself goes before these; see ``agent.runtime_plugins``.
RUNTIMES: Dict[str, Tuple[Type[Runtime], Callable[[], RuntimeAvailability]]] = {
    "onnx": (OnnxRuntime, _onnx_available),
    "tflite": (TfliteRuntime, _tflite_available),
}


def create(name: str, settings: Settings) -> Runtime:
    """Return the runtime of that name. Raises RequestInvalid for an unknown one, MissingRuntime where it is not installed,
    ProviderUnavailable.
    """
    brought = runtime_plugins.find()
    if name in brought:
        runtime = brought[name].load()[0](settings)
        runtime.plugin = {"plugin": brought[name].package, "plugin_version": brought[name].version}
        return runtime
    if name not in RUNTIMES:
        raise RequestInvalid(f"unknown runtime {name!r}", f"use one of {', '.join({**RUNTIMES, **brought})}")
    return RUNTIMES[name][0](settings)


def available() -> Dict[str, RuntimeAvailability]:
    """Run a tiny model in every runtime and say which of them work here, and why the others do not."""
    try:
        brought = runtime_plugins.find()
    except MissingRuntime as error:
        return {name: RuntimeAvailability(False, cause=error.message) for name in RUNTIMES}
    found = {name: proof() for name, (_, proof) in RUNTIMES.items() if name not in brought}
    return {**found, **{name: _prove(plugin) for name, plugin in brought.items()}}


def _prove(plugin: runtime_plugins.Plugin) -> RuntimeAvailability:
    try:
        told = plugin.load()[1]()
    except MissingRuntime as error:
        return RuntimeAvailability(False, cause=error.message)
    except Exception as error:  # noqa: BLE001 (foreign code: whatever it raises, it does not work)
        return RuntimeAvailability(False, plugin.package, plugin.version, f"{plugin.told}: {first_line(error)}")
    if isinstance(told, RuntimeAvailability):
        return told
    return RuntimeAvailability(False, plugin.package, plugin.version, f"{plugin.told} gives no proof")
