"""Predictions as a table for a terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from nasopt.prediction import Prediction

N_OTHERS = 2


def prediction_table(predictions: Sequence[Prediction]) -> Table:
    """A row an image: its class and probability, the next likely classes, and the true class where known."""
    with_truth = any(p.true_class is not None for p in predictions)
    table = Table("image", "class", "probability", "next", box=None)
    table.columns[2].justify = "right"
    table.columns[0].overflow = table.columns[3].overflow = "fold"
    if with_truth:
        table.add_column("true class")
    for p in predictions:
        ranked = sorted(range(len(p.class_names)), key=lambda i: -p.probabilities[i])
        others = [i for i in ranked if i != p.class_number][:N_OTHERS]
        cells = [
            p.image,
            p.class_names[p.class_number],
            f"{p.probabilities[p.class_number]:.1%}",
            ", ".join(f"{p.class_names[i]} {p.probabilities[i]:.1%}" for i in others),
        ]
        if p.true_class is not None:
            wrong = "" if p.true_class == p.class_number else "  wrong"
            cells.append(p.class_names[p.true_class] + wrong)
        table.add_row(*(Text(cell) for cell in cells))  # Text: a file's name is not markup
    return table


def prediction_notes(predictions: Sequence[Prediction]) -> list[str]:
    """What was done to images before the network saw them, a line each; and the share that was right."""
    lines = [f"{p.image}: {'; '.join(p.notes)}" for p in predictions if p.notes]
    judged = [p for p in predictions if p.true_class is not None]
    if judged:
        n_right = sum(p.class_number == p.true_class for p in judged)
        lines.append(f"{n_right} of {len(judged)} right")
    return lines
