"""The cells of a row: numbers as a reader sees them, with marks that point to sentences below the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from orchestrator.report.words import ABSENT, fixed, number

if TYPE_CHECKING:
    from orchestrator.domain.results import Reason
    from orchestrator.report.reading import Spread
    from orchestrator.service.results import Problem, ResultRow, SoakColumns

LEVEL_STYLE = {"valid": "green", "semivalid": "yellow", "invalid": "bold red"}


class Footnotes:
    """Sentences below a table, each said once and numbered; cells point to them with ``[1]``."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"

    def marks(self, texts: Sequence[str]) -> str:
        return "".join(self.mark(text) for text in texts)

    def lines(self) -> list[Text]:
        return [Text(f"[{index}] {text}") for index, text in enumerate(self.texts, 1)]


def variant_cell(row: ResultRow, notes: Footnotes) -> Text:
    cell = Text(row.variant)
    if row.reference:
        cell.append(" ref", style="dim")
    told = [*row.notes, f"on {row.place}, {row.fallback}"] if row.fallback else row.notes
    marks = notes.marks([f"{row.variant}: {note}" for note in told])
    return cell.append(f" {marks}", style="yellow") if marks else cell


def accuracy_cell(row: ResultRow, notes: Footnotes, beside: str) -> Text:
    metric = row.accuracy
    if metric is None:
        return Text(ABSENT)
    if metric.value is None:
        return Text(f"{ABSENT} {notes.mark(metric.cause or 'unknown')}")
    text = fixed(metric.value * row.factor, row.decimals)
    if metric.low is not None and metric.high is not None:
        text += f"{beside}[{fixed(metric.low * row.factor, row.decimals)}, {fixed(metric.high * row.factor, row.decimals)}]"
    if row.deterministic is False:
        text += f" {notes.mark(f'{row.variant}: not deterministic, repeats gave different outputs; repeat 0 is shown')}"
    return Text(text)


def flips_cell(row: ResultRow, notes: Footnotes) -> Text:
    if row.reference:
        return Text("")
    pair = row.against_reference
    if pair is None:
        return Text(ABSENT)
    if pair.flips_to_wrong is None:
        return Text(f"{ABSENT} {notes.mark(pair.cause)}" if pair.cause else ABSENT)
    lost = pair.high is not None and pair.high < 0
    elsewhere = f"compared with the reference on {row.reference_place}: it was not measured on {row.place}" if row.reference_place else None
    cell = Text(f"{pair.flips_to_wrong} / {pair.flips_to_right}", style="bold red" if lost else "")
    marks = notes.marks([text for text in (pair.cause, elsewhere) if text])
    return cell.append(f" {marks}") if marks else cell


def p50_cell(row: ResultRow, notes: Footnotes, beside: str) -> Text:
    if row.p50_ms.value is None:
        return _absent_latency(row, row.p50_ms, notes)
    text = number(row.p50_ms.value)
    if row.p50_ms.repeats > 1:
        text += f"{beside}({number(row.p50_ms.low)}–{number(row.p50_ms.high)})"
    return Text(text)


def p90_cell(row: ResultRow, notes: Footnotes) -> Text:
    return _absent_latency(row, row.p90_ms, notes) if row.p90_ms.value is None else Text(number(row.p90_ms.value))


def kept_cell(row: ResultRow, notes: Footnotes, beside: str) -> Text:
    """The last window's rate as a part of the first one's."""
    return _spread_cell(row.soak.sustained_burst, notes, beside) if row.soak else Text(ABSENT)


def degradation_cell(row: ResultRow, notes: Footnotes, beside: str) -> Text:
    return _spread_cell(row.soak.degradation_percent, notes, beside) if row.soak else Text(ABSENT)


def throttle_cell(row: ResultRow, notes: Footnotes) -> Text:
    """When it throttled and what showed it; of several repeats, how many did."""
    soak = row.soak
    if soak is None:
        return Text(ABSENT)
    if soak.throttled:
        several = f", {soak.throttled} of {soak.told}" if soak.told > 1 else ""
        signs = " / ".join(soak.throttle_signs)
        return Text(f"after {number(soak.time_to_throttle_secs.value)} s{several}{f' ({signs})' if signs else ''}", style="yellow")
    if soak.told:
        return Text("not throttled")
    return Text(f"unknown {notes.mark(soak.time_to_throttle_secs.cause)}" if soak.time_to_throttle_secs.cause else "unknown")


