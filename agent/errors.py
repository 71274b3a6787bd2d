"""The error tree that both sides share: a stable code, what happened, and what to do next.

EdgematrixError
├── InfrastructureError      the lab's fault; retried by itself a bounded number of times
│   ├── DigestMismatch           content on the device is not what was pushed
│   ├── DiskFull                 no room on the device
│   ├── FolderUnwritable         a state folder cannot be written
│   ├── StaleFence               a newer lease owns this device
│   ├── RunLost                  the run vanished from the device without an outcome
│   ├── RunOrphaned              nobody read the run for too long, so it ended itself
│   ├── DeviceBusy               another run still lives on this device
│   ├── RunnerKilled             something outside killed the run (SIGKILL: often the kernel, out of memory)
│   ├── DeviceUnreachable        the transport could not reach the device
│   └── DeviceReplyInvalid       the device answered something that the protocol does not allow
├── ConfigurationError       the request is wrong; the same request will fail again
│   ├── RequestInvalid           a message that does not follow the protocol
│   ├── MachineUnsupported       the agent does not run on this kind of processor or interpreter
│   ├── MissingRuntime           the environment cannot run this model format
│   ├── ProviderUnavailable      the delegate or execution provider asked for is not there
│   ├── ShapeMismatch            the inputs do not have the shape the model takes
│   ├── DtypeMismatch            the inputs do not have the type the model takes
│   ├── LabelsOutOfRange         labels name classes that the model does not have
│   └── SensorUnavailable        a rule of a soak needs a sensor that this device does not have
├── JobError                 the model failed here: a result to be read, not to be retried
│   ├── ModelRejected            the runtime refuses to load the file
│   ├── UnsupportedOperator      the runtime lacks an operator of the model
│   ├── InvokeFailed             the runtime loaded the model and refuses to run it
│   ├── RuntimeCrashed           the runtime died (segmentation fault, abort)
│   └── RunTimeout               the run took longer than it was given
└── InternalError            our own mistake; the message carries the traceback
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar, Dict, Optional, Type


class EdgematrixError(Exception):
    """Base of every error edgematrix raises on purpose.

    ``code`` is stable and may be matched by scripts; ``remedy`` says what to do next.
    """

    code: ClassVar[str] = "error"
    error_class: ClassVar[str] = "bug"

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def to_json(self) -> Dict[str, Any]:
        """Return the error as the plain record that travels in messages and results."""
        return {"class": self.error_class, "code": self.code, "message": self.message, "remedy": self.remedy}


class InfrastructureError(EdgematrixError):
    code = "infrastructure"
    error_class = "infrastructure"


class DigestMismatch(InfrastructureError):
    code = "digest_mismatch"


class DiskFull(InfrastructureError):
    code = "disk_full"


class FolderUnwritable(InfrastructureError):
    code = "folder_unwritable"


class StaleFence(InfrastructureError):
    code = "stale_fence"


class RunLost(InfrastructureError):
    code = "run_lost"


class RunOrphaned(InfrastructureError):
    code = "run_orphaned"


class DeviceBusy(InfrastructureError):
    code = "device_busy"


class RunnerKilled(InfrastructureError):
    code = "runner_killed"


class DeviceUnreachable(InfrastructureError):
    code = "device_unreachable"


class DeviceReplyInvalid(InfrastructureError):
    code = "device_reply_invalid"


class ConfigurationError(EdgematrixError):
    code = "configuration"
    error_class = "configuration"


class RequestInvalid(ConfigurationError):
    code = "request_invalid"


class MachineUnsupported(ConfigurationError):
    code = "machine_unsupported"


class MissingRuntime(ConfigurationError):
    code = "missing_runtime"


class ProviderUnavailable(ConfigurationError):
    code = "provider_unavailable"


class ShapeMismatch(ConfigurationError):
    code = "shape_mismatch"


class DtypeMismatch(ConfigurationError):
    code = "dtype_mismatch"


class LabelsOutOfRange(ConfigurationError):
    code = "labels_out_of_range"


class SensorUnavailable(ConfigurationError):
    code = "sensor_unavailable"


class JobError(EdgematrixError):
    code = "job"
    error_class = "job"


class ModelRejected(JobError):
    code = "model_rejected"


class UnsupportedOperator(JobError):
    code = "unsupported_operator"


class InvokeFailed(JobError):
    code = "invoke_failed"


class RuntimeCrashed(JobError):
    code = "runtime_crashed"


class RunTimeout(JobError):
    code = "run_timeout"


class InternalError(EdgematrixError):
    code = "internal"
    error_class = "bug"


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_OURS_TO_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ELOOP)


def storage_error(error: OSError, path: object) -> EdgematrixError:
    """Say in edgematrix' words what an OSError met at a file of the device means: no room, not writable, or a file system in trouble."""
    said = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        return DiskFull(f"no room to write {path}: {said}", "make room on the device's file system that holds it")
    if error.errno in _NOT_OURS_TO_WRITE:
        return FolderUnwritable(f"{path} cannot be used: {said}", "make the device's folder writable for the agent's user")
    return InfrastructureError(f"{path}: {said}", "check the device's file system")


def _leaves(root: Type[EdgematrixError]) -> Dict[str, Type[EdgematrixError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_leaves(child))
    return found


def from_json(record: Dict[str, Any]) -> EdgematrixError:
    """Rebuild the error of a record; a code this version does not know keeps its text and its class."""
    kind: Optional[Type[EdgematrixError]] = _leaves(EdgematrixError).get(str(record.get("code")))
    if kind is None:
        by_class = {"infrastructure": InfrastructureError, "configuration": ConfigurationError, "job": JobError}
        kind = by_class.get(str(record.get("class")), InternalError)
    return kind(str(record.get("message", "")), str(record.get("remedy", "")))
