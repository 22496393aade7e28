"""The pages of ``docs/``: their blocks run, and the site builds."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from nasopt.data import DataSource, load_test
from nasopt.genome import Genome, ImageShape
from nasopt.model import build_model, run_model, save_weights
from nasopt.settings import StudyFile, read_study_file

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BIN = Path(sys.executable).parent


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def run_python(code, folder):
    """What the code prints, run in that folder."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_tutorial_leads_from_a_data_set_to_a_c_header(tmp_path):
    script = "\n".join(blocks("tutorial.md", "sh"))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "firmware" / "model.h").exists()
    assert (tmp_path / "runs" / "digits" / "report.html").exists()


def test_a_network_is_loaded_in_python(tmp_path):
    block = next(block for block in blocks("howto.md", "python") if "load_network" in block)
    genome = Genome.parse("RC 4 3 relu;RC 8 3 relu;FL swish")
    images = load_test(DataSource()).split.images[:5]
    model = build_model(genome, ImageShape(*images.shape[1:]), 10)
    metadata = {"genome": str(genome), "image": "1x28x28", "n_classes": "10"}
    save_weights(model, tmp_path / "model.safetensors", metadata)
    classes = json.loads(run_python(block, tmp_path))
    logits = run_model(model, images.astype(np.float32) / np.float32(255))
    assert classes == logits.argmax(axis=1).tolist()


def test_the_sampler_works_in_a_study_of_ones_own(tmp_path):
    block = next(block for block in blocks("howto.md", "python") if "GenomeNSGAIISampler" in block)
    assert "depth" in run_python(block, tmp_path)


def test_what_a_study_file_may_hold_is_accepted(tmp_path):
    path = tmp_path / "study.toml"
    lr = "[space]\nlr = [0.01, 0.1]\nlr_decay = [0.01, 1.0]\n"
    for block in blocks("howto.md", "toml"):
        path.write_text(f'name = "a"\nbar = 0.75\n{lr}{block}')
        (candidate,) = read_study_file(path).plan(DataSource()).start
        assert candidate.lr == 0.02


def keys_of_the_page():
    """By section, as a list of key, default and whether it may change; the top has no section."""
    section, keys = "", {}
    for line in (DOCS / "study-file.md").read_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ").strip("`[]").replace("At the top", "")
        if line.startswith("| `"):
            key, default, change = [cell.strip().strip("`") for cell in line.split("|")[1:4]]
            keys.setdefault(section, []).append((key, default, change == "yes"))
    return keys


def test_every_key_of_the_study_file_is_listed_with_its_default():
    pages, fields = keys_of_the_page(), StudyFile.model_fields
    assert set(pages) - {""} == {"space", "training", "search", "selection"}
    assert [key for key, *_ in pages[""]] == [name for name in fields if name not in pages]
    text = ""
    for section, keys in pages.items():
        if section:
            text += f"[{section}]\n"
            assert [key for key, *_ in keys] == list(fields[section].annotation.model_fields)
        for key, default, _ in keys:
            text += f"{key} = {default}\n" if default not in ("required", "none") else ""
            text += {"name": 'name = "a"\n', "bar": "bar = 0.75\n"}.get(key, "")
    read = StudyFile.model_validate(tomllib.loads(text))
    assert read == StudyFile(name="a", bar=0.75)


def test_what_may_change_when_a_study_goes_on_is_what_the_page_says():
    start = {"start": [{"genome": "RC 1 2 relu;RC 1 2 relu;FL relu"}]}
    fixed = set(StudyFile(name="a", bar=0.75, search=start).plan(DataSource()).identity)
    for section, keys in keys_of_the_page().items():
        for key, _, may_change in keys:
            name = f"{section}.{key}".strip(".")
            assert may_change == (name not in fixed | {"name"}), name


@pytest.mark.slow
def test_the_site_builds_and_holds_the_reference(tmp_path):
    command = [BIN / "mkdocs", "build", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "reference" / "index.html").read_text()
    assert "GenomeNSGAIISampler" in reference
    assert "RaceRule" in reference
