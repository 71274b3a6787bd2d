"""The second process of a run: load the model, answer the queries, write what was measured.

Started by the supervisor as ``PYTHON agent.pyz runner JOB_FOLDER --root ROOT``. It reads ``request.json`` and the files under
``content/``, writes the spools and ``progress``, when everything is measured ``runner.json``, and this once more with the placement. It
exits with EXIT_COMPLETED, EXIT_ERROR when it failed in an orderly way (``runner.json`` holds the error), or EXIT_STOPPED when SIGTERM
asked it to end early; anything else is a crash, which the supervisor reads.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Dict, Iterator, List, Optional

import numpy as np

from agent import layout, protocol
from agent.coload import CoLoadWorkers
from agent.errors import DigestMismatch, EdgematrixError, InternalError, RequestInvalid, storage_error
from agent.load_patterns import ControlTemperature
from agent.loadgen import Answer, LatencyResult, Pipeline, SampleSink, first_query, run_accuracy, run_latency
from agent.preprocess import compile_steps, dequantizer
from agent.probes import Prober, top_class_of
from agent.protocol import ContentRef, Placement, RunnerReport, RunnerStart, RunRequest, SoakSettings
from agent.recorder import ProgressFile, QueryRecorder
from agent.report_file import ReportFile
from agent.runtimes import Runtime, create
from agent.scoring import make_scorer
from agent.soak import Machine, Room, check_soak, run_soak
from agent.spool import SpoolWriter

EXIT_COMPLETED = 0
EXIT_ERROR = 3
EXIT_STOPPED = 4

SCENARIOS = ("accuracy", "latency", "soak")

#: How long the look at the placement may last after a run.
PLACEMENT_SECS = 60.0

#: How much of the inputs a latency run or a soak holds in memory and asks in turn (LoadGen's performance sample count).
PERFORMANCE_SAMPLE_BYTES = 64 * 1024 * 1024

_REMEDY_VERSION = "submit again with an orchestrator of the agent's version"


def main(job_folder: Path, root: Path, placement_secs: float = PLACEMENT_SECS) -> int:
    """Run the attempt of ``job_folder`` on the device's folder ``root``; return the exit code.

    ``placement_secs`` bounds the look at the placement: a process that still looks after that is ended by SIGALRM.
    """
    run = _Run(job_folder, root)
    signal.signal(signal.SIGTERM, run.ask_to_stop)
    try:
        report = ReportFile(job_folder / protocol.RUNNER_REPORT_FILE)
    except EdgematrixError as error:
        # There is no place for a report: the supervisor keeps what is said here.
        sys.stderr.write(f"{error.code}: {error.message}\n")
        return EXIT_ERROR
    code = EXIT_COMPLETED
    try:
        run.execute()
        code = EXIT_STOPPED if run.stopped else EXIT_COMPLETED
    except EdgematrixError as error:
        run.facts["error"] = error.to_json()
        code = EXIT_ERROR
    except Exception:  # noqa: BLE001 (our own mistake: the traceback is the report)
        run.facts["error"] = InternalError(traceback.format_exc()[-8000:], "report this as a bug of edgematrix").to_json()
        code = EXIT_ERROR
    try:
        report.publish(RunnerReport(**run.facts))
    except EdgematrixError as error:
        sys.stderr.write(f"{error.code}: {error.message}\n")
        return EXIT_ERROR
    if code == EXIT_COMPLETED:
        # After everything was measured and kept: it may load and run the model a second time, which may crash or never end.
        try:
            with _time_limit(placement_secs):
                run.find_placement()
            report.publish(RunnerReport(**run.facts))
        except EdgematrixError as error:
            sys.stderr.write(f"the placement could not be kept: {error.code}: {error.message}\n")
    return code


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """End this process by SIGALRM unless the block ends in time: nothing gentler stops a native library that hangs."""
    handler = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)


class _Run:
    """One attempt; ``facts`` are the fields of the RunnerReport known so far, so that an error's report keeps what came before it."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.facts: Dict[str, Any] = {}
        self.stopped = False
        self._folder = folder
        self._root = root
        self._clock = time.monotonic_ns
        self._find_placement: Callable[[], Placement]

    def ask_to_stop(self, number: int, frame: Optional[FrameType]) -> None:
        self.stopped = True

    def execute(self) -> None:
        origin = self._clock()
        self.facts["origin_monotonic_ns"] = origin
        self.facts["numpy_threads"] = numpy_threads()
        request = _read_request(self._folder)
        progress = ProgressFile(self._folder / protocol.PROGRESS_FILE)
        progress.write("starting")
        inputs = _open_inputs(request, self._root)
        model = _content(self._root, request.model, "model")
        runtime = create(request.runtime, request.settings)
        self.facts["runtime"] = {**runtime.facts(), **runtime.plugin}
        self._say_start()
        runtime.check_file(model)
        progress.write("loading")
        self._load(runtime, model)
        pipeline = _pipeline(runtime, request, np.array(inputs[0]))
        with SpoolWriter(self._folder / f"{protocol.QUERIES}.spool", protocol.QUERIES, protocol.QUERY_COLUMNS) as writer:
            samples = _performance_samples(inputs) if request.scenario != "accuracy" else []
            recorder = QueryRecorder(writer, len(samples) or len(inputs), origin, self._clock)
            try:
                progress.write("first_query")
                answer = first_query(pipeline, np.array(inputs[0]), recorder, self._clock)
                self.facts["first_query_ns"] = answer.total_ns
                if request.scenario == "latency":
                    self._latency(request, pipeline, samples, recorder, progress)
                elif request.soak is not None:
                    self._soak(request, request.soak, pipeline, samples, answer, recorder, progress)
                else:
                    self._accuracy(request, runtime, pipeline, inputs, answer, recorder, progress)
            except EdgematrixError:
                recorder.flush()  # the queries before an error are its evidence
                raise
            finally:
                self.facts["flush_pauses_ns"] = recorder.pauses_ns
                self.facts["flush_count"], self.facts["flush_total_ns"] = recorder.pause_count, recorder.pause_total_ns
                self.facts["flush_longest_ns"] = recorder.pause_longest_ns
                self.facts["peak_rss_bytes"] = peak_rss_bytes()
        progress.write("finishing")
        progress.close()
        if not self.stopped:
            self.facts["placement"] = Placement(request.settings.provider, [], cause=protocol.PLACEMENT_UNFINISHED)
            self._find_placement = functools.partial(runtime.placement, model, answer.batch, self._folder)

    def find_placement(self) -> None:
        """Find out where the nodes ran, once :meth:`execute` has measured everything; nothing holds the measured session any more."""
        self.facts["placement"] = self._find_placement()

    def _say_start(self) -> None:
        """Leave behind what the queries of a runner that is killed could not be placed in time without."""
        start = RunnerStart(self.facts["origin_monotonic_ns"], self.facts["runtime"])
        path = self._folder / protocol.RUNNER_START_FILE
        try:
            layout.write_file(path, protocol.to_json(start).encode())
        except OSError as error:
            raise storage_error(error, path) from error

    def _load(self, runtime: Runtime, model: Path) -> None:
        self.facts["rss_before_load_bytes"] = _status_bytes("VmRSS")
        started = self._clock()
        runtime.load(model)
        self.facts["load_ns"] = self._clock() - started
        self.facts["inputs"], self.facts["outputs"] = runtime.inputs, runtime.outputs

    def _latency(
        self, request: RunRequest, pipeline: Pipeline, samples: List[np.ndarray], recorder: QueryRecorder, progress: ProgressFile
    ) -> None:
        result: LatencyResult = run_latency(pipeline, samples, request.load, recorder, self._clock, lambda: self.stopped, progress.write)
        for name in ("warmup_count", "steady_count", "steady_ns", "min_duration_met", "min_query_count_met"):
            self.facts[name] = getattr(result, name)

    def _soak(
        self,
        request: RunRequest,
        soak: SoakSettings,
        pipeline: Pipeline,
        samples: List[np.ndarray],
        answer: Answer,
        recorder: QueryRecorder,
        progress: ProgressFile,
    ) -> None:
        def co_load() -> Optional[CoLoadWorkers]:
            if not soak.co_load.cpu_workers + soak.co_load.memory_workers:
                return None
            return CoLoadWorkers(soak.co_load, request.interpreter, request.settings.num_threads, lambda: self.stopped)

        folder = self._folder
        with contextlib.ExitStack() as stack:
            control = stack.enter_context(contextlib.closing(ControlTemperature(folder / protocol.CONTROL_FILE)))
            prober = None
            if soak.probe is not None:
                writer = stack.enter_context(SpoolWriter(folder / f"{protocol.PROBES}.spool", protocol.PROBES, protocol.PROBE_COLUMNS))
                top_class, origin = top_class_of(request.task, answer), self.facts["origin_monotonic_ns"]
                prober = Prober(pipeline, samples, soak.probe, top_class, writer, recorder, origin, self._clock)
            room = Room(folder / f"{protocol.QUERIES}.spool", soak.max_queries_bytes)
            machine = Machine(self._clock, time.sleep, lambda: self.stopped, progress.write, control, room, co_load)
            result = run_soak(pipeline, samples, request.load, soak, recorder, prober, machine)
        for name in ("warmup_count", "steady_count", "steady_ns", "min_duration_met", "soak"):
            self.facts[name] = getattr(result, name)

    def _accuracy(
        self,
        request: RunRequest,
        runtime: Runtime,
        pipeline: Pipeline,
        inputs: np.ndarray,
        answer: Answer,
        recorder: QueryRecorder,
        progress: ProgressFile,
    ) -> None:
        scorer = make_scorer(
            request.task, request.scores, request.top_k, request.class_count, answer.values, answer.batch, runtime.inputs[0]
        )
        writers = [SpoolWriter(self._folder / f"{protocol.SAMPLES}.spool", protocol.SAMPLES, protocol.sample_columns(request.top_k))]
        try:
            if request.full_outputs or request.task == "tensor":
                columns = protocol.output_columns(_value_count(answer, len(inputs)))
                writers.append(SpoolWriter(self._folder / f"{protocol.OUTPUTS}.spool", protocol.OUTPUTS, columns))
            sink = SampleSink(writers[0], writers[1] if len(writers) > 1 else None, request.top_k)
            try:
                run_accuracy(pipeline, inputs, scorer, sink, recorder, self._clock, lambda: self.stopped, progress.write)
            except EdgematrixError:
                sink.flush()
                raise
        finally:
            for writer in writers:
                writer.close()


