"""From a candidate to its evaluation: a pure function of candidate, recipe, seed and data."""

from dataclasses import dataclass, replace

from nasopt.data import DataSource, TrainVal, load_train_val
from nasopt.records import Candidate, Evaluation
from nasopt.training import Recipe, train


def evaluate(
    candidate: Candidate, seed: int, data: TrainVal, recipe: Recipe, *, engine: str = "auto"
) -> Evaluation:
    """The evaluation of ``candidate`` trained from ``seed``; its lr and lr_decay replace the recipe's.

    Raises:
        TrainingError: if the training gives no result.
    """
    recipe = replace(recipe, lr=candidate.lr, lr_decay=candidate.lr_decay)
    result = train(candidate.genome, recipe, seed, data, engine=engine)
    return Evaluation(
        val_accuracy=result.last.accuracy,
        train_accuracy=result.last.train_accuracy,
        curve=tuple(epoch.accuracy for epoch in result.epochs),
        dead=result.dead,
        duration_s=result.duration_s,
    )


@dataclass(frozen=True, slots=True)
class TrainingEvaluator:
    """An evaluator that any worker can run: it loads the data there, once a process."""

    source: DataSource
    recipe: Recipe
    engine: str = "auto"

    def __call__(self, candidate: Candidate, seed: int) -> Evaluation:
        """The evaluation of ``candidate`` trained from ``seed``.

        Raises:
            TrainingError: if the training gives no result.
        """
        data = load_train_val(self.source)
        return evaluate(candidate, seed, data, self.recipe, engine=self.engine)
