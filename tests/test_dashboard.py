"""optuna-dashboard in a real browser, on studies that nasopt wrote."""

import json
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import TrialState, create_trial

from nasopt.candidates import pareto_front
from nasopt.errors import StudyError
from nasopt.records import SeedResult, Verification
from nasopt.report import StudyView, dashboard_figures
from nasopt.search import viewer
from nasopt.search.dashboard import Annotation, annotate_study
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.extras import artifact_folder
from nasopt.search.importance import accuracy_importances
from nasopt.search.storage import storage_url
from nasopt.search.study import open_study, read_database, working_copy
from nasopt.search.viewer import ViewerStorage, make_dashboard
from nasopt.selection import Selection, SelectionRule
from tests.large_study import make_trial, write_large_study

REASON = "It is the smallest."


def annotate(study, plan, database, records):
    """Annotates ``study`` as a verification does; the chosen network, the largest of the front."""
    chosen = pareto_front(records)[-1]
    seeds = (SeedResult(1, 11, 0.77, 0.78, 0.79, dead=False),)
    verification = Verification(chosen.number, chosen.candidate, chosen.n_params, 0.75, seeds)
    selection = Selection(SelectionRule(0.75), chosen, (), (verification,), (REASON,))
    view = StudyView.of(records, selection, 10)
    annotation = Annotation(
        records,
        plan.bar,
        verifications=(verification,),
        chosen=verification,
        reasons=[REASON],
        figures=dashboard_figures(view),
    )
    annotate_study(study, database, plan.space, annotation)
    return chosen