def numbers_cell(row: ResultRow, notes: Footnotes) -> Text:
    """Whether the probes gave other numbers under heat."""
    if row.soak is None:
        return Text(ABSENT)
    changed = row.soak.changed_samples
    if changed.value is None:
        return Text(f"{ABSENT} {notes.mark(changed.cause)}" if changed.cause else ABSENT)
    worst = changed.high or 0
    return Text(f"CHANGED in {worst:.0f} samples", style="bold red") if worst else Text("stable", style="green")


def soak_sentence(row: ResultRow, soak: SoakColumns) -> str:
    """One row's soaks as a sentence, for below the table."""
    if soak.throttled:
        signs = " / ".join(soak.throttle_signs)
        told = f"throttled after {number(soak.time_to_throttle_secs.value)} s{f' ({signs})' if signs else ''}"
        told += f" in {soak.throttled} of {soak.told} runs" if soak.told > 1 else ""
    else:
        told = "did not throttle" if soak.told else "whether it throttled is unknown"
    if soak.sustained_burst.value is not None:
        told += f"; {number(100 * soak.sustained_burst.value)} % of the first rate was left"
    if soak.changed_samples.value is not None:
        changed = soak.changed_samples.high or 0
        told += f"; THE NUMBERS CHANGED with heat in {changed:.0f} probe samples" if changed else "; the numbers did not change"
    return f"{row.variant} on {row.place}: {told}"


def _spread_cell(spread: Spread, notes: Footnotes, beside: str) -> Text:
    if spread.value is None:
        return Text(f"{ABSENT} {notes.mark(spread.cause)}" if spread.cause else ABSENT)
    text = number(spread.value)
    return Text(f"{text}{beside}({number(spread.low)}–{number(spread.high)})" if spread.repeats > 1 else text)


def _absent_latency(row: ResultRow, spread: Spread, notes: Footnotes) -> Text:
    """Say why a time is absent, unless its jobs were not measured: then the last column says it."""
    told_elsewhere = row.emulated != "cpu" and spread.repeats == 0
    return Text(ABSENT if told_elsewhere or not spread.cause else f"{ABSENT} {notes.mark(spread.cause)}")


def validity_cell(row: ResultRow, notes: Footnotes, reasons: Mapping[tuple[str, str], str]) -> Text:
    """The worst validity of the measured jobs, and how those ended that were not measured."""
    outcomes = list(dict.fromkeys(problem.outcome for problem in row.problems))
    cell = Text(row.validity or ("" if outcomes else ABSENT), style=LEVEL_STYLE.get(row.validity or "", ""))
    if row.emulated != "none":
        cell.append(f" EMULATED {row.emulated}", style="bold yellow")
    for outcome in outcomes:
        cell.append(f" {outcome}" if cell else outcome, style="bold red" if outcome in ("error", "timeout") else "")
    marks = notes.marks([reasons[reason.code, reason.level] for reason in row.reasons])
    marks += notes.marks(_problem_texts(row))
    return cell.append(f" {marks}") if marks else cell


def reason_texts(rows: Sequence[ResultRow]) -> dict[tuple[str, str], str]:
    """One sentence for each kind of reason: where rows differ in the number, that of the row farthest beyond the threshold."""
    found: dict[tuple[str, str], list[Reason]] = {}
    for row in rows:
        for reason in row.reasons:
            found.setdefault((reason.code, reason.level), []).append(reason)
    texts = {}
    for key, reasons in found.items():
        worst = max(reasons, key=lambda reason: abs((reason.value or 0.0) - (reason.threshold or 0.0)))
        several = len({reason.message for reason in reasons}) > 1
        texts[key] = f"{worst.level.value}: {worst.message}" + (" (the worst of these rows)" if several else "")
    return texts


def _problem_texts(row: ResultRow) -> list[str]:
    """One sentence for each reason; where it kept only some of the row's jobs from being measured, which."""
    jobs: dict[str, list[Problem]] = {}
    for problem in row.problems:
        if problem.code:  # without one it was canceled: the word in the cell says it all
            reason = f"{problem.outcome} ({problem.code}): {problem.message}" + (f" → {problem.remedy}" if problem.remedy else "")
            jobs.setdefault(reason, []).append(problem)
    texts = []
    for reason, problems in jobs.items():
        count = sum(len(problem.job_ids) for problem in problems)
        words = " and ".join(f"{len(problem.job_ids)} {problem.scenario}" for problem in problems)
        texts.append(reason if count == len(row.job_ids) else f"{row.variant}, {words} of {len(row.job_ids)} jobs: {reason}")
    return texts


def percent(share: float | None) -> Text:
    return Text(ABSENT if share is None else fixed(100 * share, 1))
