"""The floor of one study: its limits, its trainings and its races put together."""

from collections.abc import Callable
from dataclasses import replace

from nasopt.data import load_train_val
from nasopt.enumeration import enumerate_genomes
from nasopt.errors import SettingsError
from nasopt.evaluation import TrainingEvaluator
from nasopt.floor import Floor, FloorLimits, FloorLog, FloorWork, race_floor, train_floor
from nasopt.genome import ACTIVATIONS
from nasopt.search.progress import summarize
from nasopt.search.stopping import learn_stop_rules
from nasopt.workflow import StudyContext, workers

CONFIDENCE = 0.99  # of what is stopped as hopeless


def floor_limits(
    context: StudyContext,
    below: int,
    max_depth: int,
    activations: tuple[str, ...],
    recipe: tuple[float | None, float | None],
) -> FloorLimits:
    """The limits of a floor; of ``recipe``, lr and lr_decay, what is None is that of the study's smallest above the bar.

    Raises:
        SettingsError: if an activation is unknown, or no network is above the bar to take the recipe of.
        StudyError: if there is no such study.
    """
    unknown = [name for name in activations if name not in ACTIVATIONS]
    if unknown:
        raise SettingsError(
            f"unknown activation {unknown[0]!r}; known are {', '.join(ACTIVATIONS)}"
        )
    lr, lr_decay = recipe
    if lr is None or lr_decay is None:
        smallest = summarize(context.records(), context.plan.bar).smallest
        if smallest is None:
            raise SettingsError(
                "no network of the study is above the bar yet, to take its recipe; give --lr and --lr-decay"
            )
        lr = smallest.candidate.lr if lr is None else lr
        lr_decay = smallest.candidate.lr_decay if lr_decay is None else lr_decay
    return FloorLimits(below, max_depth, activations, lr, lr_decay)


def run_floor(
    context: StudyContext,
    limits: FloorLimits,
    n_workers: int,
    n_trainings: int | None,
    on_entry: Callable[[Floor], None],
) -> Floor:
    """Trains and races all genomes within ``limits``, or the next ``n_trainings`` of them; goes on where it was.

    Raises:
        StudyError: if there is no such study, or the floor's file is of other limits.
        DataError: if the data cannot be read.
    """
    records = context.records()
    space, rule = context.plan.space, context.settings.rule
    log = FloorLog(context.folder / f"floor-{limits.below}.jsonl", limits)
    below, depth, activations = limits.below, limits.max_depth, limits.activations
    genomes = list(enumerate_genomes(space, below, depth, activations))
    stop_rule = learn_stop_rules(records, CONFIDENCE).rule_to_reach(rule.bar)
    engine = context.settings.training.engine
    evaluator = TrainingEvaluator(context.source, context.settings.recipe, engine)
    load_train_val(context.source)
    with workers(engine, n_workers) as executor:
        work = FloorWork(evaluator, executor, n_workers, context.plan.seed, space.n_params)
        entries = train_floor(genomes, log, limits, stop_rule, work)
        for n_new, _ in enumerate(entries, start=1):
            on_entry(Floor(limits, rule.bar, len(genomes), tuple(log.entries)))
            if n_new == n_trainings:
                entries.close()
                break
        floor = Floor(limits, rule.bar, len(genomes), tuple(log.entries))
        if len(floor.entries) < floor.n_genomes:
            return floor
        return replace(floor, races=race_floor(floor, rule.race(1), work))
