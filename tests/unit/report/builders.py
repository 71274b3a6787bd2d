"""Builds experiments as they come out of a lab: ten variants of one model on two devices, with comparisons, distributions and telemetry."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agent.protocol import PHASES
from orchestrator.domain.results import (
    AttemptInfo,
    DatasetInfo,
    DeviceInfo,
    ErrorInfo,
    ExperimentInfo,
    JobInfo,
    Metric,
    Reason,
    ResultEnvelope,
    SettingsInfo,
    ValidityRecord,
    VariantInfo,
)
from orchestrator.domain.states import Emulation, JobOutcome, JobState, Scenario, TaskKind, Validity
from orchestrator.report.inputs import LatencyDistribution, PairComparison, ReportExtras, ReportInput, TelemetrySeries
from orchestrator.report.reduce import reduce_latency, reduce_telemetry

SAMPLES = 899


@dataclass(frozen=True)
class VariantCase:
    """A variant and how it behaves: accuracy, flips against the reference, invoke time in ms on a fast machine."""

    name: str
    runtime: str
    precision: str
    quantization: str
    accuracy: float
    to_wrong: int
    to_right: int
    invoke_ms: float
    weights: Mapping[str, int]
    notes: tuple[str, ...] = ()


VARIANTS = (
    VariantCase("onnx-fp32", "onnx", "fp32", "none", 0.9755, 0, 0, 0.092, {"float32": 21_400}),
    VariantCase("onnx-u8s8", "onnx", "w8a8", "static QDQ U8S8 per-channel", 0.9733, 3, 1, 0.071, {"int8": 21_264, "float32": 136}),
    VariantCase(
        "onnx-u8s8-reduced",
        "onnx",
        "w8a8",
        "static QDQ U8S8 per-channel, reduce_range",
        0.9722,
        4,
        1,
        0.072,
        {"int8": 21_264, "float32": 136},
    ),
    VariantCase("onnx-u8u8", "onnx", "w8a8", "static QDQ U8U8", 0.9733, 4, 2, 0.075, {"uint8": 21_264, "float32": 136}),
    VariantCase("onnx-s8s8", "onnx", "w8a8", "static QDQ S8S8", 0.9744, 2, 1, 0.073, {"int8": 21_264, "float32": 136}),
    VariantCase("onnx-dynamic", "onnx", "dynamic", "dynamic range, weights int8", 0.9755, 1, 1, 0.131, {"int8": 21_264, "float32": 136}),
    VariantCase("tflite-fp32", "tflite", "fp32", "none", 0.9755, 0, 0, 0.058, {"float32": 21_400}),
    VariantCase("tflite-w8a8", "tflite", "w8a8", "full integer, per-channel", 0.9566, 19, 2, 0.034, {"int8": 21_264, "int32": 136}),
    VariantCase("tflite-dynamic-range", "tflite", "dynamic", "dynamic range", 0.9744, 2, 1, 0.049, {"int8": 21_264, "float32": 136}),
    VariantCase("tflite-fp16", "tflite", "fp16", "weights fp16", 0.9755, 0, 0, 0.061, {"float16": 21_400}),
)


@dataclass(frozen=True)
class DeviceCase:
    """A device: how much slower it is, what its CPU knows, and which variants lose on it how much accuracy."""

    name: str
    profile: str = "linux-x86_64"
    slower: float = 1.0
    features: Mapping[str, bool] = field(default_factory=dict)
    drops: Mapping[str, float] = field(default_factory=dict)
    emulated: Emulation = Emulation.NONE
    cpu: str = "Example CPU"


WITH_VNNI = {
    "avx2": True,
    "avx512f": True,
    "avx512_vnni": True,
    "avx_vnni": False,
    "amx_int8": False,
    "asimd": False,
    "i8mm": False,
    "sve": False,
}
WITHOUT_VNNI = {**WITH_VNNI, "avx512f": False, "avx512_vnni": False}
BENCH_A = DeviceCase("bench-a", features=WITH_VNNI, cpu="Xeon Platinum 8481C")
BENCH_B = DeviceCase(
    "bench-b", slower=2.3, features=WITHOUT_VNNI, drops={"onnx-u8s8": 0.881, "onnx-s8s8": 0.034}, cpu="Core i5-4590 (Haswell)"
)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def variant_info(case: VariantCase, model: str = "digits-cnn") -> VariantInfo:
    runtime = "tflite" if case.runtime == "tflite" else "onnx"
    return VariantInfo(
        model=model,
        name=case.name,
        reference=case.name == VARIANTS[0].name,
        runtime=runtime,
        precision=case.precision,
        quantization=case.quantization,
        file=f"digits/{case.name}.{runtime}",
        sha256=sha(model + case.name),
        size_bytes=24_000 if "8" in case.precision else 88_000,
        weights=dict(case.weights),
        notes=case.notes,
    )


def conditions_of(device: DeviceCase) -> dict[str, Any]:
    return {
        "format": 1,
        "board": {"sys_vendor": "Example", "product_name": "Bench"},
        "cpu": {"model": device.cpu, "architecture": "x86_64", "usable_count": 4, "features": dict(device.features)},
        "memory_bytes": 16 * 10**9,
        "kernel": {"release": "6.12.9"},
        "os": {"pretty_name": "Debian GNU/Linux 13"},
        "frequency": {},
        "virtualization": {"virtual": True, "hypervisor": "KVM"},
        "environment": {
            "implementation": "CPython",
            "python": "3.11.9",
            "libc": "glibc 2.41",
            "packages": {"numpy": "1.26.4", "onnxruntime": "1.23.2"},
        },
        "environment_digest": sha("environment" + device.name),
        "unknown": {"frequency": "no cpufreq policy", "temperature": "no thermal zone (usual in virtual machines)"},
    }


def envelope(
    case: VariantCase, device: DeviceCase | None, scenario: Scenario, repeat: int, *, model: str = "digits-cnn", **changes: Any
) -> ResultEnvelope:
    """One measured job; ``changes`` replace fields of the envelope, or of its job with the prefix ``job_``."""
    key = sha(f"{model}{case.name}{device}{scenario}{repeat}")
    job = JobInfo(
        id=key[:16],
        key=key,
        scenario=scenario,
        task=TaskKind.CLASSIFICATION,
        environment="default",
        settings=SettingsInfo(num_threads=1, provider="default", graph_optimization="all" if case.runtime == "onnx" else None),
        repeat=repeat,
        state=JobState.FINISHED,
        outcome=JobOutcome.COMPLETED,
        attempts=1,
    ).model_copy(update={name[4:]: value for name, value in changes.items() if name.startswith("job_")})
    metrics: tuple[Metric, ...] = ()
    if device is not None:
        metrics = accuracy_metrics(case, device) if scenario is Scenario.ACCURACY else latency_metrics(case, device, repeat)
    package = {
        "name": case.runtime,
        "package": "onnxruntime" if case.runtime == "onnx" else "tflite-runtime",
        "version": "1.23.2" if case.runtime == "onnx" else "2.14.0",
    }
    attempt = AttemptInfo(
        number=1,
        fence=7,
        agent_sha256=sha("agent"),
        started_utc=f"2026-11-03T09:{10 + repeat:02d}:00+00:00",
        ended_utc=f"2026-11-03T09:{11 + repeat:02d}:00+00:00",
        duration_secs=13.4,
        conditions=conditions_of(device) if device else {},
        conditions_key=sha(f"conditions{device}"),
        runner={
            "runtime": package,
            "placement": {
                "asked": "default",
                "used": ["CPUExecutionProvider" if case.runtime == "onnx" else "XNNPACK"],
                "node_counts": {"CPUExecutionProvider" if case.runtime == "onnx" else "XNNPACK": 12},
            },
        },
    )
    fields: dict[str, Any] = {
        "experiment": ExperimentInfo(
            id="20261103-digits",
            name="digits",
            spec_sha256=sha("spec"),
            submitted_utc="2026-11-03T09:10:00+00:00",
            edgematrix_version="0.1.0",
        ),
        "job": job,
        "variant": variant_info(case, model),
        "dataset": DatasetInfo(file="digits/digits_test.npz", sha256=sha("data"), sample_count=SAMPLES, class_count=10),
        "device": DeviceInfo(name=device.name, profile=device.profile, emulated=device.emulated) if device else None,
        "attempt": attempt,
        "validity": ValidityRecord(level=Validity.VALID, unknown=("temperature", "clock")),
        "metrics": metrics,
        "analysis_version": 1,
    }
    fields.update({name: value for name, value in changes.items() if not name.startswith("job_")})
    return ResultEnvelope(**fields)


def accuracy_of(case: VariantCase, device: DeviceCase) -> float:
    return case.accuracy - device.drops.get(case.name, 0.0)


def accuracy_metrics(case: VariantCase, device: DeviceCase) -> tuple[Metric, ...]:
    accuracy = accuracy_of(case, device)
    metrics = [fraction("accuracy.top1", accuracy, SAMPLES)]
    for digit in range(10):
        loss = (1 - accuracy) * (2.2 if digit == 8 else 0.87)
        metrics.append(fraction(f"accuracy.class.{digit}", max(0.0, 1 - loss), 90))
    metrics.append(fraction("accuracy.slice.ink=thin", max(0.0, accuracy - (1 - accuracy) * 0.6), 300))
    return (*metrics, Metric(name="non_finite_count", value=0.0, unit="samples", count=SAMPLES))


def fraction(name: str, value: float, count: int) -> Metric:
    """A rate with its Wilson interval."""
    z = 1.959964
    center = (value + z * z / (2 * count)) / (1 + z * z / count)
    half = z * (value * (1 - value) / count + z * z / (4 * count * count)) ** 0.5 / (1 + z * z / count)
    return Metric(name=name, value=value, unit="fraction", low=max(0.0, center - half), high=min(1.0, center + half), count=count)


def queries_of(case: VariantCase, device: DeviceCase, repeat: int, count: int = 3000) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(int(sha(f"{case.name}{device.name}{repeat}")[:8], 16))
    invoke_ms = case.invoke_ms * device.slower * (1 + 0.012 * repeat)
    slow = rng.random(count) < 0.06
    invoke = invoke_ms * (1 + rng.gamma(2.0, 0.012, count)) * np.where(slow, rng.uniform(1.15, 1.6, count), 1.0)
    return {
        "phase": np.full(count, PHASES.index("steady"), dtype=np.uint8),
        "pre_ns": (6_000 * device.slower * (1 + rng.gamma(2.0, 0.05, count))).astype(np.uint32),
        "invoke_ns": (invoke * 1e6).astype(np.uint32),
        "post_ns": (2_500 * device.slower * (1 + rng.gamma(2.0, 0.05, count))).astype(np.uint32),
    }


def latency_metrics(case: VariantCase, device: DeviceCase, repeat: int) -> tuple[Metric, ...]:
    queries = queries_of(case, device, repeat)
    stages = {name: queries[f"{name}_ns"].astype(float) / 1e6 for name in ("pre", "invoke", "post")}
    total = sum(stages.values(), np.zeros(3000))
    metrics = [Metric(name=f"{name}_ms.mean", value=float(values.mean()), unit="ms", count=3000) for name, values in stages.items()]
    metrics += [
        Metric(name=f"latency_ms.{name}", value=float(np.percentile(total, share)), unit="ms", count=3000)
        for name, share in (("p50", 50), ("p90", 90), ("p99", 99))
    ]
    metrics += [
        Metric(name="latency_ms.mean", value=float(total.mean()), unit="ms", count=3000),
        Metric(name="latency_ms.p99.9", value=None, unit="ms", count=3000, cause="3000 queries are fewer than the 6636 that support p99.9"),
        Metric(name="init_ms", value=case.invoke_ms * 130 * device.slower, unit="ms"),
        Metric(name="first_ms", value=case.invoke_ms * 9 * device.slower, unit="ms"),
        Metric(name="warmup_ms.mean", value=case.invoke_ms * 1.2 * device.slower, unit="ms"),
        Metric(name="throughput_qps", value=1000 / float(total.mean()), unit="1/s"),
        Metric(name="cv_percent", value=float(stages["invoke"].std() / stages["invoke"].mean() * 100), unit="%"),
        Metric(name="peak_rss_mb", value=61.5, unit="MB"),
    ]
    return tuple(metrics)


def comparison(case: VariantCase, device: DeviceCase, job: ResultEnvelope, reference: ResultEnvelope) -> PairComparison:
    """The paired difference with the normal interval of the flips: near enough to a bootstrap for a page."""
    lost = round(device.drops.get(case.name, 0.0) * SAMPLES)
    worse, better = case.to_wrong + lost, case.to_right
    difference = 100 * (better - worse) / SAMPLES
    half = 100 * 1.96 * (worse + better - (worse - better) ** 2 / SAMPLES) ** 0.5 / SAMPLES
    return PairComparison(
        job_id=job.job.id,
        reference_job_id=reference.job.id,
        sample_count=SAMPLES,
        difference=difference,
        low=difference - half,
        high=difference + half,
        mcnemar_p=0.0001 if worse > better + 10 else 0.62,
        flips_to_wrong=worse,
        flips_to_right=better,
        agreement=1 - (worse + better) / SAMPLES,
        bit_exact_share=0.0,
    )


def experiment(
    variants: Sequence[VariantCase] = VARIANTS,
    devices: Sequence[DeviceCase] = (BENCH_A, BENCH_B),
    repeats: int = 3,
    model: str = "digits-cnn",
    with_faults: bool = True,
) -> ReportInput:
    """The whole report input: jobs of both scenarios, with two jobs that failed and one reason for doubt when ``with_faults``."""
    results: list[ResultEnvelope] = []
    latencies: list[LatencyDistribution] = []
    comparisons: list[PairComparison] = []
    telemetry: list[TelemetrySeries] = []
    first: dict[tuple[str, str], ResultEnvelope] = {}
    for device in devices:
        for case in variants:
            for repeat in range(repeats):
                accuracy = envelope(case, device, Scenario.ACCURACY, repeat, model=model)
                latency = envelope(case, device, Scenario.LATENCY, repeat, model=model)
                if with_faults and case.runtime == "onnx" and device is devices[-1]:
                    reason = Reason(
                        code="high_variation",
                        level=Validity.SEMIVALID,
                        message="invoke times vary by 9.1 %, more than 2.5 %",
                        value=9.1,
                        threshold=2.5,
                    )
                    latency = latency.model_copy(
                        update={"validity": ValidityRecord(level=Validity.SEMIVALID, reasons=(reason,), unknown=("temperature", "clock"))}
                    )
                results += [accuracy, latency]
                first.setdefault((device.name, case.name), accuracy)
                shape = reduce_latency(latency.job.id, queries_of(case, device, repeat))
                if shape is not None:
                    latencies.append(shape)
                telemetry += _telemetry(latency)
            job = first[(device.name, case.name)]
            reference = first[(device.name, variants[0].name)]
            if case is not variants[0]:
                comparisons.append(comparison(case, device, job, reference))
            if device is not devices[0]:
                elsewhere = first[(devices[0].name, case.name)]
                lost = round(device.drops.get(case.name, 0.0) * SAMPLES)
                comparisons.append(
                    PairComparison(
                        job.job.id,
                        elsewhere.job.id,
                        SAMPLES,
                        -100 * lost / SAMPLES,
                        -100 * lost / SAMPLES,
                        -100 * lost / SAMPLES,
                        "points",
                        None,
                        lost,
                        0,
                        1 - lost / SAMPLES,
                        0.0 if lost else 1.0,
                    )
                )
    if with_faults:
        crash = ErrorInfo(
            error_class="job",
            code="runtime_crashed",
            message="the runtime died of SIGSEGV while it loaded the model",
            remedy="try another version of the runtime, or report the file to its makers",
        )
        missing = ErrorInfo(
            error_class="configuration",
            code="missing_runtime",
            message="environment litert has no onnxruntime",
            remedy="edgematrix env add with an interpreter that has it",
        )
        lost_job = {"attempt": None, "validity": None, "metrics": (), "analysis_version": None}
        results.append(
            envelope(
                variants[0], devices[0], Scenario.LATENCY, repeats, model=model, job_outcome=JobOutcome.ERROR, job_error=crash, **lost_job
            )
        )
        results.append(
            envelope(
                variants[-1],
                devices[0],
                Scenario.LATENCY,
                repeats,
                model=model,
                job_outcome=JobOutcome.SKIPPED,
                job_error=missing,
                **lost_job,
            )
        )
    extras = ReportExtras(
        latencies=tuple(latencies),
        comparisons=tuple(comparisons),
        telemetry=tuple(telemetry),
        spec_file="examples/digits.yaml",
        spec_text="format: 1\nname: digits\nmodels:\n  - name: digits-cnn\n    reference: onnx-fp32\n",
        command="edgematrix run examples/digits.yaml",
    )
    return ReportInput(results, extras, "0.1.0", "2026-11-03T10:02:11+00:00")


def _telemetry(job: ResultEnvelope) -> list[TelemetrySeries]:
    rng = np.random.default_rng(int(job.job.id[:8], 16))
    times = np.arange(130, dtype=np.uint64) * 100_000_000
    busy = 26 + rng.normal(0, 1.5, times.size)
    memory = 9000 + np.cumsum(rng.normal(0, 4, times.size))
    series = (
        reduce_telemetry(job.job.id, "cpu_busy_percent", "%", times, busy),
        reduce_telemetry(job.job.id, "memory_available_mb", "MB", times, memory),
    )
    return [item for item in series if item is not None]
