"""From a candidate to its evaluation: a pure function of candidate, recipe, seed and data."""

from dataclasses import dataclass, replace

from nasopt.data import DataSource, TrainVal, load_train_val
from nasopt.records import TO_THE_END, Candidate, Evaluation, StopRule
from nasopt.training import EpochResult, Recipe, train


def evaluate(
    candidate: Candidate,
    seed: int,
    rule: StopRule,
    data: TrainVal,
    recipe: Recipe,
    *,
    engine: str = "auto",
) -> Evaluation:
    """The evaluation of ``candidate`` trained from ``seed``; its lr and lr_decay replace the recipe's.

    Raises:
        TrainingError: if the training gives no result.
    """
    recipe = replace(recipe, lr=candidate.lr, lr_decay=candidate.lr_decay)

    def stop(epoch: EpochResult) -> bool:
        return rule.should_stop(epoch.epoch, epoch.accuracy)

    result = train(candidate.genome, recipe, seed, data, engine=engine, on_epoch=stop)
    return Evaluation(
        val_accuracy=result.last.accuracy,
        train_accuracy=result.last.train_accuracy,
        curve=tuple(epoch.accuracy for epoch in result.epochs),
        dead=result.dead,
        duration_s=result.duration_s,
        stopped=stop(result.last),
    )


@dataclass(frozen=True, slots=True)
class TrainingEvaluator:
    """An evaluator that any worker can run: it loads the data there, once a process."""

    source: DataSource
    recipe: Recipe
    engine: str = "auto"

    def __call__(self, candidate: Candidate, seed: int, rule: StopRule = TO_THE_END) -> Evaluation:
        """The evaluation of ``candidate`` trained from ``seed``, until ``rule`` ends it.

        Raises:
            TrainingError: if the training gives no result.
        """
        data = load_train_val(self.source)
        return evaluate(candidate, seed, rule, data, self.recipe, engine=self.engine)
