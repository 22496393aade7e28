"""The commands behind a search, on real trainings: what they choose, write and leave alone."""

import json
import re
from dataclasses import replace

import optuna
import pytest

from nasopt.errors import DataError, OutputError
from nasopt.model import load_network, read_metadata
from nasopt.records import StopRule
from nasopt.search.stopping import TeachingCurves
from nasopt.search.storage import storage_url
from nasopt.verification import FinalTraining
from nasopt.workflow import open_context


def test_by_another_rule_the_report_follows_it(nasopt, searched):
    code, _, err = nasopt("verify", searched, "--rule", "best-under")
    assert code == 2
    assert "give it with --under" in err
    words = ("verify", searched, "--rule", "best-under", "--under", 5000, "--bar", "0.15")
    code, out, _ = nasopt(*words, "--json")
    other = json.loads(out)
    assert (code, other["bar"], other["rule"]) == (0, 0.15, "best-under")
    front = json.loads(nasopt("front", searched, "--json")[1])
    # It is the most accurate but for those that lost their race or were contradicted on test.
    better = {r["number"] for r in front if r["val_accuracy"] > other["chosen"]["val_accuracy"]}
    raced = [race["number"] for race in other["races"]]
    assert raced[-1] == other["chosen"]["number"]
    assert better <= set(raced)
    report = (searched.parent / "runs" / "tiny" / "report.html").read_text()
    assert "at most 5,000 parameters" in report
    assert f"nasopt verify {searched} --rule best-under --under 5000 --bar 0.15" in report
    code, out, _ = nasopt("verify", searched, "--json")
    assert json.loads(out)["rule"] == "smallest"
    assert json.loads(out)["chosen"]["n_params"] <= other["chosen"]["n_params"]


def test_a_network_may_be_raced_by_its_number(nasopt, searched):
    usual = json.loads(nasopt("verify", searched, "--json")[1])["chosen"]["number"]
    front = json.loads(nasopt("front", searched, "--json")[1])
    other = next(r["number"] for r in front if r["number"] != usual)
    code, _, err = nasopt("verify", searched, "--trial", 99)
    assert code == 2
    assert "the study has no trial 99" in err
    selection = json.loads(nasopt("verify", searched, "--trial", other, "--json")[1])
    assert [race["number"] for race in selection["races"]] == [other]
    report = searched.parent / "runs" / "tiny" / "report.html"
    assert f"nasopt verify {searched} --trial {other}" in report.read_text()
    words = ("verify", searched, "--trial", usual, "--trial", usual, "--json")
    code, out, _ = nasopt(*words)
    selection = json.loads(out)
    assert (code, selection["chosen"]["number"], selection["trials"]) == (0, usual, [usual])


def test_the_floor_is_trained_and_resumed(nasopt, searched):
    words = ("floor", searched, "--below", "960", "--depth", "2")
    code, out, _ = nasopt(*words, "--trainings", "3")
    assert code == 1
    assert "3 trained from one seed" in out
    assert "not complete; run the same command again to go on" in out
    rest = json.loads(nasopt(*words, "--json", "--trainings", 1)[1])["n_genomes"] - 4
    floor = json.loads(nasopt(*words, "--json", "--trainings", rest)[1])
    assert floor["n_trained"] == floor["n_genomes"]
    assert (floor["races"], floor["complete"]) == ([], False)  # no more than was asked for
    code, out, _ = nasopt(*words, "--json")
    floor = json.loads(out)
    assert floor["complete"]
    assert floor["n_trained"] == floor["n_genomes"] > 3
    assert (code == 0) == any(race["verdict"] == "accepted" for race in floor["races"])
    log = searched.parent / "runs" / "tiny" / "floor-960.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()[1:]]
    genomes = [row["genome"] for row in rows if "genome" in row]
    assert len(set(genomes)) == len(genomes) == floor["n_genomes"]
    twice = ("--activation", "swish", "--activation", "swish")
    assert json.loads(nasopt(*words, *twice, "--json")[1]) == floor
    code, _, err = nasopt(*words, "--activation", "softmax")
    assert code == 2
    assert "'softmax' in --activation softmax is not what the study has for convolutions" in err
    code, _, err = nasopt("floor", searched, "--below", "960", "--depth", "3")
    assert code == 2
    assert "holds a floor within other limits" in err


