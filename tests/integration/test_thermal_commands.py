"""A recipe made of a real soak is followed in another installation, which has nothing but the files that travel with it."""

from __future__ import annotations

import json

from tests.integration.conftest import make_home
from tests.integration.running import GOOD, Home, write_spec

SOAK = {
    "soak": {
        "duration_secs": 4,
        "window_secs": 1,
        "idle_secs": 0,
        "probe": {"samples": 4, "every_secs": 1, "cold_rounds": 2},
        "cooldown": {"secs": 0},
    }
}


def test_a_recipe_is_followed_elsewhere_with_the_files_that_travel_with_it(home: Home) -> None:
    spec = write_spec(home.specs, [GOOD], scenarios=SOAK)
    ran = home.run_spec(spec)
    assert ran.code == 0, ran.stderr
    assert "next: edgematrix thermal show" in ran.stdout
    recipe, files = home.specs / "recipe.yaml", home.specs / "carried"
    made = home.run("thermal", "recipe", "last", "--output", recipe, "--files", files)
    assert made.code == 0, made.stderr
    with make_home() as elsewhere:
        refused = elsewhere.run("thermal", "reproduce", recipe, "--times", "1")
        assert refused.code == 2
        assert "is not here" in refused.stderr
        ended = elsewhere.run("thermal", "reproduce", recipe, "--times", "1", "--files", files, "--json")
        assert ended.code == 6, ended.stderr
        assert_judged(ended.stdout)
        elsewhere.assert_all_completed()


def assert_judged(document: str) -> None:
    (device,) = json.loads(document)["devices"]
    assert device["device"] == "this-computer"
    assert device["unmeasured"] == []
    (repeat,) = device["reproduction"]["repeats"]
    assert repeat["values"]["probe_changed_samples"] == 0
    assert all("1 repeats were measured" in item["words"] for item in device["reproduction"]["quantities"])
