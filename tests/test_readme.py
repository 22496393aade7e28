"""The README's command blocks do what they say; those marked ``<!-- long: … -->`` are not run here."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nasopt.settings import read_study_file

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"(<!-- long: [^>]+ -->\n)?```sh\n(.*?)```", re.DOTALL)
SHORT = [text for long, text in BLOCK.findall(README) if not long]


def test_the_readme_has_blocks_to_run():
    assert len(SHORT) >= 3
    assert len(BLOCK.findall(README)) > len(SHORT)


@pytest.mark.parametrize("block", SHORT)
def test_a_block_of_the_readme_runs(block, tmp_path):
    (tmp_path / "studies").mkdir()
    for study in (ROOT / "studies").glob("*.toml"):
        shutil.copy(study, tmp_path / "studies")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_module_is_on_the_file_map():
    names = {path.name for path in (ROOT / "nasopt").glob("[a-z]*") if path.suffix in ("", ".py")}
    missing = [
        name for name in names if f"`nasopt/{name}" not in README and f"`{name}`" not in README
    ]
    assert not missing


def test_every_link_to_a_file_leads_somewhere():
    targets = [t.split("#")[0] for t in re.findall(r"\]\(([^):]+)\)", README)]
    assert "docs/howto.md" in targets
    for target in targets:
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize(("n_epochs", "words"), [(30, "thirty"), (100, "a hundred")])
def test_a_published_choice_is_what_the_readme_and_the_results_say(n_epochs, words):
    study = ROOT / "studies" / f"fashion-mnist-{n_epochs}-epochs.toml"
    choice = json.loads((ROOT / "studies" / "results" / f"{study.stem}.json").read_text())
    network, test, race = choice["chosen"], choice["verification"], choice["races"][-1]
    accuracies = np.array([seed["test_accuracy"] for seed in test["seeds"]])
    mean, sd = 100 * accuracies.mean(), 100 * accuracies.std(ddof=1)
    told = (
        f"| {mean:.2f} % ± {sd:.2f} % | {np.sum(accuracies > 0.75)} of 20 | `{network['genome']}`"
    )
    assert f"| {network['n_params']}, in {words} epochs {told}" in README
    results = (ROOT / "docs" / "results.md").read_text()
    assert f"| tuned | **{network['n_params']}** {told}" in results
    raced = np.array(race["val_accuracies"])
    assert race["verdict"] == "accepted"
    assert f"race {100 * raced.mean():.2f} %, {np.sum(raced > 0.75)} of 48" in results
    starts = {
        (start.genome, start.lr, start.lr_decay) for start in read_study_file(study).search.start
    }
    assert (network["genome"], network["lr"], network["lr_decay"]) in starts
    assert read_study_file(study).training.epochs == n_epochs


def test_what_is_verified_above_88_percent_is_what_the_results_say():
    published = json.loads((ROOT / "studies" / "results" / "fashion-mnist-10000.json").read_text())
    (race,) = published["races"]
    verification, network = published["verification"], published["chosen"]
    tests = [seed["test_accuracy"] for seed in verification["seeds"]]
    above = [sum(a > published["bar"] for a in found) for found in (race["val_accuracies"], tests)]
    results = (ROOT / "docs" / "results.md").read_text()
    assert read_study_file(ROOT / "studies" / "fashion-mnist-10000.toml").bar == published["bar"]
    assert f"**Verified above 88 %: {network['n_params']:,} parameters**" in results
    raced = race["val_accuracies"]
    assert f"race {100 * np.mean(raced):.2f} %, {above[0]} of {len(raced)}" in results
    told = f"{100 * np.mean(tests):.2f} % ± {100 * np.std(tests, ddof=1):.2f} %"
    assert (
        f"test **{told}, lowest {100 * min(tests):.2f} %, {above[1]} of {len(tests)}**" in results
    )
    assert f"{network['n_params']:,} parameters, {told}, {above[1]} of {len(tests)}" in README
    assert network["genome"] in results
