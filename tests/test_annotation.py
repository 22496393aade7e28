"""What is written into a study for optuna-dashboard: notes, roles, cards, figures; and that nothing else changes."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from xml.etree import ElementTree as ET

import optuna
import plotly.graph_objects as go
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna_dashboard import get_note

from nasopt.candidates import pareto_front
from nasopt.records import Race, SeedResult, Verification
from nasopt.search import dashboard
from nasopt.search.dashboard import Annotation, annotate_study
from nasopt.search.extras import artifact_folder, write_extras
from nasopt.search.study import open_study, read_database
from tests.large_study import write_large_study


def verify(network, accuracy=0.77):
    seeds = (SeedResult(1, 11, accuracy, 0.78, 0.79, dead=False),)
    return Verification(network.number, network.candidate, network.n_params, 0.75, seeds)


@pytest.fixture
def study(plan, tmp_path):
    """A study of 30 trials, its database, and what is to be shown of it: the largest of the front is chosen."""
    database = tmp_path / "study.db"
    study, records = write_large_study(plan, database, 30)
    front = pareto_front(records)
    others = [r for r in records if r.number not in {s.number for s in front}]
    annotation = Annotation(
        records,
        0.75,
        races=(
            Race(others[0].number, others[0].candidate, others[0].n_params, (0.7,)),
            Race(others[2].number, others[2].candidate, others[2].n_params),  # not begun
        ),
        verifications=(verify(others[1], 0.7), verify(front[-1])),
        chosen=verify(front[-1]),
        reasons=["It is the smallest."],
        figures={"front": go.Figure()},
    )
    return study, database, annotation


def read_trials(database, plan):
    """The trials as Optuna reads them, past every cache."""
    return open_study(plan, database, create=False).get_trials()


def note_of(study, number):
    trials = study.get_trials(deepcopy=False)
    return get_note(optuna.trial.Trial(study, trials[number]._trial_id))


def test_roles_say_what_became_of_a_trial(plan, study):
    optuna_study, database, annotation = study
    annotate_study(optuna_study, database, plan.space, annotation)
    roles = {t.number: t.user_attrs.get("role") for t in read_trials(database, plan)}
    rejected, chosen = annotation.verifications
    assert roles[chosen.number] == "chosen"
    assert roles[rejected.number] == "contradicted on test"
    assert roles[annotation.races[0].number] == "raced"
    front = {s.number for s in pareto_front(annotation.records)}
    assert {n for n, role in roles.items() if role == "front"} == front - {chosen.number}
    assert sum(role is None for role in roles.values()) == 30 - len(front) - 2


def test_every_trial_has_a_card_that_optuna_finds(plan, study):
    optuna_study, database, annotation = study
    annotate_study(optuna_study, database, plan.space, annotation)
    store = FileSystemArtifactStore(artifact_folder(database))
    for trial, record in zip(read_trials(database, plan), annotation.records, strict=True):
        (meta,) = optuna.artifacts.get_all_artifact_meta(trial, storage=optuna_study._storage)
        assert meta.mimetype == "image/svg+xml"
        with store.open_reader(meta.artifact_id) as file:
            title = ET.fromstring(file.read())[0].text
        assert title.startswith(f"Trial {trial.number}, {record.n_params:,} parameters")


def test_writing_again_replaces_all_and_leaves_the_records_alone(plan, study):
    optuna_study, database, annotation = study
    annotate_study(optuna_study, database, plan.space, annotation)
    files = sorted(artifact_folder(database).iterdir())
    front = pareto_front(annotation.records)
    again = replace(annotation, verifications=(), chosen=None, races=(), records=front_only(front))
    annotate_study(optuna_study, database, plan.space, again)
    assert sorted(artifact_folder(database).iterdir()) == files
    roles = {
        t.number: t.user_attrs["role"]
        for t in read_trials(database, plan)
        if "role" in t.user_attrs
    }
    assert roles == {s.number: "front" for s in front}
    assert read_database(database, plan.space) == annotation.records
    assert f"earlier it was trial {front[-1].number}" in get_note(optuna_study)


def front_only(front):
    return [s.first for s in front]


def test_notes_are_on_the_front_and_on_the_choice(plan, study):
    optuna_study, database, annotation = study
    annotate_study(optuna_study, database, plan.space, annotation)
    front = pareto_front(annotation.records)
    for text in (get_note(optuna_study), note_of(optuna_study, annotation.chosen.number)):
        assert "It is the smallest." in text
        assert str(annotation.chosen.candidate.genome) in text
    first, second = front[:2]
    assert f"{first.n_params:,} parameters" in note_of(optuna_study, first.number)
    assert f"is trial {first.number} with" in note_of(optuna_study, second.number)
    noted = {s.number for s in front}
    assert all(note_of(optuna_study, n) == "" for n in range(30) if n not in noted)


def test_a_note_is_taken_back_when_its_trial_leaves_the_front(plan, study):
    optuna_study, database, annotation = study
    front = pareto_front(annotation.records)
    early = [r for r in annotation.records if r.number <= front[0].number]
    annotate_study(optuna_study, database, plan.space, Annotation(early, 0.75))
    left = {s.number for s in pareto_front(early)} - {s.number for s in front}
    assert left
    annotate_study(optuna_study, database, plan.space, annotation)
    assert all(note_of(optuna_study, n) == "No longer on the front." for n in left)


def test_notes_are_few_however_long_the_front(plan, study, monkeypatch):
    optuna_study, database, annotation = study
    front = pareto_front(annotation.records)
    monkeypatch.setattr(dashboard, "MAX_NOTES", 2)
    annotate_study(optuna_study, database, plan.space, replace(annotation, chosen=None))
    noted = {s.number for s in front if note_of(optuna_study, s.number)}
    assert noted == {s.number for s in sorted(front, key=lambda s: abs(s.val_accuracy - 0.75))[:2]}


def test_what_is_on_the_front_is_never_said_to_have_left_it(plan, study, monkeypatch):
    optuna_study, database, annotation = study
    front = pareto_front(annotation.records)
    monkeypatch.setattr(dashboard, "MAX_NOTES", 2)
    for near in (front[0], front[-1]):  # other networks of the front are nearest to the bar
        shown = replace(annotation, bar=near.val_accuracy, chosen=None)
        annotate_study(optuna_study, database, plan.space, shown)
    notes = [note_of(optuna_study, s.number) for s in front]
    assert sum(note.startswith("**On the front**") for note in notes) == 4
    assert not any("No longer" in note for note in notes)
    beside = annotation.verifications[0]
    annotate_study(optuna_study, database, plan.space, replace(annotation, chosen=beside))
    annotate_study(optuna_study, database, plan.space, annotation)
    assert note_of(optuna_study, beside.number) == "No longer chosen, and not on the front."


def test_cards_of_a_large_study_are_for_those_with_a_role_and_the_latest(plan, study, monkeypatch):
    optuna_study, database, annotation = study
    roles = annotation.roles()
    monkeypatch.setattr(dashboard, "MAX_CARDS", len(roles) + 3)
    annotate_study(optuna_study, database, plan.space, annotation)
    with_card = {
        t.number
        for t in read_trials(database, plan)
        if any(key.startswith("artifacts:") for key in t._system_attrs)
    }
    latest = sorted(set(range(30)) - set(roles))[-3:]
    assert with_card == set(roles) | set(latest)


def test_figures_are_kept_in_the_study(plan, study):
    optuna_study, database, annotation = study
    annotate_study(optuna_study, database, plan.space, annotation)
    with closing(sqlite3.connect(database)) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM study_system_attributes")]
    assert "dashboard:plot_data:nasopt-front:0" in keys


def test_a_card_is_stored_as_optuna_stores_an_artifact(plan, study, tmp_path):
    """Optuna's own upload to a running trial leaves the same keys and the same fields."""
    optuna_study, database, _ = study
    running = optuna_study.ask()
    file = tmp_path / "network.svg"
    file.write_text("<svg/>")
    store = FileSystemArtifactStore(artifact_folder(database))
    artifact_folder(database).mkdir()
    optuna.artifacts.upload_artifact(
        artifact_store=store, file_path=str(file), study_or_trial=running
    )
    write_extras(database, [(0, "<svg/>")], {})
    attrs = [read_trials(database, plan)[n]._system_attrs for n in (0, running.number)]
    ours, theirs = (
        next((k, json.loads(v)) for k, v in a.items() if k.startswith("artifacts:")) for a in attrs
    )
    assert ours[1].keys() == theirs[1].keys()
    assert ours[0] == f"artifacts:{ours[1]['artifact_id']}"
    assert {k: v for k, v in ours[1].items() if k != "artifact_id"} == {
        k: v for k, v in theirs[1].items() if k != "artifact_id"
    }
