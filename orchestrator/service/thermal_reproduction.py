"""Was it reproduced? The repeats of a recipe, device by device, held against what the first run showed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.analysis.reproduction import Repeat, judge, unit_spread
from orchestrator.domain.recipe import Recipe, Reproduction, UnitSpread, Verdict
from orchestrator.domain.spec_text import parse_spec
from orchestrator.domain.states import Scenario
from orchestrator.service.context import Context
from orchestrator.service.recipe_making import as_written
from orchestrator.service.recipes import RecipeUnreadable
from orchestrator.service.selection import SelectionInvalid
from orchestrator.service.thermal import LoadedSoak, NoTrace, load_soak, tell_soak
from orchestrator.service.thermal_conditions import conditions_of
from orchestrator.store.database import read_session
from orchestrator.store.results import load_envelopes


@dataclass(frozen=True)
class DeviceReproduction:
    """What the repeats on one device came to. ``unmeasured`` says of each job without a whole soak why."""

    device: str
    profile: str
    job_ids: tuple[str, ...]
    unmeasured: tuple[str, ...]
    reproduction: Reproduction


@dataclass(frozen=True)
class ReproductionView:
    """``verdict`` is the worst of the devices': *not reproduced* before *undetermined* before *reproduced*."""

    from_job: str
    verdict: Verdict
    devices: tuple[DeviceReproduction, ...]
    spreads: tuple[UnitSpread, ...]

    @property
    def unmeasured_count(self) -> int:
        return sum(len(item.unmeasured) for item in self.devices)


def soaks_of(context: Context, experiment_id: str) -> tuple[str, ...]:
    """Return the ids of the soak jobs of an experiment. Raises SelectionInvalid when it has none."""
    with read_session(context.engine) as opened:
        found = [item.job.id for item in load_envelopes(opened, experiment_id=experiment_id) if item.job.scenario is Scenario.SOAK]
    if not found:
        raise SelectionInvalid(f"the experiment {experiment_id} has no soak", "name one that 'edgematrix thermal reproduce' made")
    return tuple(found)


def judge_jobs(context: Context, recipe: Recipe, job_ids: Sequence[str]) -> ReproductionView:
    """Judge jobs that are over. The recipe's own job is left out: it is no repeat of itself. Raises RecipeUnreadable for a job of another
    model or protocol.
    """
    repeats: dict[tuple[str, str], list[Repeat]] = {}
    unmeasured: dict[tuple[str, str], list[str]] = {}
    jobs: dict[tuple[str, str], list[str]] = {}
    with read_session(context.engine) as opened:
        envelopes = load_envelopes(opened, job_ids=[job_id for job_id in job_ids if job_id != recipe.from_job])
    if not envelopes:
        raise SelectionInvalid("there is no repeat to judge", "the recipe's own job is none: run 'edgematrix thermal reproduce' first")
    for envelope in envelopes:
        key = (envelope.device.name, envelope.device.profile) if envelope.device else ("no device", "")
        jobs.setdefault(key, []).append(envelope.job.id)
        if envelope.analysis_version is None:
            error = envelope.job.error
            why = f": {error.message}" if error else ""
            unmeasured.setdefault(key, []).append(f"{envelope.job.id} {envelope.job.outcome or envelope.job.state}{why}")
            continue
        try:
            run = load_soak(context, envelope.job.id)
        except NoTrace as error:
            unmeasured.setdefault(key, []).append(error.message)
            continue
        _refuse_other_runs(recipe, run)
        story = tell_soak(run)
        repeats.setdefault(key, []).append(Repeat(envelope.job.id, story, conditions_of(run, story)))
    devices = tuple(
        DeviceReproduction(key[0], key[1], tuple(ids), tuple(unmeasured.get(key, ())), judge(recipe, repeats.get(key, [])))
        for key, ids in jobs.items()
    )
    by_unit = {device: [item.story for item in found] for (device, _), found in repeats.items()}
    is_comparable = len(by_unit) > 1 and len({profile for _, profile in repeats}) == 1
    verdict = _worst([item.reproduction.verdict for item in devices])
    return ReproductionView(recipe.from_job, verdict, devices, unit_spread(by_unit) if is_comparable else ())


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    order: tuple[Verdict, ...] = ("not reproduced", "undetermined", "reproduced")
    return next(verdict for verdict in order if verdict in verdicts)


def _refuse_other_runs(recipe: Recipe, run: LoadedSoak) -> None:
    """Refuse a run that was not of the recipe's model, protocol and settings; ambient and surroundings may differ."""
    spec = parse_spec(recipe.spec, "spec")
    model = spec.models[0].variants[0]
    wanted = next(item.sha256 for item in recipe.files if item.file == model.file)
    settings, axes = run.envelope.job.settings, spec.settings
    free = {"repeats": 1, "ambient": None, "surroundings": None}
    if run.envelope.variant.sha256 != wanted:
        why = f"ran the model {run.envelope.variant.name} with the SHA-256 {run.envelope.variant.sha256[:12]}…, not {wanted[:12]}…"
    elif as_written(run.soak).model_copy(update=free) != recipe.soak.model_copy(update=free):
        why = "followed another protocol"
    elif settings.num_threads not in axes.num_threads or settings.provider not in axes.provider:
        why = f"ran with other settings ({settings.num_threads} threads, provider {settings.provider})"
    elif settings.graph_optimization is not None and settings.graph_optimization not in axes.graph_optimization:
        why = f"ran with other settings (graph optimization {settings.graph_optimization})"
    else:
        return
    raise RecipeUnreadable(f"{run.job_id} {why}", "judge the jobs that 'edgematrix thermal reproduce' made of this recipe")
