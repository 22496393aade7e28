"""The command line, with real training on a small part of Fashion-MNIST."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from nasopt.cli import app
from nasopt.errors import DivergedError, SearchStoppedError
from nasopt.model import load_network, read_metadata
from nasopt.reference import train_reference
from nasopt.search.driver import Limits
from nasopt.workflow import Pool, open_context
from nasopt.workflow.context import workers

GENOME = "RC 4 3 relu;RC 6 3 gelu;FL swish"
PROGRAM = (sys.executable, "-m", "nasopt")


def test_describe_prints_the_layers_as_table_and_as_json(nasopt):
    code, out, _ = nasopt("describe", GENOME)
    assert code == 0
    assert "RC 4 3 relu" in out
    assert "4x13x13" in out
    code, out, err = nasopt("describe", GENOME, "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document.keys() == {"genome", "n_params", "macs", "peak_bytes", "layers"}
    assert document["genome"] == "RC 4 3 relu;RC 6 3 gelu;FL swish;"
    assert document["n_params"] == sum(layer["n_params"] for layer in document["layers"]) == 1360
    code, out, _ = nasopt("describe", GENOME, "--image", "3x32x32", "--classes", "4", "--json")
    assert json.loads(out)["layers"][0]["output"] == [4, 15, 15]


def test_describe_loads_neither_torch_nor_optuna():
    code = (
        "import sys; sys.argv = ['nasopt', 'describe', 'RC 1 1 relu;RC 1 1 relu;FL relu']\n"
        "from nasopt.cli import main\n"
        "try: main()\n"
        "except SystemExit: print([m for m in ('torch', 'optuna', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["describe", "XX"], "error: part 1 ('XX'): unknown layer type"),
        (
            ["describe", GENOME, "--image", "28"],
            "error: an image shape is channels x height x width",
        ),
        (["train", GENOME, "--lr", "0"], "error: lr must be a number above 0"),
        (["train", GENOME, "--data", "absent.npz"], "error: there is no data file absent.npz"),
        (["train", GENOME, "--data", "nonsense"], "error: unknown data source 'nonsense'"),
        (
            ["train", GENOME, "--engine", "tortch"],
            "error: unknown engine 'tortch'; did you mean 'torch'",
        ),
        (
            ["train", GENOME, "--bar", "75"],
            "error: --bar must be above 0 and below 1 (found 75); write it as a fraction, 0.75 for 75 %",
        ),
        (["train", GENOME, "--bar", "0"], "error: --bar must be above 0 and below 1 (found 0)"),
        (["verify", "a.toml", "--bar", "1"], "error: --bar must be above 0 and below 1 (found 1)"),
        (["search", "absent.toml"], "error: there is no study file absent.toml"),
        (
            ["search", "studies/fashion-mnist.toml", "--budget", ""],
            "error: --budget: '' is not a duration",
        ),
        (
            ["search", "absent.toml", "--database", ""],
            "error: --database wants a file, not the folder '.'",
        ),
        (
            ["search", "absent.toml", "--database", "tests"],
            "error: --database wants a file, not the folder 'tests'",
        ),
        (
            ["search", "absent.toml", "--database", "postgresql://me:secret@host/db"],
            "error: --database wants the path of an SQLite file, not a URL; give for example runs/own/study.db",
        ),
        (["status", "studies/fashion-mnist.toml", "--data", ""], "error: unknown data source ''"),
        (["data", "x" * 5000], "File name too long; mend that and run the same command again"),
        (["nonsense"], "No such command"),
        (["search", "--budgt", "3m"], "No such option"),
        (["describe"], "Missing argument"),
    ],
)
def test_bad_input_is_one_clear_line_and_code_2(nasopt, words, message):
    code, out, err = nasopt(*words)
    assert code == 2
    assert out == ""
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    if message.startswith("error"):
        assert len(err.splitlines()) == 1


def test_a_reader_that_has_seen_enough_and_a_full_disk_are_no_bugs():
    words = [*PROGRAM, "describe", GENOME]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert "bug" not in done.stderr
    assert "No space left on device" in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*words, "--json"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_debug_shows_the_traceback_wherever_it_stands(nasopt):
    for words in (["--debug", "describe", "XX"], ["describe", "XX", "--debug"]):
        code, _, err = nasopt(*words)
        assert code == 2
        assert "Traceback" in err


def test_a_bug_is_reported_as_one(nasopt, monkeypatch):
    def broken(*_args):
        raise RuntimeError("surprise")

    monkeypatch.setattr("nasopt.cost.count_cost", broken)
    code, _, err = nasopt("describe", GENOME)
    assert code == 2
    assert "a bug in nasopt: RuntimeError('surprise')" in err


def test_train_prints_epochs_and_accuracies(nasopt, small_npz):
    code, out, _ = nasopt(
        "train",
        GENOME,
        "--data",
        small_npz,
        "--epochs",
        2,
        "--lr",
        0.03,
        "--seeds",
        2,
        "--bar",
        0.2,
    )
    assert code == 0
    assert out.count("epoch   1") == out.count("epoch   2") == 2
    assert out.count("best epoch ") == 2
    assert out.count("1,360 parameters") == 2
    assert "2 seeds, last epoch: mean" in out
    code, out, err = nasopt(
        "train", GENOME, "--data", small_npz, "--epochs", 2, "--lr", 0.03, "--seeds", 2, "--json"
    )
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert {"genome", "n_params", "seeds"} <= document.keys()
    for seed in document["seeds"]:
        assert {
            "seed",
            "curve",
            "test_accuracy",
            "best_test_accuracy",
            "train_accuracy",
        } <= seed.keys()
        assert seed["test_accuracy"] == seed["curve"][-1]["accuracy"]
        assert seed["best_test_accuracy"] == max(epoch["accuracy"] for epoch in seed["curve"])


@pytest.mark.parametrize("all_epochs", [False, True])
def test_train_goes_through_all_epochs_when_asked(nasopt, small_npz, all_epochs):
    flags = ["--all-epochs"] * all_epochs
    # At this learning rate nothing is learned, so that early stopping ends it after the third epoch.
    code, out, _ = nasopt(
        "train", GENOME, "--data", small_npz, "--epochs", 5, "--lr", 1e-9, *flags, "--json"
    )
    assert code == 0
    (seed,) = json.loads(out)["seeds"]
    assert len(seed["curve"]) == (5 if all_epochs else 3)


def test_the_main_job_from_search_to_weights(nasopt, study_file):
    code, out, err = nasopt("front", study_file)
    assert (code, out) == (2, "")
    assert "there is no study at" in err
    assert "run 'nasopt search STUDY' with this study file first" in err
    code, out, err = nasopt("search", study_file)
    assert code == 0
    goes_on = (
        "6 trials are done; search on with --trials above 6, which counts from the study's start"
    )
    assert goes_on in out
    assert "smallest above the bar" in err
    assert goes_on in nasopt("search", study_file, "--trials", 2)[1]  # not: 2 trials are done

    code, out, err = nasopt("status", study_file, "--json")
    status = json.loads(out)
    assert status["n_trials"] == 6
    assert (
        optuna.load_study(study_name="tiny", storage=status["storage"]).trials[5].state.name
        == "COMPLETE"
    )

    code, out, _ = nasopt("front", study_file, "--json")
    front = json.loads(out)
    assert code == 0
    assert {"genome", "n_params", "val_accuracy"} <= front[0].keys()
    code, out, _ = nasopt("front", study_file)
    assert front[0]["genome"] in out

    code, out, err = nasopt("verify", study_file)
    assert code == 0
    assert "trained), mean" in err
    folder = study_file.parent / "runs" / "tiny"
    selection = json.loads((folder / "selection.json").read_text())
    chosen = selection["chosen"]
    assert chosen["genome"] in out
    assert f"parameters  {chosen['n_params']:,}" in out
    assert f"nasopt dashboard {study_file}" in out
    metadata = read_metadata(folder / "model.safetensors")
    assert metadata["genome"] == chosen["genome"]
    assert (
        sum(p.numel() for p in load_network(folder / "model.safetensors").model.parameters())
        == chosen["n_params"]
    )
    assert chosen["genome"] in (folder / "report.html").read_text()

    # Again: all is known, nothing is trained, nothing is lost.
    code, again, err = nasopt("verify", study_file)
    assert (code, again) == (0, out)
    assert "trained)" not in err
    (folder / "model.safetensors").unlink()
    code, out, _ = nasopt("verify", study_file, "--json")
    document = json.loads(out)
    assert document["chosen"] == chosen
    assert read_metadata(folder / "model.safetensors") == metadata
    code, out, _ = nasopt("report", study_file, "--json")
    assert json.loads(out) == {"report": str(folder / "report.html")}

    # More trials: it goes on where it was.
    code, out, err = nasopt("search", study_file, "--trials", 8, "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert (document["n_trials"], document["stopped_by"]) == (8, "trials")


def test_limits_and_workers_are_those_asked_for(nasopt, study_file, monkeypatch):
    seen = []

    def note(_context, limits, pool, *_callbacks):
        seen.append((limits, pool))
        raise SearchStoppedError("enough")

    monkeypatch.setattr("nasopt.workflow.run_search", note)
    nasopt("search", study_file, "--budget", "90s", "--workers", 3)
    nasopt("search", study_file)
    assert seen == [(Limits(90.0, None), Pool(3)), (Limits(900.0, 6), Pool())]
    with workers("native", Pool(3)) as (executor, n_workers):
        assert n_workers == executor._max_workers == 3


def test_data_of_an_option_are_relative_to_where_one_is(
    study_file, small_npz, tmp_path, monkeypatch
):
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(small_npz, here / "mine.npz")
    monkeypatch.chdir(here)
    assert open_context(study_file, data="mine.npz").source.path == here / "mine.npz"


def test_a_seed_without_a_result_counts_as_zero_and_is_named(nasopt, small_npz, monkeypatch):
    def train_all_but_one(genome, recipe, seed, *args, **options):
        if seed == 1:
            raise DivergedError("the loss became nan")
        return train_reference(genome, recipe, seed, *args, **options)

    monkeypatch.setattr("nasopt.reference.train_reference", train_all_but_one)
    words = ("train", GENOME, "--data", small_npz, "--seeds", 2, "--epochs", 1)
    code, out, err = nasopt(*words, "--bar", "0.05", "--json")
    document = json.loads(out)
    assert (code, document["pass_rate"]) == (0, 0.5)
    assert document["failures"] == [{"seed": 1, "reason": "the loss became nan"}]
    assert "seed 1 gave no result: the loss became nan" in err


def test_trials_that_are_asked_for_are_not_cut_short_by_the_budget_of_the_file(nasopt, study_file):
    text = study_file.read_text()
    study_file.write_text(text.replace("[search]", '[search]\nbudget = "0.01s"'))
    code, out, _ = nasopt("search", study_file, "--trials", 4, "--json")
    assert (code, json.loads(out)["n_trials"]) == (0, 4)


def test_changed_settings_and_wrong_options_lose_nothing(nasopt, study_file):
    nasopt("search", study_file, "--trials", 2)
    text = study_file.read_text()
    study_file.write_text(text.replace("epochs = 2", "epochs = 3"))
    code, _, err = nasopt("search", study_file)
    assert code == 2
    assert "training.epochs was 2, is 3); undo the change, give the study another name" in err
    study_file.write_text(text)
    code, _, err = nasopt("search", study_file, "--budget", "soon")
    assert (code, "is not a duration" in err) == (2, True)
    assert nasopt("status", study_file, "--json")[0] == 0


def test_a_relative_data_file_is_relative_to_the_study(nasopt, study_file, small_npz, monkeypatch):
    text = study_file.read_text().replace(str(small_npz), "mine.npz")
    study_file.write_text(text)
    (study_file.parent / "mine.npz").write_bytes(small_npz.read_bytes())
    code, _, _ = nasopt("search", study_file, "--trials", 1)
    assert code == 0


def test_data_and_doctor_tell_what_is_there(nasopt, small_npz):
    code, out, _ = nasopt("data", small_npz, "--json")
    document = json.loads(out)
    assert (document["n_train"] + document["n_val"], document["n_test"]) == (2400, 500)
    assert nasopt("data", small_npz)[0] == 0
    code, out, _ = nasopt("doctor", "--json")
    assert code == 0
    assert {check["name"]: check["ok"] for check in json.loads(out)}["fashion-mnist"] is True


def test_doctor_says_what_to_do_about_a_problem(nasopt, tmp_path, monkeypatch):
    monkeypatch.setenv("NASOPT_DATA", str(tmp_path / "absent"))
    code, out, _ = nasopt("doctor")
    assert code == 2
    assert "PROBLEM  fashion-mnist: there is no folder" in out


def test_doctor_and_a_search_say_why_the_native_engine_is_not_used(
    nasopt, study_file, monkeypatch
):
    monkeypatch.setattr("nasopt.training.native_engine._native", None)
    monkeypatch.setattr(
        "nasopt.training.native_engine._import_error", "no such file", raising=False
    )
    code, out, _ = nasopt("doctor")
    assert code == 0
    assert "trainings use PyTorch, many times slower than the native engine" in out
    assert "install a C++ compiler" in out
    code, _, err = nasopt("search", study_file, "--trials", 1)
    assert code == 0
    assert "note: trainings use PyTorch, many times slower" in err
    assert "note:" not in nasopt("search", study_file, "--trials", 1, "--quiet")[2]


def test_version_and_help(nasopt):
    assert nasopt("--version")[1].startswith("nasopt 0.")
    _, out, _ = nasopt("--help")
    listed = re.findall(r"^│ ([a-z]+) {2,}\w", out, re.MULTILINE)
    assert listed == [command.callback.__name__ for command in app.registered_commands]
