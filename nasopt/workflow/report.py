"""Reporting: what a study's report tells, gathered as plain data, and written."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from nasopt.inspection import inspect_chosen
from nasopt.report import (
    ReportInput,
    export_figures,
    paper_figures,
    read_baselines,
    write_report,
)
from nasopt.search.importance import accuracy_importances
from nasopt.search.storage import database_errors
from nasopt.search.study import read_environments
from nasopt.selection import SelectionRule
from nasopt.workflow.annotation import recall_selection
from nasopt.workflow.context import StudyContext


def make_report(
    context: StudyContext, *, figures: bool = False, baselines: Path | None = None
) -> Path:
    """Writes the study's HTML report; the path where it lies.

    Args:
        context: the study.
        figures: whether to draw its figures as PNG and SVG too, into ``figures/`` beside it.
        baselines: a JSON file of other searches to draw beside this one's progress.

    Raises:
        StudyError: if there is no such study, or its database cannot be read.
        DataError: if the data, the weights or the baselines cannot be read.
        OutputError: if the report cannot be written, or the figures cannot be drawn on this machine.
    """
    others = read_baselines(baselines) if baselines else {}
    data = replace(report_input(context), baselines=others)
    write_report(context.report, data)
    if figures:
        export_figures(context.figures, paper_figures(data))
    return context.report


def report_input(context: StudyContext) -> ReportInput:
    """What the report of a study tells, as plain data; trains nothing."""
    image, n_classes = context.source.describe()
    settings = context.settings
    with database_errors(context.database):
        study, records = context.open(create=False), context.records()
        selection = recall_selection(context, study, records)
        environments = read_environments(study)
    n_trials = max((record.number + 1 for record in records), default=0)
    words = shlex.join(context.words)
    return ReportInput(
        settings.name,
        records,
        selection,
        image,
        n_classes,
        facts={
            "database": str(context.database),
            "data": f"{context.source} ({context.source.identity()})",
            "seed": f"{settings.seed}; those of trainings are derived from it, the genome and a count",
            "recipe": f"{settings.training.epochs} epochs, batches of {settings.training.batch_size}, AdamW",
            "sampler": settings.search.sampler,
            **_environments(environments),
            "report made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        },
        command=f"nasopt search {words} --trials {n_trials}\n"
        f"nasopt verify {words}{_options(selection.rule, settings.bar)}",
        study_file=context.study_file.read_text(encoding="utf-8"),
        inspection=inspect_chosen(context.weights, context.source, selection.verification),
        importances=accuracy_importances(context.database),
    )


def _environments(environments: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """A row for every environment that each task ran in."""
    rows: dict[str, str] = {}
    for environment in environments:
        task = environment["task"]
        n = sum(name.startswith(task) for name in rows)
        name = f"{task} on" if not n else f"{task} on, {n + 1}"
        rows[name] = "; ".join(v for key, v in environment.items() if key != "task")
    return rows


def _options(rule: SelectionRule, bar: float) -> str:
    """What makes ``nasopt verify`` choose by ``rule``, in a study whose own bar is ``bar``."""
    options = f" --rule {rule.order}" if rule.order != "smallest" else ""
    options += f" --under {rule.under}" if rule.under is not None else ""
    options += "".join(f" --trial {number}" for number in rule.trials)
    return options + (f" --bar {rule.bar!r}" if rule.bar != bar else "")
