from pathlib import Path

import pytest

from nasopt.data import DataSource
from nasopt.errors import SettingsError
from nasopt.selection import SelectionRule
from nasopt.settings import StudyFile, parse_duration, read_study_file, run_folder
from nasopt.training import Recipe
from nasopt.workflow import open_context

STUDIES = Path(__file__).parents[1] / "studies"
MINIMAL = 'name = "a"\nbar = 0.75\n'


def read(tmp_path, text):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return read_study_file(path)


def test_the_study_that_is_shipped_is_valid():
    settings = read_study_file(STUDIES / "fashion-mnist.toml")
    plan = settings.plan(DataSource())
    assert plan.bar == 0.75
    assert plan.space.image == (1, 28, 28)
    assert settings.recipe.patience is None


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_study_that_is_shipped_can_be_searched(path):
    settings = read_study_file(path)
    assert settings.name == path.stem
    if settings.data == "fashion-mnist":  # the other's data are made by the README
        plan = settings.plan(DataSource())
        assert all(plan.space.n_params(c.genome) <= plan.space.max_params for c in plan.start)


def test_defaults_are_the_reference_recipe(tmp_path):
    settings = read(tmp_path, MINIMAL)
    space = settings.plan(DataSource()).space
    assert (space.lr, space.lr_decay) == ((2e-3, 2e-3), (0.05, 0.05))
    assert (settings.training.epochs, settings.training.batch_size) == (10, 128)
    assert settings.search.sampler == "nsga2"


def test_every_key_steers_what_it_names(tmp_path):
    text = MINIMAL + (
        "[training]\nepochs = 3\nbatch_size = 32\n"
        "[search]\nsampler = 'random'\npopulation_size = 5\ngeneration_size = 4\nstop_confidence = 0.8\nreplicates = 0.1\n"
        "[selection]\nmargin = 0.02\nrace_seeds = 7\nseeds = 6\nmin_pass_rate = 0.7\nmax_candidates = 5\n"
    )
    settings = read(tmp_path, text)
    plan = settings.plan(DataSource())
    assert (plan.sampler, plan.population_size, plan.generation_size) == ("random", 5, 4)
    assert (plan.stop_confidence, plan.replicate_share, plan.margin) == (0.8, 0.1, 0.02)
    assert settings.recipe == Recipe(epochs=3, batch_size=32, patience=None)
    assert settings.rule == SelectionRule(
        0.75, 0.02, n_seeds=6, min_pass_rate=0.7, max_candidates=5, race_seeds=7
    )
    assert read(tmp_path, MINIMAL).plan(DataSource()).stop_confidence == "growing"
    to_the_end = read(tmp_path, text.replace("[search]", "[search]\nearly_stopping = false"))
    assert to_the_end.plan(DataSource()).stop_confidence is None


