"""The floor of one study: its limits, its trainings and its races put together."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nasopt.data import load_train_val
from nasopt.enumeration import (
    SEPARATOR,
    enumerate_genomes,
    join_activations,
    split_activations,
)
from nasopt.errors import SettingsError
from nasopt.evaluation import TrainingEvaluator
from nasopt.files import beside
from nasopt.floor import Floor, FloorWork, race_floor, train_floor
from nasopt.floor_log import FloorLimits, FloorLog, read_limits
from nasopt.records import Candidate
from nasopt.search.progress import summarize
from nasopt.search.stopping import TeachingCurves
from nasopt.search.storage import driver_lock
from nasopt.space import SearchSpace
from nasopt.training import Recipe
from nasopt.workflow.context import Pool, StudyContext, workers

CONFIDENCE = 0.99  # that a network which would end above the gate is not stopped


def floor_limits(
    context: StudyContext,
    below: int,
    max_depth: int,
    activations: tuple[str, ...] | None,
    recipe: tuple[float | None, float | None],
) -> FloorLimits:
    """The limits of a floor; every activation that the study has for convolutions and final layers, in all layers, if None are given.

    Of ``recipe``, lr and lr_decay, what is None is that which the floor was begun with; of a new one, that of the
    study's smallest network above the bar.

    Raises:
        SettingsError: if the study's space holds less than what is asked for, activations are not as
            :func:`nasopt.enumeration.assign_activations` reads them or none of the study's, the recipe is impossible, or no network is above the bar to take it of.
        StudyError: if there is no such study.
    """
    space = context.plan.space
    least, most = space.depth
    if not least <= max_depth <= most:
        raise SettingsError(
            f"the study has networks of {least} to {most} convolutions, and a floor says nothing of others; give --depth in this range"
        )
    if space.max_params is not None and below > space.max_params + 1:
        raise SettingsError(
            f"the study has networks of at most {space.max_params:,} parameters, and a floor says nothing of others; "
            f"give --below {space.max_params + 1} or less"
        )
    names = _known_activations(space, max_depth, activations)
    lr, lr_decay = recipe
    if lr is None or lr_decay is None:
        usual = read_limits(_path(context, below)) or _smallest_of(context)
        lr = usual.lr if lr is None else lr
        lr_decay = usual.lr_decay if lr_decay is None else lr_decay
    Recipe(lr=lr, lr_decay=lr_decay)  # refuses what nothing can be trained with
    return FloorLimits(
        below, least, max_depth, space.filters, space.kernel, space.max_macs, names, lr, lr_decay
    )


def run_floor(
    context: StudyContext,
    limits: FloorLimits,
    pool: Pool,
    n_trainings: int | None,
    on_entry: Callable[[int, int], None],
) -> Floor:
    """Trains all genomes within ``limits``, or the next ``n_trainings`` of them; goes on where it was.

    Races begin in a run that has trainings to spare.

    ``on_entry`` is called after every training, with how many genomes are trained, of how many.

    Raises:
        StudyError: if there is no such study, or the floor's file is of other limits or of another one.
        DataError: if the data cannot be read.
        OutputError: if the floor's file cannot be written.
    """
    records = context.records()
    space, rule = context.plan.space, context.settings.rule
    below, depth, activations = limits.below, limits.max_depth, limits.activations
    genomes = list(enumerate_genomes(space, below, depth, activations))
    gate = rule.bar - rule.margin
    stop_rule = TeachingCurves(records).rule_to_reach(gate, CONFIDENCE)
    engine = context.engine
    evaluator = TrainingEvaluator(context.source, context.settings.recipe, engine)
    load_train_val(context.source)
    path = _path(context, below)
    with driver_lock(path), workers(engine, pool) as (executor, n_workers):
        log = FloorLog(path, limits, context.plan.identity, stop_rule)
        work = FloorWork(evaluator, executor, n_workers, context.plan.seed, space.n_params)
        n_done = 0
        for _ in train_floor(genomes, log, work, n_trainings):
            n_done += 1
            on_entry(len(log.entries), len(genomes))
        floor = Floor(limits, rule.bar, gate, len(genomes), tuple(log.entries))
        if len(floor.entries) < floor.n_genomes or n_done == n_trainings:
            return floor
        return replace(floor, races=race_floor(floor, log, rule.race(1), work))


def _smallest_of(context: StudyContext) -> Candidate:
    """The study's smallest network above the bar; raises SettingsError if there is none."""
    smallest = summarize(context.records(), context.plan.bar).smallest
    if smallest is None:
        raise SettingsError(
            "no network of the study is above the bar yet, to take its recipe; give --lr and --lr-decay"
        )
    return smallest.candidate


def _known_activations(
    space: SearchSpace, max_depth: int, activations: tuple[str, ...] | None
) -> tuple[str, ...]:
    """The activations asked for, each once; raises SettingsError for what ``space`` does not have."""
    if activations is None:
        usual = tuple(name for name in space.activations if name in space.final_activations)
        if not usual:
            raise SettingsError(
                "the study has no activation for both convolutions and final layers; give --activation, for instance "
                f"--activation {space.activations[0]}{SEPARATOR}{space.final_activations[0]}"
            )
        return usual
    known: dict[str, None] = {}
    for text in activations:
        names, final = split_activations(text)
        strange = [n for n in names if n not in space.activations]
        if strange:
            raise SettingsError(
                f"{strange[0]!r} in --activation {text} is not what the study has for convolutions; it has {', '.join(space.activations)}"
            )
        if final not in space.final_activations:
            raise SettingsError(
                f"{final!r} in --activation {text} is not what the study has for final layers; it has {', '.join(space.final_activations)}; "
                f"those of convolutions stand before it, for instance {names[0]}{SEPARATOR}{space.final_activations[0]}"
            )
        if len(names) > max_depth:
            raise SettingsError(
                f"--activation {text} needs {len(names)} convolutions; give --depth {len(names)}, or fewer activations"
            )
        known[join_activations(names, final)] = None
    return tuple(known)


def _path(context: StudyContext, below: int) -> Path:
    return beside(context.database, f"floor-{below}.jsonl")
