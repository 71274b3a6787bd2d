"""The report as one HTML page: nothing is loaded from anywhere, nothing from the results can become markup, and it prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.domain.results import ResultEnvelope
from orchestrator.domain.states import Scenario
from orchestrator.report import accuracy_charts, latency_charts, measured_tables, record_tables
from orchestrator.report.conditions import conditions_of
from orchestrator.report.findings import Finding, emulation, findings, summary
from orchestrator.report.inputs import ReportInput
from orchestrator.report.panels import Look
from orchestrator.report.reading import Matrix, is_measured, read_matrix
from orchestrator.report.shell import Drawing, DrawnGroup, render_page
from orchestrator.report.table import Table
from orchestrator.report.thermal_page import draw_soaks, left_out_words, predictions
from orchestrator.report.thermal_tables import changes_table, fits_table, soaks_table
from orchestrator.report.words import clean, counted, listed, whole

MAX_SPEC_CHARACTERS = 60_000
MAX_JOB_ROWS = 1_000


@dataclass(frozen=True)
class ModelSection:
    """Everything that is said about one model."""

    name: str
    glance: DrawnGroup | None
    forest: DrawnGroup | None
    distributions: DrawnGroup | None
    stages: DrawnGroup | None
    places: Table | None
    matrix: Table
    has_accuracy: bool
    has_latency: bool
    slices: Table
    timing: Table


def render_report(report: ReportInput) -> str:
    """Return the whole page. Pure: the same input gives the same text."""
    matrix = read_matrix(report)
    look, drawing = Look(matrix), Drawing()
    models = [_model_section(matrix, look, drawing, model) for model in matrix.models]
    telemetry = drawing.draw(latency_charts.telemetry(matrix))
    soaks = report.extras.soaks
    soak_groups = draw_soaks(drawing, soaks)
    jobs = record_tables.jobs_table(matrix)
    left_out = max(0, len(jobs.rows) - MAX_JOB_ROWS)
    return render_page(
        "report.html",
        drawing,
        kind="report",
        title=_title(matrix),
        header=_header(matrix, report),
        summary=summary(matrix) if matrix.results else "This experiment has no jobs.",
        findings=_by_level(findings(matrix)),
        emulation=emulation(matrix),
        models=models,
        soaks=soaks_table(soaks),
        changes=changes_table(soaks),
        fits=fits_table(soaks),
        predictions=predictions(soaks),
        soak_groups=soak_groups,
        soaks_left_out=left_out_words(soaks),
        elsewhere=measured_tables.elsewhere_table(matrix),
        validity=record_tables.validity_table(matrix.results),
        unknown=_unknown(matrix.results),
        files=record_tables.files_table(matrix),
        errors=record_tables.errors_table(matrix.results),
        conditions=conditions_of(matrix, report.extras.untried_profiles),
        telemetry=telemetry,
        jobs=Table(jobs.key, jobs.columns, jobs.rows[:MAX_JOB_ROWS]),
        jobs_left_out=left_out,
        reproduce=_reproduce(matrix, report),
        command=clean(report.extras.command),
        spec_file=clean(report.extras.spec_file, 200),
        spec_text=_spec(report.extras.spec_text),
    )


def _model_section(matrix: Matrix, look: Look, drawing: Drawing, model: str) -> ModelSection:
    return ModelSection(
        name=model,
        glance=drawing.draw(accuracy_charts.glance(matrix, look, model)),
        forest=drawing.draw(accuracy_charts.forest(matrix, look, model)),
        distributions=drawing.draw(latency_charts.distributions(matrix, look, model)),
        stages=drawing.draw(latency_charts.stages(matrix, look, model)),
        places=measured_tables.places_table(matrix, model),
        matrix=measured_tables.matrix_table(matrix, model),
        has_accuracy=measured_tables.asks_for(matrix, model, Scenario.ACCURACY),
        has_latency=measured_tables.asks_for(matrix, model, Scenario.LATENCY),
        slices=measured_tables.slices_table(matrix, model),
        timing=measured_tables.timing_table(matrix, model),
    )


def _title(matrix: Matrix) -> str:
    names = list(dict.fromkeys(clean(result.experiment.name, 120) for result in matrix.results))
    return listed(names, 3) or "no results"


def _header(matrix: Matrix, report: ReportInput) -> list[tuple[str, str]]:
    """The line under the title: when, on what, by what."""
    experiments = list({result.experiment.id: result.experiment for result in matrix.results}.values())
    devices = list(dict.fromkeys(place.device.name for place in matrix.places))
    datasets = list(
        dict.fromkeys(f"{clean(result.dataset.file, 100)} ({counted(result.dataset.sample_count, 'sample')})" for result in matrix.results)
    )
    measured = sum(is_measured(result) for result in matrix.results)
    entries = [
        ("Submitted", listed([clean(item.submitted_utc, 40)[:19].replace("T", " ") + " UTC" for item in experiments], 3)),
        ("Devices", listed([clean(name, 80) for name in devices], 6)),
        ("Data", listed(datasets, 3)),
        ("Measured", f"{whole(measured)} of {counted(len(matrix.results), 'job')}"),
        ("Experiment", listed([clean(item.id, 40) for item in experiments], 3)),
        ("Report made", clean(report.generated_utc, 40)[:19].replace("T", " ") + " UTC" if report.generated_utc else ""),
        ("edgematrix", clean(report.edgematrix_version, 40)),
    ]
    return [(name, text) for name, text in entries if text]


def _by_level(found: Sequence[Finding]) -> dict[str, list[Finding]]:
    return {level: [finding for finding in found if finding.level == level] for level in ("red", "amber", "note")}


def _unknown(results: Sequence[ResultEnvelope]) -> list[tuple[str, str]]:
    """What no sensor of a device can tell, said once for each device."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for name in result.validity.unknown if result.validity and result.device else ():
            found.setdefault(clean(result.device.name, 80) if result.device else "", {})[clean(name, 200)] = None
    return [(device, "; ".join(names)) for device, names in found.items()]


def _reproduce(matrix: Matrix, report: ReportInput) -> list[tuple[str, str]]:
    """Digests of everything that went in; with them the same question can be asked again."""
    facts: dict[tuple[str, str], None] = {}
    for result in matrix.results:
        facts[(f"Spec of {clean(result.experiment.name, 80)}", clean(result.experiment.spec_sha256, 64))] = None
        facts[(f"Data {clean(result.dataset.file, 120)}", clean(result.dataset.sha256, 64))] = None
        if result.attempt:
            facts[("Agent", clean(result.attempt.agent_sha256, 64))] = None
            digest = result.attempt.conditions.get("environment_digest")
            device = clean(result.device.name, 60) if result.device else "no device"
            if isinstance(digest, str):
                facts[(f"Environment {clean(result.job.environment, 60)} on {device}", clean(digest, 64))] = None
    versions = sorted({clean(result.experiment.edgematrix_version, 40) for result in matrix.results})
    analyses = sorted({str(result.analysis_version) for result in matrix.results if result.analysis_version is not None})
    named = list(facts)[:60]
    return [
        *named,
        ("edgematrix that measured", listed(versions, 4)),
        ("Version of the analysis", listed(analyses, 4) or "–"),
        ("edgematrix that wrote this", clean(report.edgematrix_version, 40) or "–"),
    ]


def _spec(text: str) -> str:
    shown = "\n".join(clean(line, 2000) for line in text[:MAX_SPEC_CHARACTERS].split("\n"))
    return shown if len(text) <= MAX_SPEC_CHARACTERS else f"{shown}\n… ({whole(len(text) - MAX_SPEC_CHARACTERS)} more characters)"