def test_a_floor_of_mixed_activations(nasopt, searched):
    words = ("floor", searched, "--below", "960", "--depth", "2")
    mixed = ("--activation", "relu/relu/swish", "--activation", "relu/swish/swish")
    floor = json.loads(nasopt(*words, *mixed, "--json", "--trainings", 4)[1])
    assert floor["activations"] == ["relu/swish", "relu/swish/swish"]
    log = searched.parent / "runs" / "tiny" / "floor-960.jsonl"
    genomes = [json.loads(line)["genome"].split(";") for line in log.read_text().splitlines()[1:]]
    assert len(genomes) == 4
    assert {tuple(part.split()[-1] for part in genome if part) for genome in genomes} == {
        ("relu", "relu", "swish"),
        ("relu", "swish", "swish"),
    }
    _, out, _ = nasopt(*words, *mixed, "--trainings", 1)
    assert "relu in the convolutions and swish in the final layers; relu, then swish" in out


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        (
            "tanh/swish",
            "'tanh' in --activation tanh/swish is not what the study has for conv.* it has relu, swish",
        ),
        (
            "relu",
            "'relu' in --activation relu is not what the study has for final .* it has swish; .* instance relu/swish",
        ),
        ("relu/", "'' in --activation relu/ is not what the study has for final layers"),
        ("relu/swish/relu/swish", "needs 3 convolutions; give --depth 3, or fewer activations"),
    ],
)
def test_activations_that_no_floor_can_have_are_refused(nasopt, study_file, activation, message):
    words = ("floor", study_file, "--below", "960", "--depth", "2", "--lr", "0.01")
    code, _, err = nasopt(*words, "--lr-decay", "0.1", "--activation", activation)
    assert code == 2
    assert re.search(message, " ".join(err.split()))


def test_a_floor_of_activations_that_have_nothing_in_common_asks_for_some(nasopt, study_file):
    text = study_file.read_text()
    study_file.write_text(
        text.replace('activations = ["relu", "swish"]', 'activations = ["relu"]')
    )
    code, _, err = nasopt(
        "floor", study_file, "--below", "960", "--lr", "0.01", "--lr-decay", "0.1"
    )
    assert code == 2
    assert "give --activation, for instance --activation relu/swish" in " ".join(err.split())


def test_the_command_of_a_report_names_another_database(nasopt, searched, tmp_path):
    database = tmp_path / "other place" / "mine.db"
    nasopt("search", searched, "--database", database, "--quiet")
    assert nasopt("report", searched, "--database", database)[0] == 0
    report = (database.parent / "mine-report.html").read_text()
    assert f"nasopt search {searched} --database &#39;{database}&#39; --trials" in report
    assert nasopt("report", searched)[0] == 0
    report = (searched.parent / "runs" / "tiny" / "report.html").read_text()
    assert f"nasopt search {searched} --trials" in report


def test_weights_on_disk_give_the_accuracy_that_is_claimed(nasopt, searched, small_npz):
    from nasopt.data import DataSource, load_test
    from nasopt.training.torch_engine import evaluate_with_torch

    nasopt("verify", searched, "--quiet")
    path = searched.parent / "runs" / "tiny" / "model.safetensors"
    test = load_test(DataSource(small_npz)).split
    _, accuracy, _ = evaluate_with_torch(load_network(path).model, test)
    assert accuracy == pytest.approx(
        float(read_metadata(path)["test_accuracy"]), abs=1.5 / len(test)
    )