def test_a_number_fixes_a_range(tmp_path):
    settings = read(tmp_path, MINIMAL + "[space]\ndepth = 3\nlr = 0.01\nkernel = [2, 4]\n")
    space = settings.plan(DataSource()).space
    assert (space.depth, space.lr, space.kernel) == ((3, 3), (0.01, 0.01), (2, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "a"', r"the key 'bar' is missing; add it"),
        (MINIMAL + "sead = 3", r"unknown key 'sead'; did you mean 'seed'\? known are bar, data"),
        (MINIMAL + "[space]\nkernal = 3", r"unknown key 'space.kernal'; did you mean 'kernel'"),
        (MINIMAL + "[spase]\nkernel = 3", r"unknown key 'spase'; did you mean 'space'"),
        ('name = "a"\nbar = 75', r"bar: .*less than 1 \(found 75\); write it as a fraction, 0.75 for 75 %"),
        ('name = "../a"\nbar = 0.7', r"name: use letters, digits, '\.', '_' and '-', without spaces, .*found '../a'"),
        ('name = "a b"\nbar = 0.7', r"name: use letters, digits, .*found 'a b'"),
        (MINIMAL + "[search]\nstop_confidence = 1", r"search.stop_confidence: wants 'growing', or a number above 0.5 and below 1 \(found 1\)"),
        (MINIMAL + "[search]\nstop_confidence = true", r"search.stop_confidence: wants 'growing', or a number .*\(found True\)"),
        (MINIMAL + "[search]\nstop_confidence = 'bold'", r"search.stop_confidence: wants 'growing', or a number .*\(found 'bold'\)"),
        (MINIMAL + "[search]\nsampler = 'nsga'", r"search.sampler: .*'nsga2', 'optuna-nsga2', 'tpe' or 'random'"),
        (MINIMAL + "[search]\nbudget = 'soon'", r"search.budget: 'soon' is not a duration above zero; write for example 90s"),
        (MINIMAL + "[space]\nkernel = [1, 2, 3]", r"space.kernel: wants two numbers; write \[low, high\] \(found \[1, 2, 3\]\)"),
        (MINIMAL + "[space]\nactivations = 'relu'", r"space.activations: wants a list; write \['relu'\] \(found 'relu'\)"),
        (MINIMAL + "[space]\ndepth = '3'", r"space.depth: wants a number, or two as \[low, high\] \(found '3'\)"),
        (MINIMAL + "[space]\nlr = true", r"space.lr: wants a number, or two as \[low, high\] \(found True\)"),
        (MINIMAL.replace("0.75", "0.98") + "[selection]\nmargin = 0.03\n[search]\nreplicates = 0", r"above the bar of 0.98 by selection.margin = 0.03; lower"),
        (MINIMAL.replace("0.75", "0.999"), r"nothing can be above the bar of 0.999 by selection.margin = 0.01, .* lower the margin"),
        (MINIMAL + "[space]\nkernel = [1]", r"space.kernel wants two numbers; write \[low, high\]"),
        (MINIMAL + "[space]\nfilters = ['a', 3]", r"space.filters.0: .*integer"),
        (MINIMAL + "[training]\nepochs = 0", r"training.epochs: .*greater than or equal to 1"),
        (MINIMAL + "data = ''", r"data: .*at least 1 character"),
        ("name = ", r"is not valid TOML: "),
    ],
)  # fmt: skip
def test_wrong_files_are_explained(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        read(tmp_path, text)


def test_an_impossible_space_is_refused(tmp_path):
    settings = read(tmp_path, MINIMAL + "[space]\ndepth = [1, 1]\n")
    message = r"space.depth is \[1, 1\], but a genome has exactly two RC layers"
    with pytest.raises(SettingsError, match=f"^{message}"):
        settings.plan(DataSource())
    with pytest.raises(SettingsError, match=f"study.toml: {message}"):
        open_context(tmp_path / "study.toml")


@pytest.mark.parametrize(
    "text", ["lr = [0.001, inf]", "lr = nan", "lr_decay = [nan, 1.0]", "lr = 0"]
)
def test_a_learning_rate_is_a_finite_number_above_0(tmp_path, text):
    settings = read(tmp_path, MINIMAL + f"[space]\n{text}\n")
    with pytest.raises(SettingsError, match=r"space.lr\w* must be above 0 and finite"):
        settings.plan(DataSource())


START = '[[search.start]]\ngenome = "RC 1 2 relu;RC 1 2 relu;FL relu;"\n'


def test_a_search_may_begin_with_networks_that_are_known(tmp_path):
    text = MINIMAL + "[space]\nlr = [0.01, 0.1]\n" + START + "lr = 0.03\n"
    plan = read(tmp_path, text).plan(DataSource())
    (candidate,) = plan.start
    assert (str(candidate.genome), candidate.lr, candidate.lr_decay) == (
        "RC 1 2 relu;RC 1 2 relu;FL relu;",
        0.03,
        0.05,
    )
    assert "search.start" in plan.identity
    assert "search.start" not in read(tmp_path, MINIMAL).plan(DataSource()).identity


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[space]\nlr = [0.01, 0.1]\n" + START, "needs lr, since space.lr is a range"),
        (
            START + "lr = 0.5\n",
            r"search.start, 'RC 1 2 relu.*: lr 0.5, but space.lr is fixed at 0.002; leave it out, or widen space.lr$",
        ),
        (
            START + "lr_decay = 0.1\n",
            "lr_decay 0.1, but space.lr_decay is fixed at 0.05; leave it out, or widen space.lr_decay",
        ),
        (
            "[space]\nlr = [0.01, 0.1]\n" + START + "lr = 0.5\n",
            "lr is 0.5, outside of the space's 0.01 to 0.1",
        ),
        ("[space]\ndepth = 3\n" + START, "depth 2, but space.depth is fixed at 3; widen"),
        (
            START.replace("RC 1 2 relu;RC", "RC 99 2 relu;RC"),
            "filters_0 is 99, outside of the space's 1 to 16",
        ),
        (START.replace("FL relu", "FL"), "FL takes one activation"),
        (
            "[space]\nmax_params = 785\n" + START,
            "788 parameters are more than space.max_params = 785",
        ),
        (START + "lr_decy = 1\n", "unknown key 'search.start.0.lr_decy'; did you mean 'lr_decay'"),
        (
            START.replace("genome", "gene"),
            "unknown key 'search.start.0.gene'; did you mean 'genome'",
        ),
    ],
)
def test_a_start_outside_of_the_space_is_refused(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        read(tmp_path, MINIMAL + text).plan(DataSource())


def test_a_missing_file_names_those_that_are_there(tmp_path):
    (tmp_path / "other.toml").write_text(MINIMAL)
    with pytest.raises(
        SettingsError,
        match=r"no study file .*study.toml; study files in that folder: .*other.toml",
    ):
        read_study_file(tmp_path / "study.toml")


def test_what_must_not_change_is_the_identity(tmp_path):
    source = DataSource()
    before = read(tmp_path, MINIMAL).plan(source).identity
    same = read(tmp_path, MINIMAL + "[search]\nbudget = '2h'\n[selection]\nseeds = 9\n").plan(
        source
    )
    other = read(tmp_path, MINIMAL + "[space]\nfilters = [1, 9]\n").plan(source).identity
    assert same.identity == before
    assert {key for key in before if before[key] != other[key]} == {"space.filters"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("2d", 172800),
        (900, 900),
        ("45", 45),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "15 minutes", "-3m", "0s", "m", "1x"])
def test_texts_that_are_no_durations(text):
    with pytest.raises(ValueError, match="is not a duration above zero"):
        parse_duration(text)


def test_results_lie_beside_the_study_file():
    settings = StudyFile(name="digits", bar=0.9)
    assert run_folder(Path("x/study.toml"), settings) == Path("x/runs/digits")
