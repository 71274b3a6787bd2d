import numpy as np
import pytest

from orchestrator.domain.thermal import ThermalStory
from tests.unit.analysis.soaks import Bench, Soak, make_soak, replace_soak


@pytest.fixture
def soak() -> Soak:
    return make_soak(Bench(duration=60, cooldown=5))


def _flip(soak: Soak, sample: int, rounds: range, new_class: int | None = None) -> None:
    probes = soak.streams["probes"]
    rows = (probes["sample"] == sample) & np.isin(probes["round"], list(rounds))
    probes["digest"][rows] ^= np.uint64(1)
    if new_class is not None:
        probes["top_class"][rows] = new_class


def test_outputs_that_stay_the_same_are_stable(soak: Soak) -> None:
    probe = soak.tell().probe
    assert (probe.verdict, probe.samples, probe.cold_rounds, probe.hot_rounds) == ("stable", 4, 2, 11)
    assert probe.words == "the numbers did not change: 4 samples gave the same outputs in 11 rounds under load as in 2 cold"


def test_one_flipped_bit_in_one_round_is_a_change_named_with_sample_time_and_temperature(soak: Soak) -> None:
    _flip(soak, 2, range(8, 9))
    story = soak.tell()
    assert story.probe.verdict == "changed"
    (change,) = story.probe.changes
    # Rounds 0 and 1 are cold; round 8 is the seventh under load, 35 s after the first query.
    assert (change.sample, change.rounds, change.first_at_secs) == (2, 1, pytest.approx(35))
    assert change.temperature_c == pytest.approx(_temperature(story, 35), abs=2)
    assert "the numbers changed with heat, not only the time: 1 of 4 samples (2), first after 35.0 s" in story.probe.words
    assert story.probe.words.endswith("no class changed")
    assert [event.name for event in story.events if event.name == "numbers_changed"] == ["numbers_changed"]


def test_a_changed_class_is_told_before_and_after(soak: Soak) -> None:
    _flip(soak, 1, range(5, 13), new_class=9)
    probe = soak.tell().probe
    assert (probe.changes[0].class_before, probe.changes[0].class_after, probe.changes[0].rounds) == (1, 9, 8)
    assert probe.words.endswith("1 of them changed their class")


def test_outputs_that_vary_while_cold_prove_nothing_later(soak: Soak) -> None:
    _flip(soak, 0, range(1, 13))
    probe = soak.tell().probe
    assert (probe.verdict, probe.changes) == ("undetermined", ())
    assert "1 of 4 samples (0) gave other outputs from round to round while cold" in probe.words


def test_a_change_of_a_stable_sample_counts_though_another_was_not_stable(soak: Soak) -> None:
    _flip(soak, 0, range(1, 13))
    _flip(soak, 3, range(9, 13))
    probe = soak.tell().probe
    assert probe.verdict == "changed"
    assert [change.sample for change in probe.changes] == [3]
    assert "1 of 3 samples" in probe.words


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (lambda probes: probes["round"] != 0, "1 cold rounds were answered; 2 are needed"),
        (lambda probes: probes["cold"] != 0, "no probe was answered under load"),
        (lambda probes: probes["round"] > 99, "no probe was answered"),
    ],
)
def test_too_few_rounds_leave_it_undetermined(soak: Soak, kept: object, words: str) -> None:
    probes = soak.streams["probes"]
    rows = kept(probes)  # type: ignore[operator]
    soak.streams["probes"] = {name: column[rows] for name, column in probes.items()}
    probe = soak.tell().probe
    assert probe.verdict == "undetermined"
    assert words in probe.words


def test_a_soak_without_probes_says_that_none_were_asked_for(soak: Soak) -> None:
    story = replace_soak(soak, settings=soak.settings.model_copy(update={"probe": None})).tell()
    assert story.probe.verdict == "not asked"
    metric = story.scalar("probe_changed_samples")
    assert metric is not None
    assert metric.value is None


def test_the_last_round_may_be_torn_off(soak: Soak) -> None:
    soak.streams["probes"] = {name: column[:-2] for name, column in soak.streams["probes"].items()}
    assert soak.tell(complete=False).probe.verdict == "stable"


def _temperature(story: ThermalStory, moment: float) -> float:
    window = next(window for window in story.windows if window.start_secs <= moment < window.end_secs)
    assert window.temperature_c is not None
    return window.temperature_c