def _read_request(folder: Path) -> RunRequest:
    path = folder / protocol.REQUEST_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestInvalid(f"{path.name} cannot be read: {error}", "submit the job again") from error
    request = protocol.from_json(RunRequest, text)
    if request.protocol != protocol.PROTOCOL_VERSION:
        message = f"the request follows protocol {request.protocol}, this agent protocol {protocol.PROTOCOL_VERSION}"
        raise RequestInvalid(message, "use orchestrator and agent of the same release")
    load = request.load
    numbers = (load.warmup_min_secs, load.warmup_runs, load.min_duration_secs, load.min_query_count)
    if request.scenario not in SCENARIOS or request.settings.num_threads < 1 or min(numbers) < 0 or load.max_duration_secs <= 0:
        asked = f"scenario {request.scenario!r} (of {SCENARIOS}), {request.settings.num_threads} threads, {load}"
        message = f"{asked}: one of them is out of range"
        raise RequestInvalid(message, "correct scenario, settings and load in the spec")
    if (request.scenario == "soak") != (request.soak is not None):
        raise RequestInvalid(f"scenario {request.scenario!r} with soak settings {request.soak!r:.200}", _REMEDY_VERSION)
    if request.soak is not None:
        check_soak(request.soak)
    return request


def _content(root: Path, content: ContentRef, what: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]{64}", content.sha256):
        raise RequestInvalid(f"the {what}'s sha256 is {content.sha256!r:.80}, not 64 hex digits")
    path = root / protocol.CONTENT_FOLDER / content.sha256
    size = path.stat().st_size if path.is_file() else None
    if size != content.size_bytes:
        found = "absent" if size is None else f"{size} bytes"
        message = f"the {what} {content.sha256[:12]} on the device is {found}, not {content.size_bytes} bytes"
        raise DigestMismatch(message, "submit again: the content is pushed anew")
    return path