def test_nothing_above_the_bar_is_code_1(nasopt, study_file):
    study_file.write_text(study_file.read_text().replace("bar = 0.2", "bar = 0.999"))
    assert nasopt("search", study_file)[0] == 0
    code, out, _ = nasopt("front", study_file)
    assert code == 1
    code, out, _ = nasopt("verify", study_file)
    assert code == 1
    assert "No network is verified above 99.9%." in out
    assert "choose by a lower bar ('nasopt verify STUDY --bar B')" in out


def test_weights_of_an_earlier_choice_are_put_aside(nasopt, searched):
    folder = searched.parent / "runs" / "tiny"
    assert any((folder / "artifacts").iterdir())  # networks are drawn without a choice too
    assert nasopt("verify", searched, "--quiet")[0] == 0
    weights = (folder / "model.safetensors").read_bytes()
    code, out, _ = nasopt("verify", searched, "--bar", "0.999")
    assert code == 1
    assert "\nweights " not in out
    assert (folder / "earlier-model.safetensors").read_bytes() == weights
    code, _, err = nasopt("export", searched, "--output", folder, "--format", "c")
    assert code == 2
    assert "run 'nasopt verify" in err


def test_data_that_cannot_be_read_leave_the_choice_alone(nasopt, searched, monkeypatch):
    assert nasopt("verify", searched, "--quiet")[0] == 0
    path = searched.parent / "runs" / "tiny" / "selection.json"
    chosen = path.read_bytes()

    def fail(_source):
        raise DataError("the files are gone")

    with monkeypatch.context() as patched:
        patched.setattr("nasopt.workflow.selection.load_train_val", fail)
        code, _, err = nasopt("verify", searched, "--bar", "0.999")
    assert (code, "the files are gone" in err) == (2, True)
    assert path.read_bytes() == chosen
    assert nasopt("report", searched)[0] == 0
    assert "No network is chosen" not in path.with_name("report.html").read_text()
    stored = optuna.load_study(study_name="tiny", storage=storage_url(path.with_name("study.db")))
    assert "0.999" not in str(stored.user_attrs)


def test_two_studies_in_one_folder_leave_each_other_alone(nasopt, searched):
    folder = searched.parent / "runs" / "tiny"
    assert nasopt("verify", searched, "--quiet")[0] == 0
    # SQLite rewrites its own files when a connection is closed: when, the garbage collector decides
    paths = [path for path in folder.rglob("*") if path.is_file() and "study.db" not in path.name]
    before = {path: path.read_bytes() for path in paths}
    study = optuna.load_study(study_name="tiny", storage=storage_url(folder / "study.db"))
    n_trials = len(study.trials)
    words = (searched, "--database", folder / "other.db")
    nasopt("search", *words, "--trials", 3, "--quiet")
    nasopt("verify", *words, "--bar", "0.999", "--quiet")
    assert {path: path.read_bytes() for path in before} == before
    assert len(study.trials) == n_trials > 0
    assert {"other-report.html", "other-selection.json", "other-artifacts"} <= {
        path.name for path in folder.iterdir()
    }
    assert nasopt("verify", *words, "--quiet")[0] == 0
    code, _, _ = nasopt("export", *words, "--output", folder, "--format", "c")
    assert (code, (folder / "other-model.safetensors").exists()) == (0, True)


def test_no_numbers_are_written_of_a_choice_without_weights(nasopt, searched, monkeypatch):
    def fail(*_args):
        raise OutputError("the disk is full")

    monkeypatch.setattr("nasopt.workflow.selection.save_weights", fail)
    code, _, err = nasopt("verify", searched, "--quiet")
    assert (code, "the disk is full" in err) == (2, True)
    assert not (searched.parent / "runs" / "tiny" / "selection.json").exists()


def test_auto_is_decided_once_for_all_machines(nasopt, searched, monkeypatch):
    monkeypatch.setattr("nasopt.training.engines.native_available", lambda: False)
    engines = []

    def note(_source, _recipe, engine):
        engines.append(engine)
        raise OutputError("enough")

    for module in ("search", "selection", "floor"):
        monkeypatch.setattr(f"nasopt.workflow.{module}.TrainingEvaluator", note)
    assert open_context(searched).settings.training.engine == "auto"
    recipe = ("--lr", "0.03", "--lr-decay", "0.1")
    for words in (
        ("search", searched, "--trials", 9),
        ("verify", searched),
        ("floor", searched, "--below", 960, "--depth", 2, *recipe),
    ):
        assert "enough" in nasopt(*words)[2]
    assert engines == ["torch"] * 3


