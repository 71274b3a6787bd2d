"""Where the nodes ran, from the device to the table, the job's page and the report."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from orchestrator.cli.records import print_job
from orchestrator.cli.tables import print_experiment
from orchestrator.report.page import render_report
from orchestrator.service import reports, results, submission
from orchestrator.store.database import session
from orchestrator.store.tables import Job
from tests.integration.dispatch.bench import Bench
from tests.integration.running import DIGITS, variant, write_spec


def test_a_delegate_that_takes_no_node_of_an_int8_model_is_told_wherever_its_results_are(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    variants = [
        variant("fp32", DIGITS / "tflite_fp32.tflite"),
        variant("w8a8", DIGITS / "tflite_w8a8.tflite", precision="w8a8", steps=["quantize"]),
    ]
    spec = write_spec(bench.context.settings.home, variants, settings={"provider": ["xnnpack"]})
    bench.experiment = submission.submit(bench.context, spec).experiment_id
    for number in (1, 2):
        bench.drive_until_free(f"{bench.experiment}-{number:06d}")
    table = results.experiment_table(bench.context, bench.experiment)
    fp32, w8a8 = table.rows
    envelope = results.find_job(bench.context, w8a8.job_ids[0])
    assert envelope is not None
    assert envelope.attempt is not None
    if envelope.attempt.runner["runtime"]["package"] != "tflite-runtime":
        pytest.skip("this XNNPACK takes integer nodes")
    assert fp32.fallback is None
    assert w8a8.fallback is not None
    assert w8a8.fallback.startswith("asked for xnnpack: 13 of 13 nodes run elsewhere (6 CONV_2D")
    (finding,) = [item for item in table.findings if "xnnpack" in item.title]
    assert "w8a8 on" in finding.text
    assert "fp32 on" not in finding.text
    print_experiment(table)
    print_job(envelope)
    shown = capsys.readouterr().out
    assert shown.count("asked for xnnpack: 13 of 13 nodes run elsewhere") == 2
    assert "nodes: asked for xnnpack: 13 nodes, 13 builtin" in shown
    page = render_report(reports.gather(bench.context, bench.experiment))
    assert finding.title in page
    assert "asked for xnnpack, ran on builtin, some nodes elsewhere than asked (1 job)" in page
    assert "tried on hardware: no" in page


def test_a_provider_of_onnxruntime_that_leaves_every_node_to_the_cpu_is_told(bench: Bench) -> None:
    job_id = bench.submit()
    with session(bench.context.engine) as opened:
        opened.execute(update(Job).values(provider="azure"))
    job = bench.drive_until_free(job_id)
    if job.error is not None and job.error["code"] == "provider_unavailable":
        pytest.skip("this onnxruntime has the CPU provider alone")
    envelope = results.find_job(bench.context, job_id)
    assert envelope is not None
    assert envelope.attempt is not None
    placement = envelope.attempt.runner["placement"]
    assert placement["node_counts"] == {"CPUExecutionProvider": placement["fallback_count"]}
    assert {"name", "operator", "provider"} == set(placement["fallback"][0])