def _open_inputs(request: RunRequest, root: Path) -> np.ndarray:
    path = _content(root, request.inputs.content, "inputs")
    try:
        inputs: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RequestInvalid(f"the inputs are not an .npy file: {error}", _REMEDY_VERSION) from error
    asked = (request.inputs.sample_count, *request.inputs.sample_shape)
    if inputs.shape != asked or request.inputs.dtype not in (inputs.dtype.name, inputs.dtype.str) or len(inputs) == 0:
        found = f"{inputs.dtype.name}{list(inputs.shape)}"
        message = f"the inputs are {found}, the request says {request.inputs.dtype}{list(asked)}; one sample at least"
        raise RequestInvalid(message, _REMEDY_VERSION)
    return inputs


def _pipeline(runtime: Runtime, request: RunRequest, sample: np.ndarray) -> Pipeline:
    prepare = compile_steps(request.steps, runtime.inputs[0], sample.shape, sample.dtype.str)
    functions = [dequantizer(tensor) for tensor in runtime.outputs]

    def dequantize(raw: List[np.ndarray]) -> List[np.ndarray]:
        return [value if function is None else function(value) for value, function in zip(raw, functions)]  # noqa: B905 (strict needs Python 3.10)

    def unchanged(raw: List[np.ndarray]) -> List[np.ndarray]:
        return raw

    is_float = all(function is None for function in functions)
    return Pipeline(prepare, runtime.bind(prepare(sample)), unchanged if is_float else dequantize, runtime.querying)