@contextmanager
def serving(database, port):
    """The address of nasopt's own server of the dashboard."""
    with make_dashboard(database, "127.0.0.1", port) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/dashboard/studies/1"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def plain_dashboard(plan, table, tmp_path, free_port):
    """The address of optuna-dashboard as anyone starts it, on a real search of 12 trials, and the chosen network."""
    database = tmp_path / "study.db"
    study = open_study(plan, database, create=True)
    with working_copy(study, database) as copy, ThreadPoolExecutor(1) as executor:
        SearchDriver(copy, plan, table, executor, 1).run(Limits(trials=12), threading.Event())
    chosen = annotate(study, plan, database, read_database(database, plan.space))
    program = Path(sys.executable).with_name("optuna-dashboard")
    options = ["--port", str(free_port), "--server", "wsgiref"]
    options += ["--artifact-dir", str(artifact_folder(database))]
    command = [program, storage_url(database), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        address = f"http://127.0.0.1:{free_port}"
        for _ in range(150):
            try:
                urllib.request.urlopen(address, timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"{address}/dashboard/studies/{study._study_id}", chosen
        server.terminate()


def check_the_chosen_trial(page, address, chosen):
    """Its page tells the genome, the note and the role, and draws the card."""
    page.goto(f"{address}/trials?numbers={chosen.number}")
    page.get_by_text(f"genome {chosen.candidate.genome}").wait_for(timeout=60_000)
    page.get_by_text(REASON).first.wait_for()
    page.get_by_text("role chosen").wait_for()
    card = page.locator("img[src*='/artifacts/']").first
    card.wait_for()
    page.wait_for_function(
        "() => document.querySelector(\"img[src*='/artifacts/']\").naturalWidth === 860"
    )
    page.goto(f"{address}/note")
    page.get_by_text(REASON).first.wait_for(timeout=60_000)


@pytest.mark.browser
def test_the_dashboard_as_anyone_starts_it_shows_the_choice(plain_dashboard, page):
    address, chosen = plain_dashboard
    check_the_chosen_trial(page, address, chosen)


@pytest.mark.browser
def test_a_study_of_2000_trials_opens(plan, tmp_path, free_port, page):
    database = tmp_path / "study.db"
    study, records = write_large_study(plan, database, 2000)
    chosen = annotate(study, plan, database, records)
    infeasible = next(r for r in records if r.state == "complete" and r.val_accuracy < plan.bar)
    with serving(database, free_port) as address:
        check_the_chosen_trial(page, address, chosen)
        with urllib.request.urlopen(address.replace("dashboard", "api") + "?after=0") as answer:
            trial = json.load(answer)["trials"][infeasible.number]
        assert trial["constraints"] == [pytest.approx(plan.bar - infeasible.val_accuracy)]
        page.goto(address)
        page.get_by_text("Networks by size and accuracy").first.wait_for(timeout=60_000)
        page.get_by_text("Seed by seed").first.wait_for()


@pytest.mark.browser
def test_genome_and_role_are_columns_of_the_table(plan, tmp_path, free_port, page):
    database = tmp_path / "study.db"
    study, records = write_large_study(plan, database, 20)
    chosen = annotate(study, plan, database, records)
    with serving(database, free_port) as address:
        page.goto(f"{address}/smartSelection")
        for column in ("UserAttribute genome", "UserAttribute role"):
            page.get_by_role("columnheader", name=column).wait_for(timeout=60_000)
        row = page.get_by_role("row").filter(has_text=str(chosen.candidate.genome)).first
        assert "chosen" in row.inner_text()


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_of_10000_trials_loads_in_five_seconds(plan, tmp_path, free_port, page):
    database = tmp_path / "study.db"
    study, records = write_large_study(plan, database, 10_000)
    annotate(study, plan, database, records)
    with serving(database, free_port) as address:
        began = time.perf_counter()
        page.goto(address)
        page.get_by_text(f"{plan.name} (id=1)").first.wait_for(timeout=120_000)
        seconds = time.perf_counter() - began
    assert seconds < 5, f"10,000 trials: {seconds:.1f} s to the study's page"


def test_a_large_study_comes_in_pieces_that_grow(plan, tmp_path, free_port, monkeypatch):
    monkeypatch.setattr("nasopt.search.viewer.FIRST_ANSWER", 10)
    write_large_study(plan, tmp_path / "study.db", 50)
    answers, after = [], 0
    with serving(tmp_path / "study.db", free_port) as address:
        api = address.replace("/dashboard/", "/api/")
        while after < 50:
            with urllib.request.urlopen(f"{api}?after={after}", timeout=30) as answer:
                answers.append([t["number"] for t in json.load(answer)["trials"]])
            after += len(answers[-1])
    assert [len(numbers) for numbers in answers] == [10, 10, 20, 10]
    assert [number for numbers in answers for number in numbers] == list(range(50))


def test_importances_of_a_large_study_are_those_of_what_is_shown(
    plan, tmp_path, free_port, monkeypatch
):
    monkeypatch.setattr("nasopt.search.viewer.MAX_FULL_TRIALS", 100)
    write_large_study(plan, tmp_path / "study.db", 200)
    with serving(tmp_path / "study.db", free_port) as address:
        api = address.replace("/dashboard/", "/api/")
        with urllib.request.urlopen(f"{api}/param_importances", timeout=30) as answer:
            found = json.loads(answer.read())["param_importances"]
    assert {p["name"] for p in found[0]} == {"depth", "final_activation"}


def test_what_another_program_told_decides_no_importance(plan, tmp_path):
    database = tmp_path / "study.db"
    study, _ = write_large_study(plan, database, 40)
    for i in range(60):
        depth = create_trial(
            params={"depth": 2 + i % 2},
            distributions={"depth": IntDistribution(2, 3)},
            values=[i / 100, 900],
        )
        study.add_trial(depth)
    assert accuracy_importances(database) == {}  # fewer than 50 networks


def test_the_server_reads_a_change_and_nothing_else(plan, tmp_path):
    database = tmp_path / "study.db"
    study, _ = write_large_study(plan, database, 12)
    storage = ViewerStorage(database)
    first = storage.get_all_trials(1)
    assert first == study.get_trials()
    assert storage.get_all_trials(1)[0] is first[0]  # nothing was read again
    with working_copy(study, database) as copy:
        copy.add_trial(make_trial(plan, 12, np.random.default_rng(1)))
        copy._storage.write(12)
    assert len(storage.get_all_trials(1)) == 13
    complete = [t for t in storage.get_all_trials(1) if t.values is not None]
    assert storage.get_all_trials(1, states={TrialState.COMPLETE}) == complete
    storage.engine.dispose()


def test_a_large_study_is_shown_without_the_parameters_of_its_layers(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(viewer, "MAX_FULL_TRIALS", 10)
    database = tmp_path / "study.db"
    study, _ = write_large_study(plan, database, 12)
    storage = ViewerStorage(database)
    for light, full in zip(storage.get_all_trials(1), study.get_trials(), strict=True):
        assert set(light.params) == {"depth", "final_activation"}  # lr and lr_decay are fixed here
        assert light.params.items() <= full.params.items()
        assert "curve" not in light.user_attrs
        assert light.user_attrs["genome"] == full.user_attrs["genome"]
        assert (light.number, light.state, light.values) == (full.number, full.state, full.values)
    storage.engine.dispose()


def test_the_server_writes_notes_and_nothing_else(plan, tmp_path, free_port):
    database = tmp_path / "study.db"
    study, _ = write_large_study(plan, database, 3)

    def answer(method, path, body=None):
        connection = HTTPConnection("127.0.0.1", free_port)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse()

    with serving(database, free_port):
        for method, path in (
            ("DELETE", f"/api/studies/{study._study_id}"),
            ("POST", "/api/studies"),
            ("POST", f"/api/studies/{study._study_id}/rename"),
            ("POST", "/api/trials/1/tell"),
        ):
            refused = answer(method, path)
            assert refused.status == 403
            assert "notes and artifacts only" in json.loads(refused.read())["reason"]
        note = json.dumps({"body": "mine", "version": 1})
        assert answer("PUT", f"/api/studies/{study._study_id}/note", note).status == 204
        detail = json.loads(answer("GET", f"/api/studies/{study._study_id}?after=0").read())
    assert detail["note"]["body"] == "mine"
    assert len(study.trials) == 3


def test_a_port_that_is_taken_is_reported(plan, tmp_path, free_port):
    database = tmp_path / "study.db"
    write_large_study(plan, database, 1)
    message = "choose another with --port"
    with (
        make_dashboard(database, "127.0.0.1", free_port),
        pytest.raises(StudyError, match=message),
    ):
        make_dashboard(database, "127.0.0.1", free_port)
