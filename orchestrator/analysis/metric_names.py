"""Every metric there is: its name, its unit, which way is better and what it means. Docs, report and exports read this table.

Names are stable. A name has a stem and, after a dot, a statistic or a group: ``invoke_ms.p90``, ``accuracy.slice.room=kitchen``.
"""

from __future__ import annotations

from orchestrator.analysis.metric_definition import Better as Better
from orchestrator.analysis.metric_definition import MetricDefinition as MetricDefinition
from orchestrator.analysis.soak_metric_names import SIGN_FAMILY, SOAK_DEFINITIONS
from orchestrator.domain.states import Scenario, TaskKind

#: Statistics of the four stages of a query, in the order in which they are printed.
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
STATISTICS = ("mean", "std", "min", "max", *(f"p{value:g}" for value in PERCENTILES))

#: The stages: stem of the metric name → what it times.
STAGES = {
    "latency_ms": "one query end to end: pre-processing, invoke and post-processing",
    "pre_ms": "input steps and handing the input to the runtime",
    "invoke_ms": "the runtime's own call alone",
    "post_ms": "reading and dequantizing the outputs",
}

#: The metric that answers "is it right?", by task.
PRIMARY_METRIC = {TaskKind.CLASSIFICATION: "accuracy.top1", TaskKind.ANOMALY: "auc", TaskKind.TENSOR: "sqnr_db"}

#: Pinned number of confidence bins of the expected calibration error.
CALIBRATION_BINS = 15


_CLASSIFICATION = (TaskKind.CLASSIFICATION,)
_ANOMALY = (TaskKind.ANOMALY,)
_TENSOR = (TaskKind.TENSOR,)


def _stage_definitions() -> list[MetricDefinition]:
    words = {"mean": "arithmetic mean", "std": "sample standard deviation", "min": "smallest value", "max": "largest value"}
    return [
        MetricDefinition(
            f"{stage}.{statistic}",
            "ms",
            "lower",
            Scenario.LATENCY,
            f"{words.get(statistic, f'{statistic[1:]}th percentile (linear interpolation)')} over the steady queries of {meaning}",
        )
        for stage, meaning in STAGES.items()
        for statistic in STATISTICS
    ]


_DEFINITIONS = (
    MetricDefinition("init_ms", "ms", "lower", None, "loading the model, once, until it could answer"),
    MetricDefinition("first_ms", "ms", "lower", None, "the first query after loading, end to end"),
    MetricDefinition("peak_rss_mb", "MB", "lower", None, "largest resident memory of the runner process (1 MB = 10^6 bytes)"),
    MetricDefinition("model_rss_mb", "MB", "lower", None, "peak resident memory less what the process held before it loaded the model"),
    *_stage_definitions(),
    MetricDefinition("warmup_ms.mean", "ms", "lower", Scenario.LATENCY, "mean end-to-end latency of the warm-up queries"),
    MetricDefinition("throughput_qps", "1/s", "higher", Scenario.LATENCY, "steady queries completed per second of wall-clock time"),
    MetricDefinition(
        "cv_percent", "%", "lower", Scenario.LATENCY, "coefficient of variation of the steady invoke times: 100 · standard deviation / mean"
    ),
    MetricDefinition("query_count", "queries", "neither", Scenario.LATENCY, "steady queries behind the latency statistics"),
    MetricDefinition("warmup_count", "queries", "neither", Scenario.LATENCY, "warm-up queries, left out of the statistics"),
    MetricDefinition("steady_secs", "s", "neither", Scenario.LATENCY, "wall-clock length of the steady part"),
    MetricDefinition("sample_count", "samples", "neither", Scenario.ACCURACY, "samples the model answered"),
    MetricDefinition(
        "non_finite_count", "samples", "lower", Scenario.ACCURACY, "samples with a NaN or infinite output; each counts as wrong"
    ),
    MetricDefinition(
        "accuracy.top1",
        "fraction",
        "higher",
        Scenario.ACCURACY,
        "share of samples whose top class is the label (Wilson interval)",
        _CLASSIFICATION,
    ),
    MetricDefinition("confidence.mean", "fraction", "neither", Scenario.ACCURACY, "mean probability of the top class", _CLASSIFICATION),
    MetricDefinition(
        "ece",
        "fraction",
        "lower",
        Scenario.ACCURACY,
        f"expected calibration error over {CALIBRATION_BINS} equal bins of confidence",
        _CLASSIFICATION,
    ),
    MetricDefinition("auc", "fraction", "higher", Scenario.ACCURACY, "area under the ROC curve (DeLong interval)", _ANOMALY),
    MetricDefinition(
        "sqnr_db", "dB", "higher", Scenario.ACCURACY, "signal to quantization noise of the outputs against the reference variant", _TENSOR
    ),
    MetricDefinition("rmse", "output units", "lower", Scenario.ACCURACY, "root mean square difference to the reference outputs", _TENSOR),
    MetricDefinition(
        "max_abs_error", "output units", "lower", Scenario.ACCURACY, "largest absolute difference to the reference outputs", _TENSOR
    ),
    MetricDefinition(
        "cosine", "1", "higher", Scenario.ACCURACY, "mean cosine similarity of each sample's outputs to the reference's", _TENSOR
    ),
)

#: Name → definition, in the order of printing.
METRICS = {definition.name: definition for definition in (*_DEFINITIONS, *SOAK_DEFINITIONS)}

#: Metrics named after something in the data: prefix → definition of the family.
FAMILIES = {
    family.name: family
    for family in (
        SIGN_FAMILY,
        MetricDefinition(
            "accuracy.top",
            "fraction",
            "higher",
            Scenario.ACCURACY,
            "share of samples whose label is among the top k classes (Wilson interval)",
            _CLASSIFICATION,
        ),
        MetricDefinition(
            "accuracy.class.", "fraction", "higher", Scenario.ACCURACY, "top-1 accuracy of the samples of one class", _CLASSIFICATION
        ),
        MetricDefinition(
            "accuracy.slice.", "fraction", "higher", Scenario.ACCURACY, "top-1 accuracy of one slice: column=value", _CLASSIFICATION
        ),
        MetricDefinition(
            "auc.slice.", "fraction", "higher", Scenario.ACCURACY, "area under the ROC curve of one slice: column=value", _ANOMALY
        ),
    )
}


def definition_of(name: str) -> MetricDefinition:
    """Return the definition of a metric, also of one named after data; raises KeyError for a name that no table holds."""
    if name in METRICS:
        return METRICS[name]
    for prefix, family in FAMILIES.items():
        if name.startswith(prefix) and len(name) > len(prefix):
            return family
    raise KeyError(name)
