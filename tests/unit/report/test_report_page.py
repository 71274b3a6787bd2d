"""The whole page: what it must show, what it must never show, and that it stands alone."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from plotly.offline import get_plotlyjs

from orchestrator.domain.results import Metric, ResultEnvelope
from orchestrator.domain.states import Emulation, JobOutcome, JobState, Scenario
from orchestrator.report.inputs import ReportExtras, ReportInput
from orchestrator.report.page import render_report
from tests.unit.report.builders import BENCH_A, BENCH_B, VARIANTS, DeviceCase, VariantCase, envelope, experiment

PLOTTING_SCRIPT = get_plotlyjs()
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'${{7*7}}<a href='javascript:alert(3)'>"


class Page(HTMLParser):
    """The elements of a page, the cells of its tables and the text a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[tuple[str, dict[str, str | None]]]]] = []
        self.words: list[str] = []
        self._inside: list[str] = []
        self._beside: list[bool] = []
        self._places_begin = False
        self.feed(text)
        #: The tables with a column for each place stand apart from those with a row for each.
        self.places = [table for table, beside in zip(self.tables, self._beside, strict=True) if beside]
        self.tables = [table for table, beside in zip(self.tables, self._beside, strict=True) if not beside]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)
        if tag == "table":
            self.tables.append([])
            self._beside.append(self._places_begin)
            self._places_begin = False
        elif tag == "div" and dict(attrs).get("class") == "places":
            self._places_begin = True
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag == "td":
            self.tables[-1][-1].append(("", dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            while self._inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "script" in self._inside or "style" in self._inside:
            return
        self.words.append(data)
        if "td" in self._inside:
            text, attributes = self.tables[-1][-1].pop()
            self.tables[-1][-1].append((text + data, attributes))

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def rows(self, table: int = 0) -> list[list[str]]:
        return [[" ".join(text.split()) for text, _ in row] for row in self.tables[table] if row]


def own_part(page: str) -> str:
    """The page without the plotting script."""
    assert PLOTTING_SCRIPT.replace("\r", "") in page
    return page.replace(PLOTTING_SCRIPT.replace("\r", ""), "")


@pytest.fixture(scope="module")
def page() -> str:
    return own_part(render_report(experiment()))


def figures_of(page: str) -> dict[str, dict[str, object]]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert found
    figures = json.loads(found[1])["figures"]
    assert isinstance(figures, dict)
    return figures


def test_every_variant_stands_in_the_matrix_once_for_each_device(page: str) -> None:
    first_cells = [(row[0].split()[0], row[1]) for row in Page(page).rows(0)]
    assert sorted(first_cells) == sorted((case.name, device.name) for case in VARIANTS for device in (BENCH_A, BENCH_B))


def test_each_file_stands_once_with_its_accuracy_in_every_place_and_a_collapse_is_coloured(page: str) -> None:
    (table,) = Page(page).places
    lines = {row[0][0].split()[0]: row[1:] for row in table if row}
    assert list(lines) == [case.name for case in VARIANTS]
    assert [(text.strip(), attributes["class"]) for text, attributes in lines["onnx-u8s8"]] == [("97.3 %", "num"), ("9.2 %", "bad num")]


def test_one_place_or_very_many_get_no_table_of_places() -> None:
    results = [result for result in experiment().results if result.device is not None and result.device.name == BENCH_A.name]
    assert Page(own_part(render_report(ReportInput(results)))).places == []
    many = [replace(BENCH_A, name=f"bench-{number}") for number in range(9)]
    results = [envelope(VARIANTS[0], device, Scenario.ACCURACY, 0) for device in many]
    assert Page(own_part(render_report(ReportInput(results)))).places == []


def test_an_experiment_that_asks_for_no_times_has_no_room_for_them() -> None:
    results = [result for result in experiment().results if result.job.scenario is Scenario.ACCURACY]
    page = own_part(render_report(ReportInput(results)))
    assert "p50 ms" not in page
    assert 'id="latency"' not in page
    assert 'href="#latency"' not in page


def test_the_reference_stands_first_and_is_marked(page: str) -> None:
    assert Page(page).rows(0)[0][0].startswith("onnx-fp32")
    assert "reference" in Page(page).rows(0)[0][0]


def test_the_matrix_gives_accuracy_with_interval_difference_flips_and_percentiles(page: str) -> None:
    row = next(row for row in Page(page).rows(0) if row[0].startswith("onnx-u8s8 ") and row[1] == "bench-b")
    assert row[2] == "9.2 % [7.5, 11.3]"
    assert row[3] == "−88.3 [−90.4, −86.2]"
    assert row[4] == "795 / 1"
    assert all(re.fullmatch(r"0\.\d{3}", text) for text in row[5:8])
    assert row[8].startswith("semivalid")


def test_a_collapse_is_told_in_red_before_everything_else_with_variant_device_numbers_and_likely_cause(page: str) -> None:
    finding = re.search(r'<section class="finding red">(.*?)</section>', page, re.DOTALL)
    assert finding
    assert page.index(finding[0]) < page.index('<p class="lead">')
    words = html.unescape(re.sub(r"<[^>]+>", " ", finding[1]))
    for fact in ("onnx-u8s8", "bench-b", "9.2 %", "97.5 %", "−88.3", "795", "Likely cause", "VNNI", "97.3 % on bench-a"):
        assert fact in words


def test_no_cause_is_named_where_the_facts_do_not_fit_one() -> None:
    with_vnni = replace(BENCH_B, features=BENCH_A.features)
    unknown = replace(BENCH_B, features={})
    unsigned = replace(BENCH_B, drops={"onnx-u8u8": 0.5, "onnx-u8s8-reduced": 0.5, "tflite-w8a8": 0.5})
    for device in (with_vnni, unknown, unsigned):
        text = own_part(render_report(experiment(devices=(BENCH_A, device))))
        assert "collapses on bench-b" in text
        assert "VPMADDUBSW" not in text


def test_a_small_loss_within_the_interval_is_no_finding() -> None:
    steady = replace(BENCH_B, drops={})
    variants = tuple(case for case in VARIANTS if case.name != "tflite-w8a8")
    text = own_part(render_report(experiment(variants, (BENCH_A, steady), with_faults=False)))
    assert 'class="finding' not in text


def test_an_unsupported_percentile_is_a_dash_with_its_cause_and_never_a_number() -> None:
    report = experiment(with_faults=False)
    cause = "3000 queries are fewer than the 9999 that support it"

    def without_p99(result: ResultEnvelope) -> ResultEnvelope:
        metrics = tuple(
            metric.model_copy(update={"value": None, "cause": cause}) if metric.name == "latency_ms.p99" else metric
            for metric in result.metrics
        )
        return result.model_copy(update={"metrics": metrics})

    shown = Page(own_part(render_report(replace(report, results=[without_p99(result) for result in report.results]))))
    for row in shown.tables[0][1:]:
        text, attributes = row[7]
        assert text.strip() == "–"
        assert attributes["title"] == cause
        assert "data-sort" not in attributes


def test_a_measured_percentile_is_the_median_over_the_repeats_with_their_range() -> None:
    report = experiment(VARIANTS[:1], (BENCH_A,), with_faults=False)
    values = iter((0.100, 0.300, 0.120))

    def with_p50(result: ResultEnvelope) -> ResultEnvelope:
        if result.job.scenario is not Scenario.LATENCY:
            return result
        value = next(values)
        return result.model_copy(
            update={
                "metrics": tuple(
                    metric.model_copy(update={"value": value}) if metric.name == "latency_ms.p50" else metric for metric in result.metrics
                )
            }
        )

    shown = Page(own_part(render_report(replace(report, results=[with_p50(result) for result in report.results]))))
    text, attributes = shown.tables[0][1][5]
    assert text == "0.120"
    assert attributes["title"] == "median of 3 repeats, from 0.100 to 0.300"


def _times_of(device: DeviceCase) -> ReportInput:
    """An experiment whose times on ``device`` are numbers that occur nowhere else."""
    report = experiment(devices=(BENCH_A, device), with_faults=False)

    def marked(result: ResultEnvelope) -> ResultEnvelope:
        if result.device is None or result.device.name != device.name or result.job.scenario is not Scenario.LATENCY:
            return result
        metrics = tuple(Metric(name=metric.name, value=7654.321, unit=metric.unit, count=3000) for metric in result.metrics)
        assert result.attempt is not None
        attempt = result.attempt.model_copy(update={"duration_secs": 7654.321})
        return result.model_copy(update={"metrics": metrics, "attempt": attempt})

    extras = report.extras
    mine = {result.job.id for result in report.results if result.device is not None and result.device.name == device.name}
    shapes = tuple(
        replace(item, edges_ms=(7654.321, *item.edges_ms[1:]), max_ms=7654.321) if item.job_id in mine else item
        for item in extras.latencies
    )
    series = tuple(replace(item, time_s=(*item.time_s[:-1], 7654.321)) if item.job_id in mine else item for item in extras.telemetry)
    return replace(
        report, results=[marked(result) for result in report.results], extras=replace(extras, latencies=shapes, telemetry=series)
    )


def _mentions_marked_times(text: str) -> bool:
    return re.search(r"(?<![\d.a-f])7[\s\u202f,]?65[34]", text) is not None


def soaked(device: DeviceCase, **values: float) -> ResultEnvelope:
    metrics = tuple(Metric(name=name, value=value, unit="") for name, value in values.items())
    return envelope(VARIANTS[0], device, Scenario.SOAK, 0, metrics=metrics)


def test_numbers_that_change_with_heat_are_told_in_red_and_throttling_after_it() -> None:
    hot = soaked(BENCH_A, probe_changed_samples=3.0, time_to_throttle_secs=93.4, sustained_burst=0.61)
    text = own_part(render_report(ReportInput([hot, soaked(BENCH_B, sustained_burst=0.99)])))
    red = re.search(r'<section class="finding red">(.*?)</section>', text, re.DOTALL)
    assert red
    assert "The numbers of onnx-fp32 change with heat on bench-a" in red[1]
    assert "onnx-fp32 on bench-a after 93.4\u00a0s, sustained/burst 0.61." in text
    assert "1 cell throttled under sustained load" in Page(text).text
    assert [row[2] for row in Page(text).rows(0)] == ["0.61 throttled after 93.4 s", "0.99"]


def test_soaks_of_an_emulated_cpu_throttle_nowhere_on_the_page() -> None:
    emulated = soaked(replace(BENCH_B, emulated=Emulation.CPU), time_to_throttle_secs=93.4, sustained_burst=0.61)
    text = own_part(render_report(ReportInput([emulated])))
    assert "93.4" not in text
    assert "throttled" not in Page(text).text
    assert Page(text).rows(0)[0][2] == "–"


def test_an_emulated_cpus_times_are_nowhere_on_the_page() -> None:
    text = own_part(render_report(_times_of(replace(BENCH_B, emulated=Emulation.CPU))))
    assert not _mentions_marked_times(re.sub(r"[0-9a-f]{12,64}", "", text))
    assert "EMULATED" in text
    rows = [row for row in Page(text).rows(0) if row[1].startswith("bench-b")]
    assert len(rows) == len(VARIANTS)
    assert all(row[5:8] == ["–", "–", "–"] for row in rows)
    assert all(row[2].endswith("]") for row in rows)


def test_the_check_above_would_see_the_times_of_a_device_that_is_not_emulated() -> None:
    assert _mentions_marked_times(own_part(render_report(_times_of(BENCH_B))))


def test_simulated_surroundings_keep_their_latency_and_are_marked_everywhere() -> None:
    text = own_part(render_report(experiment(devices=(BENCH_A, replace(BENCH_B, emulated=Emulation.ENVIRONMENT)))))
    assert text.index("EMULATED") < text.index('<p class="lead">')
    rows = [row for row in Page(text).rows(0) if row[1].startswith("bench-b")]
    assert all(row[1] == "bench-b (emulated: environment)" and row[5] != "–" for row in rows)


def test_without_emulation_there_is_no_banner(page: str) -> None:
    assert "EMULATED" not in page


def hostile_experiment() -> ReportInput:
    variants = (
        VARIANTS[0],
        *(replace(case, name=HOSTILE + case.name, precision=HOSTILE, quantization=HOSTILE, notes=(HOSTILE,)) for case in VARIANTS[1:4]),
    )
    device = replace(BENCH_B, name=HOSTILE, profile=HOSTILE, cpu=HOSTILE)
    report = experiment(variants, (BENCH_A, device), model=HOSTILE)
    results = [
        result.model_copy(update={"experiment": result.experiment.model_copy(update={"name": HOSTILE})}) for result in report.results
    ]
    extras = replace(report.extras, spec_text=HOSTILE, spec_file=HOSTILE, command=HOSTILE)
    return replace(report, results=results, extras=extras, edgematrix_version=HOSTILE)


def test_hostile_names_cannot_inject_markup() -> None:
    text = own_part(render_report(hostile_experiment()))
    kind = {"script": 4, "img": 0, "a": None}
    tags = Page(text).tags
    scripts = [attributes for tag, attributes in tags if tag == "script"]
    assert len(scripts) == kind["script"]
    assert not [tag for tag, _ in tags if tag in ("img", "iframe", "object", "embed", "link", "base", "form")]
    for tag, attributes in tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("href", "src", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith("#"), tag


def test_hostile_names_reach_the_figures_as_plain_text() -> None:
    figures = figures_of(own_part(render_report(hostile_experiment())))
    texts = re.findall(r'"(?:text|hovertext|ticktext)": ?(\[[^\]]*\]|"(?:[^"\\]|\\.)*")', json.dumps(figures))
    assert any("alert" in text for text in texts)
    for text in texts:
        assert not re.search(r"<(?!br>)", text)


def test_a_dollar_sign_in_a_name_stays_a_dollar_sign() -> None:
    variants = (VARIANTS[0], replace(VARIANTS[1], name="cost $x^2$ 模型"))
    text = own_part(render_report(experiment(variants, (BENCH_A,), with_faults=False)))
    assert re.search(r"<text[^>]*>cost \$x\^2\$ 模型</text>", text)


def test_a_name_cannot_turn_the_line_it_stands_in_round() -> None:
    text = own_part(render_report(experiment((VARIANTS[0], replace(VARIANTS[1], name="safe\u202etsrif\u0007")), (BENCH_A,))))
    assert "\u202e" not in text
    assert "\u0007" not in text
    assert "safe\ufffdtsrif\ufffd" in text


def test_the_page_refers_to_nothing_on_the_network(page: str) -> None:
    assert not re.findall(r"https?://|//[a-z0-9.-]+\.[a-z]{2,}/", page)
    assert not re.findall(r"@import|url\((?!#|data:)", page)


def test_the_policy_of_the_page_forbids_loading_and_admits_just_its_own_scripts(page: str) -> None:
    policy = next(attributes["content"] for tag, attributes in Page(page).tags if tag == "meta" and attributes.get("http-equiv"))
    assert policy
    assert "default-src 'none'" in policy
    assert policy.count("'sha256-") == 3
    assert "script-src 'sha256-" in policy


def test_every_figure_has_a_static_drawing_for_paper_and_for_pages_without_javascript(page: str) -> None:
    static = re.findall(r'<div class="static"[^>]*><svg viewBox="0 0 700 \d+">', page)
    assert len(static) == len(figures_of(page)) == page.count('class="plot"') > 8


def test_three_hundred_jobs_stay_below_a_megabyte_beside_the_plotting_script() -> None:
    devices = tuple(replace(BENCH_A, name=f"bench-{index}", slower=1.0 + index) for index in range(5))
    report = experiment(devices=devices, with_faults=False)
    assert len(report.results) == 300
    assert len(own_part(render_report(report)).encode()) <= 1_000_000


def test_a_lab_of_forty_devices_is_told_in_tables_and_the_figures_say_what_they_leave_out() -> None:
    devices = tuple(replace(BENCH_A, name=f"bench-{index:02d}") for index in range(40))
    text = own_part(render_report(experiment(VARIANTS[:2], devices, repeats=1, with_faults=False)))
    assert "32 further places are in the tables." in text
    assert len(Page(text).rows(0)) == 80


def test_what_was_not_measured_is_told_with_cause_and_remedy(page: str) -> None:
    words = Page(page).text
    assert "2 jobs of 122 were not measured" in words
    for fact in (
        "the runtime died of SIGSEGV while it loaded the model",
        "try another version of the runtime",
        "runtime_crashed",
        "environment litert has no onnxruntime",
        "edgematrix env add",
    ):
        assert fact in words


def test_reasons_for_doubt_are_told_in_words_with_their_count(page: str) -> None:
    shown = Page(page)
    validity = next(row for index in range(len(shown.tables)) for row in shown.rows(index) if row and row[0] == "semivalid")
    assert validity[1] == "high variation"
    assert validity[2] == "invoke times vary by 9.1 %, more than 2.5 %"
    assert validity[3] == "18"


def test_what_no_sensor_can_tell_is_said_once_for_each_device(page: str) -> None:
    assert page.count("unknown for want of a sensor") == 2


def test_a_file_that_is_not_what_it_claims_is_a_finding() -> None:
    note = "declared fp32, but 11 of 12 weight tensors hold int8 (56434 values)"
    variants = (VARIANTS[0], replace(VARIANTS[6], notes=(note,)))
    words = Page(own_part(render_report(experiment(variants, (BENCH_A,), with_faults=False)))).text
    assert "tflite-fp32 is not what it is declared to be" in words
    assert words.count(note) == 2


def test_without_a_comparison_the_difference_is_undetermined_and_says_why() -> None:
    report = experiment(with_faults=False)
    shown = Page(own_part(render_report(replace(report, extras=replace(report.extras, comparisons=())))))
    cells = [row[3] for row in shown.tables[0][1:] if "reference" not in row[0][0]]
    assert {text for text, _ in cells} == {"undetermined"}
    assert all(attributes["title"] for _, attributes in cells)


def test_the_summary_counts_add_up(page: str) -> None:
    lead = re.search(r'<p class="lead">(.*?)</p>', page, re.DOTALL)
    assert lead
    assert "10 variants of 1 model on 2 devices: 122 jobs, 120 measured, not measured: 1 error and 1 skipped." in lead[1]
    assert "102 are valid and 18 are semivalid" in lead[1]
    assert "1 lost more than 5 points, 3 lost accuracy, 5 points or less and 14 did not differ beyond the interval" in lead[1]


def test_the_same_file_in_two_places_gives_bit_exact_share_and_flips(page: str) -> None:
    shown = Page(page)
    rows = [
        row
        for index in range(len(shown.tables))
        for row in shown.rows(index)
        if len(row) == 7 and row[2] == "bench-a" and row[1] == "bench-b"
    ]
    by_name = {row[0]: row for row in rows}
    assert by_name["onnx-u8u8"][3] == "100.0 %"
    assert by_name["onnx-u8s8"][3] == "0.0 %"
    assert by_name["onnx-u8s8"][5] == "792 / 0"


def test_two_environments_of_one_device_are_two_places() -> None:
    cases = [envelope(VARIANTS[7], BENCH_A, Scenario.ACCURACY, 0), envelope(VARIANTS[7], BENCH_A, Scenario.ACCURACY, 1)]
    results = [cases[0], cases[1].model_copy(update={"job": cases[1].job.model_copy(update={"environment": "litert"})})]
    assert [row[1] for row in Page(own_part(render_report(ReportInput(results)))).rows(0)] == ["bench-a · default", "bench-a · litert"]


def test_the_page_tells_how_to_reproduce_it(page: str) -> None:
    words = Page(page).text
    assert "edgematrix run examples/digits.yaml" in words
    assert "name: digits models: - name: digits-cnn" in words
    result = experiment(VARIANTS[:1], (BENCH_A,)).results[0]
    for digest in (result.experiment.spec_sha256, result.dataset.sha256):
        assert digest in page


def test_conditions_name_cpu_features_runtime_and_what_is_unknown(page: str) -> None:
    words = Page(page).text
    for fact in (
        "Core i5-4590 (Haswell)",
        "avx2 (not: avx512f, avx512_vnni, avx_vnni, amx_int8)",
        "onnxruntime 1.23.2",
        "tflite-runtime 2.14.0",
        "XNNPACK",
        "unknown: no sensor",
    ):
        assert fact in words


def test_a_hostile_record_of_conditions_still_gives_a_page() -> None:
    for conditions in (
        {"cpu": []},
        {"cpu": {"features": {"avx2": "yes"}}, "environment": 7, "unknown": {"x" * 9000: ["y"]}},
        {"frequency": {"policy0": 1}, "os": None, "memory_bytes": "much"},
    ):
        result = envelope(VARIANTS[0], BENCH_A, Scenario.ACCURACY, 0)
        assert result.attempt is not None
        hostile = result.model_copy(
            update={"attempt": result.attempt.model_copy(update={"conditions": conditions, "runner": {"placement": [1], "runtime": "x"}})}
        )
        assert "onnx-fp32" in render_report(ReportInput([hostile]))


def test_an_experiment_that_still_runs_says_what_is_missing() -> None:
    waiting = envelope(
        VARIANTS[0], None, Scenario.LATENCY, 0, attempt=None, validity=None, metrics=(), job_state=JobState.SUBMITTED, job_outcome=None
    )
    done = envelope(VARIANTS[0], BENCH_A, Scenario.ACCURACY, 0)
    words = Page(own_part(render_report(ReportInput([waiting, done])))).text
    assert "1 still submitted" in words
    assert "no device" in words


def test_an_empty_experiment_is_a_page_too() -> None:
    assert "This experiment has no jobs." in render_report(ReportInput([], ReportExtras()))


def test_the_same_input_gives_the_same_page() -> None:
    report = experiment(VARIANTS[:3], repeats=1)
    assert render_report(report) == render_report(report)


def test_a_canceled_job_is_not_counted_as_measured() -> None:
    result = envelope(VARIANTS[0], BENCH_A, Scenario.ACCURACY, 0, job_outcome=JobOutcome.CANCELED)
    words = Page(own_part(render_report(ReportInput([result])))).text
    assert "1 job, 0 measured, not measured: 1 canceled" in words
    assert Page(own_part(render_report(ReportInput([result])))).rows(0)[0][2] == "–"


def test_a_case_of_its_own_is_needed_for_every_variant() -> None:
    """The builder is what these facts stand on: it must give ten different files."""
    assert len({case.name for case in VARIANTS}) == 10
    assert isinstance(VARIANTS[0], VariantCase)


def test_a_device_has_one_record_of_conditions_unless_it_changed_between_jobs() -> None:
    report = experiment(VARIANTS[:3], (BENCH_A,), with_faults=False)
    assert render_report(report).count("Found by 18 jobs.") == 1
    last = report.results[-1]
    assert last.attempt is not None
    newer = {**last.attempt.conditions, "kernel": {"release": "6.13.0"}}
    changed = last.model_copy(update={"attempt": last.attempt.model_copy(update={"conditions": newer})})
    text = render_report(replace(report, results=[*report.results[:-1], changed]))
    assert "Found by 17 jobs." in text
    assert "Found by 1 job." in text
    assert "kernel 6.13.0" in text


def test_measurements_in_doubt_are_counted_at_the_top_with_their_reasons(page: str) -> None:
    words = Page(page).text
    assert "18 measurements may be trusted in part Marked semivalid: high variation (18)." in words
    assert words.index("may be trusted in part") < words.index("The matrix at a glance")
