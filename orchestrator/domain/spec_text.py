"""From the text of a spec to an :class:`ExperimentSpec`, or to every mistake in it at once."""

from __future__ import annotations

from orchestrator.domain.mistakes import SpecError
from orchestrator.domain.spec import ExperimentSpec
from orchestrator.domain.spec_checks import cross_checks
from orchestrator.domain.validation import validate
from orchestrator.domain.yaml_text import read_yaml


def parse_spec(text: str, file: str) -> ExperimentSpec:
    """Read a spec; ``file`` is the name that mistakes carry. Pure: no file is opened.

    Raises :class:`SpecError` with all mistakes: of the YAML, of keys and types, and of parts that contradict each other.
    """
    document = read_yaml(text, file)
    spec, mistakes = validate(ExperimentSpec, document)
    if document.value is not None:
        mistakes += cross_checks(document)
    if spec is None or mistakes:
        raise SpecError(mistakes)
    return spec.with_source(document.source)