def _performance_samples(inputs: np.ndarray) -> List[np.ndarray]:
    count = max(1, min(len(inputs), PERFORMANCE_SAMPLE_BYTES // max(1, inputs[0].nbytes)))
    return [np.array(inputs[index]) for index in range(count)]


def _value_count(answer: Answer, sample_count: int) -> int:
    values = sum(value.size for value in answer.values)
    needed = sample_count * values * 4
    if needed > protocol.MAX_STREAM_BYTES or not values:
        full = f"the full outputs of {sample_count} samples with {values} values each"
        message = f"{full} would take {needed} bytes; {protocol.MAX_STREAM_BYTES} are allowed"
        raise RequestInvalid(message, "use fewer samples, or turn full_outputs off")
    return values


def numpy_threads() -> Dict[str, Any]:
    """Return what decides how many threads numpy's BLAS may use: the variables that limit it, the library, and the CPUs this process may
    use.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
    facts: Dict[str, Any] = {name: os.environ[name] for name in names if name in os.environ}
    try:
        show_config: Any = np.show_config
        blas = show_config(mode="dicts")["Build Dependencies"]["blas"]
        facts["blas"] = f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
    except (TypeError, KeyError, AttributeError):
        facts["blas"] = "unknown"
    facts["cpus"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts["numpy"] = np.__version__
    return facts


def peak_rss_bytes() -> Optional[int]:
    """Return this process' highest resident set.

    Linux' VmHWM where there is one: ``getrusage`` would count what the parent held before it started us.
    """
    peak = _status_bytes("VmHWM")
    if peak is None:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak


def _status_bytes(name: str) -> Optional[int]:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(f"{name}:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
