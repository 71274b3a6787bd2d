"""Brings a bundle to a device that may have nothing but a shell behind its SSH server.

First the seed, file by file: a loader, an interpreter and its standard library. Then the payload, as content. The seed unpacks it and is
gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent import protocol
from orchestrator.dispatch.gateway import Gateway
from orchestrator.store.tables import Bundle, Device
from orchestrator.transports import Transport


@dataclass(frozen=True)
class _Seed:
    name: str
    sha256: str
    size_bytes: int
    executable: bool


def push_bundle(gateway: Gateway, device: Device, bundle: Bundle) -> list[str]:
    """Bring the bundle to the device unless it is there, and return the command prefix of its interpreter.

    A push that broke goes on where it stopped. Raises the transport's errors, and :class:`agent.errors.DigestMismatch`.
    """
    interpreter = bundle_interpreter(device.root, bundle)
    transport = gateway.transport_of(device)
    if transport.size_of(interpreter[0]) is not None:
        return interpreter
    place = f"{device.root}/{protocol.BUNDLES_FOLDER}/{bundle.sha256}{protocol.SEED_SUFFIX}"
    for file in _seed_of(bundle.manifest):
        _push_seed_file(gateway, transport, f"{place}/{file.name}", file)
    agent = gateway.agent_for(device, _interpreter_below(place, str(bundle.manifest["loader"])))
    agent.push_agent()
    agent.push_content(bundle.sha256, bundle.size_bytes, lambda: gateway.artifacts.local_path(bundle.sha256))
    agent.unpack(bundle.sha256)
    return interpreter


def bundle_interpreter(root: str, bundle: Bundle) -> list[str]:
    """The command prefix of a bundle's interpreter on a device with that root."""
    return _interpreter_below(f"{root}/{protocol.BUNDLES_FOLDER}/{bundle.sha256}", str(bundle.manifest["loader"]))


def _interpreter_below(place: str, loader: str) -> list[str]:
    # -I: nothing of the device's own Python, its user's folder or its environment variables is to be seen by the bundle's.
    return [f"{place}/lib/{loader}", "--library-path", f"{place}/lib", f"{place}/bin/python3", "-I"]


def _push_seed_file(gateway: Gateway, transport: Transport, target: str, file: _Seed) -> None:
    if transport.size_of(target) != file.size_bytes:
        transport.put(gateway.artifacts.local_path(file.sha256), target, executable=file.executable)


def _seed_of(manifest: dict[str, Any]) -> list[_Seed]:
    return [_Seed(item["name"], item["sha256"], item["size_bytes"], item["executable"]) for item in manifest["seed"]]
