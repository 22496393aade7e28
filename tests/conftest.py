"""What tests share: real Fashion-MNIST, whole or a small part as an ``.npz``, and tables to search on."""

import shutil
import socket
import sys
import threading
from dataclasses import replace

import hypothesis
import numpy as np
import pytest

from nasopt.cli import main
from nasopt.data import DataSource, TrainVal, load_test, load_train_val
from nasopt.genome import Genome
from nasopt.model import build_model, save_weights
from nasopt.records import Candidate, Evaluation, TrialRecord
from nasopt.search.driver import Limits
from nasopt.training import Recipe, train
from nasopt.training.native_engine import ISA_VARIABLE
from nasopt.workflow import Pool, open_context, run_search
from tests.native_cases import cut
from tests.table_search import TableEvaluator, make_plan

hypothesis.settings.register_profile("nasopt", deadline=None)  # machines stall
hypothesis.settings.load_profile("nasopt")


@pytest.fixture(scope="session")
def fashion():
    """The whole data set, as a search sees it."""
    return load_train_val(DataSource())


@pytest.fixture(scope="session")
def clothes(fashion):
    """6,000 training and 1,000 validation images of Fashion-MNIST."""
    return TrainVal(cut(fashion.train, 6000), cut(fashion.val, 1000), fashion.n_classes)


@pytest.fixture
def force_isa(monkeypatch, isa):
    """Has the native engine use the instruction set of a test that is given one."""
    monkeypatch.setenv(ISA_VARIABLE, isa)


@pytest.fixture(scope="session")
def small_npz(fashion, tmp_path_factory):
    """A file of 2,400 training and 500 test images of Fashion-MNIST."""
    path = tmp_path_factory.mktemp("data") / "small.npz"
    test = load_test(DataSource()).split
    np.savez(
        path,
        x_train=fashion.train.images[:2400, 0],
        y_train=fashion.train.labels[:2400],
        x_test=test.images[:500, 0],
        y_test=test.labels[:500],
    )
    return path


@pytest.fixture(scope="session")
def small(small_npz):
    """The small data set, as a search sees it."""
    return load_train_val(DataSource(small_npz))


@pytest.fixture(scope="session")
def trained_file(small, tmp_path_factory):
    """The weights file of a network that learned the small data set, as ``nasopt verify`` writes it."""
    genome = "NC 3 2 swish;RC 4 3 relu;RC 8 3 gelu;FL swish;"
    recipe = Recipe(lr=0.03, epochs=8, patience=None)
    result = train(Genome.parse(genome), recipe, 1, small)
    assert result.last.accuracy > 0.6
    metadata = {"genome": genome, "image": "1x28x28", "n_classes": "10", "data": "fashion-mnist"}
    metadata |= {
        "pixels": "uint8",
        "lr": "0.03",
        "lr_decay": "0.05",
        "seed": "1",
        "test_accuracy": repr(result.last.accuracy),
    }
    path = tmp_path_factory.mktemp("model") / "trained.safetensors"
    save_weights(build_model(result.genome, small.shape, 10, result.weights), path, metadata)
    return path


@pytest.fixture
def table():
    return TableEvaluator()


@pytest.fixture
def plan():
    return make_plan()


@pytest.fixture
def database(tmp_path):
    return tmp_path / "runs" / "study.db"


def make_record(number, n_params, accuracy, genome="RC 1 1 relu;RC 1 1 relu;FL relu;", **changes):
    """A completed trial with that size and accuracy, whatever its genome."""
    evaluation = Evaluation(accuracy, accuracy, (accuracy,), dead=False, duration_s=1.0)
    values = {
        "number": number,
        "state": "complete",
        "candidate": Candidate(Genome.parse(genome), 2e-3 + number * 1e-6, 0.05),
        "n_params": n_params,
        "macs": 10,
        "peak_bytes": 10,
        "seed": 1,
        "evaluation": evaluation,
        "elapsed_s": float(number),
    }
    return TrialRecord(**(values | changes))


def write_study_file(folder, data):
    """A study on the small data set that takes seconds."""
    path = folder / "tiny.toml"
    path.write_text(
        f"""
name = "tiny"
bar = 0.2
seed = 5
data = "{data}"

[space]
depth = [2, 3]
filters = [2, 4]
kernel = [2, 3]
activations = ["relu", "swish"]
final_activations = ["swish"]
lr = [0.03, 0.1]

[training]
epochs = 2

[search]
population_size = 3
max_trials = 6

[selection]
margin = 0.0
race_seeds = 4
seeds = 2
min_pass_rate = 0.5
"""
    )
    return path


@pytest.fixture
def study_file(small_npz, tmp_path):
    """The file of a study that was not begun."""
    return write_study_file(tmp_path, small_npz)


@pytest.fixture(scope="session")
def searched_folder(small_npz, tmp_path_factory):
    """The results of the search of that study."""
    folder = tmp_path_factory.mktemp("searched")
    context = open_context(write_study_file(folder, small_npz))
    run_search(context, Limits(trials=6), Pool(), threading.Event(), lambda _progress: None)
    return folder / "runs"


@pytest.fixture
def searched(searched_folder, study_file):
    """The file of that study after its search, with results of its own."""
    shutil.copytree(searched_folder, study_file.parent / "runs")
    return study_file


@pytest.fixture
def nasopt(capsys, monkeypatch):
    """Runs a command in this process: its exit code, stdout and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["nasopt", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return run


def rows_of(context):
    """The records of a study, without what a clock says."""
    return [
        replace(r, elapsed_s=0.0, evaluation=r.evaluation and replace(r.evaluation, duration_s=0))
        for r in context.records()
    ]


def find_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def free_port():
    return find_port()


@pytest.fixture(scope="session")
def chromium():
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for found in map(shutil.which, names) if found), None)
    assert path is not None, "the browser tests need Chromium: apt-get install chromium"
    return path


@pytest.fixture
def page(chromium):
    """A page of a headless Chromium that fails the test on any error in its console."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
        )
        errors = []
        new_page = browser.new_page()
        new_page.on("pageerror", lambda error: errors.append(str(error)))
        new_page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        yield new_page
        browser.close()
        assert not errors
