"""The study file: one TOML file that fixes a study, checked key by key."""

import difflib
import math
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from nasopt.data import DataSource
from nasopt.errors import DataError, GenomeError, SettingsError
from nasopt.files import beside
from nasopt.genome import ACTIVATIONS, Genome, ImageShape
from nasopt.records import Candidate
from nasopt.search.plan import SearchPlan
from nasopt.search.replicates import MAX_RUNS
from nasopt.search.samplers import SAMPLERS
from nasopt.search.stopping import Confidence
from nasopt.selection import SelectionRule
from nasopt.space import SearchSpace
from nasopt.training import ENGINES, Recipe

WEIGHTS_NAME = "model.safetensors"
BAR_HINT = "write it as a fraction, 0.75 for 75 %"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str | float) -> float:
    """The seconds in a duration like ``90s``, ``15m``, ``1.5h``, ``1h30m``, or a bare number of seconds.

    Raises:
        ValueError: if it is not one, or not above zero.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", str(text))
    rest = re.sub(r"(\d+(?:\.\d+)?)\s*([smhd])", "", str(text)).strip()
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if not parts and re.fullmatch(r"\d+(\.\d+)?", rest):
        seconds, rest = float(rest), ""
    if rest or seconds <= 0:
        raise ValueError(
            f"{text!r} is not a duration above zero; write for example 90s, 15m or 2h"
        )
    return seconds


def _as_range(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (value, value) if is_number else value


def _as_confidence(value: object) -> object:
    if value == "growing" or (isinstance(value, int | float) and 0.5 < value < 1):
        return value
    raise ValueError("wants 'growing', or a number above 0.5 and below 1")


StopConfidence = Annotated[Confidence, BeforeValidator(_as_confidence)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
IntRange = Annotated[tuple[int, int], BeforeValidator(_as_range)]
FloatRange = Annotated[tuple[float, float], BeforeValidator(_as_range)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class SpaceSettings(_Section):
    """The table ``[space]``: ranges ``[low, high]``, both included; one number fixes a value.

    Attributes:
        depth: convolutions of a network, the two reductions included.
        filters: of every convolution.
        kernel: width of every convolution's square kernel, in pixels, from 1 to 7.
        activations: those that a convolution may have.
        final_activations: those that the final layers may have.
        lr: the learning rate that AdamW starts from.
        lr_decay: the factor of the learning rate over ten epochs.
        max_params: what has more trainable parameters is not trained.
        max_macs: what needs more multiply-accumulates for one image is not trained.
    """

    depth: IntRange = (2, 6)
    filters: IntRange = (1, 16)
    kernel: IntRange = (1, 5)
    activations: tuple[str, ...] = ACTIVATIONS
    final_activations: tuple[str, ...] = ACTIVATIONS
    lr: FloatRange = (2e-3, 2e-3)
    lr_decay: FloatRange = (0.05, 0.05)
    max_params: int | None = Field(default=None, ge=1)
    max_macs: int | None = Field(default=None, ge=1)


class TrainingSettings(_Section):
    """The table ``[training]``: how every trial is trained.

    Attributes:
        epochs: passes through the training images.
        batch_size: images a step.
        engine: ``native``, ``torch``, or ``auto``, which takes the native one where it was built.
    """

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=128, ge=1)
    engine: Literal[ENGINES] = "auto"  # type: ignore[valid-type]


class StartNetwork(_Section):
    """One of ``[[search.start]]``: a network that the search begins with.

    Attributes:
        genome: the architecture, within the bounds of the space.
        lr: the learning rate; needed where the space has a range.
        lr_decay: its decay; likewise.
    """

    genome: str
    lr: float | None = None
    lr_decay: float | None = None


class SearchSettings(_Section):
    """The table ``[search]``: the sampler, and how long to search.

    Attributes:
        sampler: ``nsga2`` (nasopt's own), ``optuna-nsga2``, ``tpe`` or ``random``.
        population_size: parents that children are made from (``nsga2``), or the population (``optuna-nsga2``).
        generation_size: trials that are sampled from the same results; at least as many as there are workers.
        early_stopping: whether trainings that would end dominated are stopped.
        stop_confidence: the share of known curves that the optimistic continuation exceeds, at every epoch; ``growing`` with the trials of the study.
        replicates: the share of trials that train a promising network again, from a further seed.
        budget: the search time of the whole study, like ``90s``, ``15m`` or ``2h``; interruptions do not count.
        max_trials: of the whole study, if there is a limit.
        start: networks that the search begins with, for instance those that are known to be good.
    """

    sampler: Literal[SAMPLERS] = "nsga2"  # type: ignore[valid-type]
    population_size: int = Field(default=20, ge=2)
    generation_size: int = Field(default=8, ge=1)
    early_stopping: bool = True
    stop_confidence: StopConfidence = "growing"
    replicates: float = Field(default=0.25, ge=0, le=0.5)
    budget: Duration = 900.0
    max_trials: int | None = Field(default=None, ge=1)
    start: tuple[StartNetwork, ...] = ()


class SelectionSettings(_Section):
    """The table ``[selection]``: what a network must do to be chosen. Accuracies are fractions.

    Attributes:
        margin: how far above the bar one training must be in validation; a mean of ``n`` by ``margin / sqrt(n)``.
        race_seeds: fresh seeds of a race, in validation.
        seeds: trained on all training images and judged on test.
        min_pass_rate: the share of the seeds that must be above the bar, in the race and on test.
        max_candidates: raced at most, in the order of the rule.
    """

    margin: float = Field(default=0.01, ge=0, lt=1)
    race_seeds: int = Field(default=48, ge=2)
    seeds: int = Field(default=20, ge=1)
    min_pass_rate: float = Field(default=0.8, gt=0, le=1)
    max_candidates: int = Field(default=30, ge=1)


class StudyFile(_Section):
    """A whole study file.

    Attributes:
        name: of the study, and of the folder below ``runs/`` that holds its results.
        bar: the accuracy to clear, as a fraction.
        seed: what all randomness of the study is derived from.
        data: ``fashion-mnist``, or an ``.npz`` file or a folder relative to the study file.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    bar: float = Field(gt=0, lt=1)
    seed: int = Field(default=1, ge=0, lt=2**63)
    data: str = Field(default="fashion-mnist", min_length=1)
    space: SpaceSettings = SpaceSettings()
    training: TrainingSettings = TrainingSettings()
    search: SearchSettings = SearchSettings()
    selection: SelectionSettings = SelectionSettings()

    @property
    def recipe(self) -> Recipe:
        """The recipe of a search: all epochs, without early stopping; a trial brings its lr and lr_decay."""
        return Recipe(
            epochs=self.training.epochs, batch_size=self.training.batch_size, patience=None
        )

    @property
    def rule(self) -> SelectionRule:
        """What a network must do to be chosen."""
        chosen = self.selection
        return SelectionRule(
            bar=self.bar,
            margin=chosen.margin,
            n_seeds=chosen.seeds,
            min_pass_rate=chosen.min_pass_rate,
            max_candidates=chosen.max_candidates,
            race_seeds=chosen.race_seeds,
        )

    def search_space(self, image: ImageShape, n_classes: int) -> SearchSpace:
        """The space on images of that shape.

        Raises:
            SettingsError: if no network can be in it.
        """
        return SearchSpace(image, n_classes, **self.space.model_dump())

    def plan(self, source: DataSource) -> SearchPlan:
        """The plan of the search on data from ``source``.

        Raises:
            SettingsError: if the space is impossible on these data.
            DataError: if the data cannot be read.
        """
        image, n_classes = source.describe()
        space = self.search_space(image, n_classes)
        start = tuple(_start(network, space) for network in self.search.start)
        return SearchPlan(
            name=self.name,
            space=space,
            bar=self.bar,
            seed=self.seed,
            margin=self.selection.margin,
            sampler=self.search.sampler,
            population_size=self.search.population_size,
            generation_size=self.search.generation_size,
            stop_confidence=self.search.stop_confidence if self.search.early_stopping else None,
            replicate_share=self.search.replicates,
            start=start,
            identity=self._identity() | {"data": source.identity()},
        )

    def _identity(self) -> dict[str, Any]:
        """What must not change while a study goes on, flat, by the keys that a user wrote."""
        whole = self.model_dump(mode="json")
        fixed = {"bar": whole["bar"], "seed": whole["seed"]}
        fixed |= {f"space.{key}": value for key, value in whole["space"].items()}
        fixed |= {f"training.{key}": whole["training"][key] for key in ("epochs", "batch_size")}
        fixed["selection.margin"] = whole["selection"]["margin"]
        for key in (
            "sampler",
            "population_size",
            "generation_size",
            "early_stopping",
            "stop_confidence",
            "replicates",
        ):
            fixed[f"search.{key}"] = whole["search"][key]
        if self.search.start:
            fixed["search.start"] = whole["search"]["start"]
        return fixed


def _start(network: StartNetwork, space: SearchSpace) -> Candidate:
    """The candidate that a search begins with.

    Raises:
        SettingsError: if it is none of ``space``.
    """
    where = f"search.start, {network.genome!r}"
    recipe = {}
    for name in ("lr", "lr_decay"):
        low, high = getattr(space, name)
        value = getattr(network, name)
        if value is None and low != high:
            raise SettingsError(f"{where} needs {name}, since space.{name} is a range")
        recipe[name] = low if value is None else value
    try:
        candidate = Candidate(Genome.parse(network.genome), **recipe)
        space.to_params(candidate)
    except GenomeError as error:
        raise SettingsError(f"{where}: {error}") from error
    too_large = space.why_too_large(candidate.genome)
    if too_large is not None:
        raise SettingsError(f"{where}: {too_large}")
    return candidate


def read_study_file(path: Path) -> StudyFile:
    """The settings in the TOML file at ``path``.

    Raises:
        SettingsError: naming every key that is wrong, and how to mend it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except FileNotFoundError as error:
        known = ", ".join(sorted(str(p) for p in path.parent.glob("*.toml"))) or "none there"
        raise SettingsError(
            f"there is no study file {path}; study files in that folder: {known}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"cannot read the study file {path} ({error}); mend it, or name another file"
        ) from error
    try:
        settings = StudyFile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors())
        raise SettingsError(f"{path}: {problems}") from error
    bar, margin = settings.bar, settings.selection.margin
    most = MAX_RUNS if settings.search.replicates else 1  # trainings of a network
    if bar + margin / math.sqrt(most) >= 1:
        mean = (
            f", not even the mean of {most} trainings by that over their root" if most > 1 else ""
        )
        raise SettingsError(
            f"{path}: nothing can be above the bar of {bar} by selection.margin = {margin}{mean}; lower the margin"
        )
    return settings


def _explain(problem: Any) -> str:  # noqa: ANN401 - pydantic's own dictionary
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        nearest = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        return f"unknown key {where!r}; {hint}known are {', '.join(known)}"
    if problem["type"] == "missing" and isinstance(problem["loc"][-1], int):
        return f"{where.rpartition('.')[0]} wants two numbers; write [low, high]"
    if problem["type"] == "missing":
        return f"the key {where!r} is missing; add it"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "too_long":  # only ranges have a length
        message = "wants two numbers; write [low, high]"
    if problem["type"] == "tuple_type":
        message = (
            f"wants a list; write {[problem['input']]!r}"
            if "activations" in where
            else "wants a number, or two as [low, high]"
        )
    if where == "name" and problem["type"] == "string_pattern_mismatch":
        message = "use letters, digits, '.', '_' and '-', without spaces, a letter or digit first"
    hints = {
        "bar": f"; {BAR_HINT}",
        "search.start": "; begin every network with [[search.start]]",
    }
    hint = hints.get(where, "")
    return f"{where}: {message} (found {problem['input']!r}){hint}"


def _known_keys(section: tuple[str | int, ...]) -> list[str]:
    model: type[BaseModel] = StudyFile
    for part in section:
        if isinstance(part, int):
            continue  # of a list, whose entries have one type
        annotation: Any = model.model_fields[part].annotation
        model = get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
    return sorted(model.model_fields)


def run_folder(study_file: Path, settings: StudyFile) -> Path:
    """Where a study writes its database, weights and report: ``runs/<name>`` beside its file."""
    return study_file.parent / "runs" / settings.name


def weights_file(study_file: Path, database: Path | None = None) -> Path:
    """The weights that ``nasopt verify`` wrote for a study, whose ``database`` may lie elsewhere.

    Raises:
        SettingsError: if the study file is wrong.
        DataError: if its study has no weights yet.
    """
    settings = read_study_file(study_file)
    path = beside(database or run_folder(study_file, settings) / "study.db", WEIGHTS_NAME)
    if not path.exists():
        raise DataError(
            f"there are no weights at {path} yet; run 'nasopt verify {study_file}', or name the .safetensors file"
        )
    return path


def default_workers() -> int:
    """The cores that this process may use."""
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