def test_weights_that_are_lost_or_damaged_are_written_again(nasopt, searched, monkeypatch):
    nasopt("verify", searched, "--quiet")
    path = searched.parent / "runs" / "tiny" / "model.safetensors"
    metadata, weights = read_metadata(path), load_network(path).model.state_dict()
    path.write_bytes(b"")
    monkeypatch.setattr("nasopt.workflow.selection.__version__", "99")
    assert nasopt("verify", searched, "--quiet")[0] == 0
    assert read_metadata(path) == metadata | {"nasopt": "99"}
    for name, values in load_network(path).model.state_dict().items():
        assert values.equal(weights[name])
    again = path.read_bytes()
    monkeypatch.setattr("nasopt.workflow.selection.__version__", "100")
    assert nasopt("verify", searched, "--quiet")[0] == 0
    assert path.read_bytes() == again  # another version alone is no reason to train again


def test_weights_that_are_not_above_the_bar_any_more_are_not_written(
    nasopt, searched, monkeypatch
):
    class Rounded(FinalTraining):
        def __call__(self, candidate, seed):
            result = super().__call__(candidate, seed)
            return replace(result, epochs=(replace(result.last, accuracy=0.2),))

    nasopt("verify", searched, "--quiet")
    path = searched.parent / "runs" / "tiny" / "model.safetensors"
    path.unlink()
    monkeypatch.setattr("nasopt.workflow.selection.FinalTraining", Rounded)
    code, _, err = nasopt("verify", searched, "--quiet")
    assert (code, "rounds differently" in " ".join(err.split()), path.exists()) == (2, True, False)


def test_the_gate_and_the_stop_rule_of_a_floor(nasopt, study_file, monkeypatch):
    asked = []

    def note(_curves, accuracy, confidence):
        asked.append((accuracy, confidence))
        return StopRule((0.01,))

    study_file.write_text(study_file.read_text().replace("margin = 0.0", "margin = 0.05"))
    nasopt("search", study_file, "--quiet")
    monkeypatch.setattr(TeachingCurves, "rule_to_reach", note)
    words = ("floor", study_file, "--below", "960", "--depth", "2", "--trainings", 1, "--json")
    floor = json.loads(nasopt(*words, "--lr", "0.03", "--lr-decay", "0.1")[1])
    assert floor["gate"] == pytest.approx(0.15)
    assert asked == [(pytest.approx(0.15), 0.99)]


@pytest.mark.browser
@pytest.mark.usefixtures("chromium")
def test_the_figures_of_a_report_are_written_beside_it(nasopt, searched):
    assert nasopt("report", searched, "--figures")[0] == 0
    figures = searched.parent / "runs" / "tiny" / "figures"
    assert {path.name for path in figures.iterdir()} >= {"front.png", "front.svg"}
    assert (figures / "front.png").read_bytes().startswith(b"\x89PNG")


def test_a_floor_says_nothing_of_what_the_study_does_not_have(nasopt, study_file):
    text = study_file.read_text()
    study_file.write_text(text.replace("[space]", "[space]\nmax_params = 1500"))
    nasopt("search", study_file, "--trials", 2, "--quiet")
    for words, message in (
        (("--below", "960", "--depth", "9"), "give --depth in this range"),
        (("--below", "1600", "--depth", "2"), "give --below 1501 or less"),
        (("--below", "960", "--depth", "2", "--lr", "-1", "--lr-decay", "0.1"), "lr must be"),
    ):
        code, _, err = nasopt("floor", study_file, *words)
        assert (code, message in err) == (2, True)
    assert not list((study_file.parent / "runs" / "tiny").glob("floor*"))
