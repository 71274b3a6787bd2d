"""The small interface of a runtime. The public methods check and wrap; a driver overrides what begins with one underscore.

What belongs to which stage of a query is the same for all runtimes: **pre** is the input steps and handing the batch to the runtime,
**invoke** the runtime's own call and nothing else (``Interpreter.invoke``, ``InferenceSession.run``), **post** is fetching the outputs and
dequantizing them. ``bind`` returns bare callables for the three, so that the query loop calls the runtime without a layer between.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import numpy as np

from agent.errors import DigestMismatch, EdgematrixError, InvokeFailed, ModelRejected, ShapeMismatch
from agent.protocol import MAX_FALLBACK_NODES, PlacedNode, Placement, Settings, TensorInfo

#: Converters make names of many hundred characters; what is kept of one.
_NODE_NAME = 120


class BoundQuery(NamedTuple):
    """The three runtime calls of one query. ``fetch`` takes what ``invoke`` returned and gives every output, raw, in the model's order.

    Arrays given by ``fetch`` are the caller's own until the next query.
    """

    set_input: Callable[[np.ndarray], Any]
    invoke: Callable[[], Any]
    fetch: Callable[[Any], List[np.ndarray]]


@dataclass(frozen=True)
class RuntimeAvailability:
    """Whether a runtime really ran a tiny model here; ``package`` is the distribution that did, ``cause`` why none could.

    ``golden_sha256`` is the digest of its answers to the golden model; None when that does not run, or not twice alike.
    """

    available: bool
    package: Optional[str] = None
    version: Optional[str] = None
    cause: Optional[str] = None
    golden_sha256: Optional[str] = None


class Runtime(ABC):
    """One runtime with one loaded model. Not thread-safe; the runner has one."""

    name = ""

    def __init__(self, settings: Settings) -> None:
        """Import the runtime and check the settings. Raises MissingRuntime, ProviderUnavailable, RequestInvalid."""
        self.settings = settings
        self.inputs: List[TensorInfo] = []
        self.outputs: List[TensorInfo] = []
        #: Where the driver came from, when the environment brought it: facts beside those of :meth:`facts`.
        self.plugin: Dict[str, str] = {}

    def check_file(self, model: Path) -> None:
        """Look at the file before the runtime does. Raises :class:`ModelRejected` for a file that could only crash it."""
        if not model.is_file():
            raise DigestMismatch(f"the model {model.name} is not on the device", "submit again: the content is pushed anew")
        self._check_file(model)

    def load(self, model: Path) -> None:
        """Load the model until it is ready for its first query; sets ``inputs`` and ``outputs``.

        Raises :class:`ModelRejected`, :class:`UnsupportedOperator`, :class:`ProviderUnavailable`.
        """
        with self._wrapped(ModelRejected, f"{self.name} does not load the model"):
            self._load(model)
            self.inputs, self.outputs = self._describe()
        if len(self.inputs) != 1 or not self.outputs:
            names = ", ".join(repr(tensor.name) for tensor in self.inputs)
            raise ShapeMismatch(
                f"the model has {len(self.inputs)} inputs ({names}) and {len(self.outputs)} outputs; one input and an output are needed",
                "export the model with a single input tensor",
            )

    def bind(self, example: np.ndarray) -> BoundQuery:
        """Prepare for batches like ``example`` and return the calls of one query; the loop that makes them belongs inside
        :meth:`querying`.
        """
        with self.querying():
            return self._bind(example)

    def querying(self) -> contextlib.AbstractContextManager[None]:
        """Wrap what the runtime raises while it answers queries, around a whole loop: no cost per query. Raises :class:`InvokeFailed`."""
        return self._wrapped(InvokeFailed, f"{self.name} loaded the model and does not run it")

    def invoke(self, batch: np.ndarray) -> List[np.ndarray]:
        """Answer one query outside of any measurement. Raises :class:`InvokeFailed`."""
        query = self.bind(batch)
        with self.querying():
            query.set_input(batch)
            return query.fetch(query.invoke())

    def placement(self, model: Path, example: np.ndarray, scratch: Path) -> Placement:
        """Say where the nodes of the loaded model really run.

        May close the loaded model and load and run it again: call it after the measurement, and answer no query after it. ``scratch`` is a
        folder for temporary files. What cannot be known is empty counts and a cause, never an error.
        """
        asked = self.settings.provider
        try:
            nodes = self._placed_nodes(model, example, scratch)
        except Exception as error:  # noqa: BLE001 (a fact beside the result must not cost the result)
            return Placement(asked, [], cause=f"{type(error).__name__}: {error}"[:500])
        if not nodes:
            return Placement(asked, [], cause=f"{self.name} names no node of this model")
        counts = Counter(node.provider for node in nodes)
        expected = self._expected_provider()
        elsewhere = [] if expected is None else [node for node in nodes if node.provider != expected]
        named = [PlacedNode(node.name[:_NODE_NAME], node.operator[:_NODE_NAME], node.provider) for node in elsewhere[:MAX_FALLBACK_NODES]]
        return Placement(asked, sorted(counts), dict(sorted(counts.items())), None, None if expected is None else len(elsewhere), named)

    @abstractmethod
    def facts(self) -> Dict[str, str]:
        """Return name, package and version of the runtime and every setting it was really given."""

    def _check_file(self, model: Path) -> None:  # noqa: B027 (a driver may know better)
        """Nothing to look at unless a driver knows better."""

    @abstractmethod
    def _load(self, model: Path) -> None: ...

    @abstractmethod
    def _describe(self) -> tuple[List[TensorInfo], List[TensorInfo]]: ...

    @abstractmethod
    def _bind(self, example: np.ndarray) -> BoundQuery: ...

    @abstractmethod
    def _placed_nodes(self, model: Path, example: np.ndarray, scratch: Path) -> List[PlacedNode]:
        """Return every node of the model as it is run, each once."""

    @abstractmethod
    def _expected_provider(self) -> Optional[str]:
        """Return where every node runs when all is as asked, in the words of ``PlacedNode``; None when nothing in particular was asked."""

    @abstractmethod
    def _translate(self, error: Exception, otherwise: type[EdgematrixError], message: str) -> EdgematrixError:
        """Return our error for one of the runtime's; ``otherwise`` with ``message`` where nothing more exact is known."""

    @contextlib.contextmanager
    def _wrapped(self, otherwise: type[EdgematrixError], message: str) -> Iterator[None]:
        try:
            yield
        except EdgematrixError:
            raise
        except Exception as error:
            raise self._translate(error, otherwise, message) from error


def first_line(error: Exception) -> str:
    """Return what an error says as one line of bounded length."""
    return " ".join(str(error).split())[:600] or type(error).__name__
