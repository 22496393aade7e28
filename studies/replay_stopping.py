"""What early stopping saved and lost, and would have with other rules, in searches whose trials were all trained to the end.

Three sets of searches, of which the table is printed apart: the short ones that ``make_table.py`` ran without stopping, whole
studies of ``make search`` whose stopped trainings ``train_stopped.py`` trained to the end, and a longer one. A trial is stopped where
its rule says so, learned, as in a search, from what the rules before it left of the curves two generations earlier.
Replicates are never stopped, nor counted as architectures. Work is counted in seconds of
training, stopped trainings by the share of their epochs. Every choice of which trials are the controls is played (of the longer
search every fifth), and the mean is printed: a control is never lost, and a front is short. Ten minutes of one core.

What is lost is counted three ways. ``lost`` are the members of the final front that were stopped.
``not luck`` are those of them that nothing kept replaces: no network of at most their size has as high a true
accuracy, by the model of ``trained_table.py``, which was learned from the short searches and from trainings of many seeds.
``hypervolume`` is what the front that is left is worth less than the front without stopping, both by true accuracies.

``as searched`` stops what the study itself stopped. Two rows bound what any rule can do that has as long a start and
as many controls: one that stops after one epoch whatever will end dominated by what is known when it is asked, and one
that knows the final front:

    python studies/replay_stopping.py
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from trained_table import DEAD_ACCURACY, TrainedTable, read_table

from nasopt.candidates import pareto_front
from nasopt.cost import count_cost
from nasopt.genome import Genome, ImageShape
from nasopt.pareto import hypervolume
from nasopt.records import TO_THE_END, Candidate, Evaluation, StopRule, TrialRecord
from nasopt.search.ledger import n_known_to
from nasopt.search.stopping import (
    CONTROL_EVERY,
    MIN_CURVES,
    Confidence,
    TeachingCurves,
    confidence_after,
)

RESULTS = Path(__file__).parent / "results"
LONGER = RESULTS / "fashion-mnist-stopped-long.json"
GENERATION = 8
CONFIDENCES: tuple[Confidence, ...] = (0.8, 0.9, 0.95, 0.97, 0.98, 0.99, "growing")
LARGEST = 3000

RuleOf = Callable[[Sequence[TrialRecord], TrialRecord], StopRule]


class Outcome(NamedTuple):
    """What stopping did in one search."""

    n_trials: int
    n_stopped: int
    spent_s: float
    saved_s: float
    n_front: int
    n_lost: int
    n_not_luck: int
    volume_lost: float


def main() -> None:
    """Prints a row a rule, over all searches of a set and all choices of controls."""
    for name, searches, step in (
        ("short", read_short(), 1),
        ("make search", read_stopped(), 1),
        ("longer", read_stopped(LONGER), 5),
    ):
        print(f"\n{name}: {len(searches)} searches of {sum(map(len, searches))} trainings")
        print_rules(searches, range(0, CONTROL_EVERY, step))


def print_rules(searches: Sequence[Sequence[TrialRecord]], choices: Sequence[int]) -> None:
    """Prints what every rule does in these searches, with these choices of controls."""
    candidates = list({r.candidate for records in searches for r in records})
    means = TrainedTable(read_table()).truth(candidates).accuracies.tolist()
    truth = dict(zip(candidates, means, strict=True))
    rules: dict[str, Callable[[Sequence[TrialRecord]], RuleOf]] = {
        str(confidence): lambda _whole, c=confidence: learned(c)  # type: ignore[misc]
        for confidence in CONFIDENCES
    }
    rules |= {"knows accuracy": lambda _whole: seer, "knows front": prophet}
    if any(r.rule.minimum for records in searches for r in records):
        rules["as searched"] = lambda _whole: lambda _known, record: record.rule
    print("rule           stopped  architectures an hour  front  lost  not luck  hypervolume lost")
    for name, make_rule in rules.items():
        phases = choices[:1] if name == "as searched" else choices
        outcomes = [
            play(whole, make_rule(whole), phase, truth) for whole in searches for phase in phases
        ]
        total = Outcome(*np.sum(outcomes, axis=0))
        print(
            f"{name:<14} {total.n_stopped / total.n_trials:<8.1%} {total.spent_s / (total.spent_s - total.saved_s):<22.2f} "
            f"{total.n_front / len(phases):<6.0f} {total.n_lost / len(phases):<5.1f} "
            f"{total.n_not_luck / len(phases):<9.1f} {total.volume_lost / len(outcomes):.3%}"
        )


def learned(confidence: Confidence) -> RuleOf:
    """The rule that one search learns at that confidence, as it goes on."""
    curves = TeachingCurves()
    rules = curves.rules((), confidence)
    n_learned = 0

    def rule_of(known: Sequence[TrialRecord], record: TrialRecord) -> StopRule:
        nonlocal rules, n_learned
        if len(known) > n_learned:
            for more in known[n_learned:]:
                curves.add(more)
            n_trials = n_known_to(record.number, GENERATION)
            rules = curves.rules(pareto_front(known), confidence_after(n_trials, confidence))
            n_learned = len(known)
        return rules.rule(record.n_params)

    return rule_of


def seer(known: Sequence[TrialRecord], record: TrialRecord) -> StopRule:
    """Stops after one epoch what will end dominated by the known; as long a start as a learned rule."""
    rivals = [
        r.val_accuracy for r in known if r.state == "complete" and r.n_params <= record.n_params
    ]
    is_dominated = bool(rivals) and max(rivals) >= record.val_accuracy
    return StopRule((2.0,)) if is_dominated and len(known) >= MIN_CURVES else TO_THE_END


def prophet(whole: Sequence[TrialRecord]) -> RuleOf:
    """Stops after one epoch what will not be on the front of ``whole``; as long a start as a learned rule."""
    front = {s.number for s in pareto_front(whole)}
    return lambda known, record: StopRule(
        (2.0,) if record.number not in front and len(known) >= MIN_CURVES else ()
    )


def replay(whole: Sequence[TrialRecord], rule_of: RuleOf, phase: int) -> list[TrialRecord]:
    """A search as a rule would leave it, whose controls are the trials of number ``phase`` modulo ``CONTROL_EVERY``."""
    seen: list[TrialRecord] = []
    for record in whole:
        n_known = bisect_left(seen, n_known_to(record.number, GENERATION), key=lambda r: r.number)
        rule = TO_THE_END if record.replicate else rule_of(seen[:n_known], record)
        evaluation = record.evaluation
        assert evaluation is not None, "every trial of the table was trained"
        kept = replace(record, rule=rule, control=record.number % CONTROL_EVERY == phase)
        curve = evaluation.curve
        end = next((i for i, a in enumerate(curve, start=1) if rule.should_stop(i, a)), None)
        if end is not None and not kept.control:
            seconds = evaluation.duration_s * end / len(curve)
            stopped = replace(evaluation, curve=curve[:end], duration_s=seconds, stopped=True)
            kept = replace(kept, state="pruned", evaluation=stopped)
        seen.append(kept)
    return seen


def play(
    whole: Sequence[TrialRecord], rule_of: RuleOf, phase: int, truth: Mapping[Candidate, float]
) -> Outcome:
    """What a rule does in a search; see :func:`replay`."""
    seen = replay(whole, rule_of, phase)
    stopped = {r.number for r in seen if r.state == "pruned"}
    front, left = pareto_front(whole), pareto_front(seen)
    lost = [s for s in front if s.number in stopped]
    # What died is worth nothing, whatever other seeds come to.
    worth = {
        r.number: DEAD_ACCURACY if r.evaluation and r.evaluation.dead else truth[r.candidate]
        for r in whole
    }
    n_not_luck = sum(
        all(
            worth[r.number] < worth[s.number]
            for r in seen
            if r.state == "complete" and r.n_params <= s.n_params
        )
        for s in lost
    )
    volumes = [
        hypervolume(
            [(np.log10(s.n_params), -worth[s.number]) for s in found],
            (np.log10(LARGEST), -DEAD_ACCURACY),
        )
        for found in (front, left)
    ]
    spent, still_spent = (
        sum(r.evaluation.duration_s for r in records if r.evaluation and not r.replicate)
        for records in (whole, seen)
    )
    return Outcome(
        n_trials=sum(not r.replicate for r in whole),
        n_stopped=len(stopped),
        spent_s=spent,
        saved_s=spent - still_spent,
        n_front=len(front),
        n_lost=len(lost),
        n_not_luck=n_not_luck,
        volume_lost=1 - volumes[1] / volumes[0],
    )


def read_short() -> list[list[TrialRecord]]:
    """The searches of ``make_table.py``, each in the order of its trials."""
    searches: dict[str, list[TrialRecord]] = {}
    for part, text, lr, lr_decay, seed, curve, dead, seconds in read("fashion-mnist-table.json"):
        if part.startswith("search"):
            records = searches.setdefault(part, [])
            candidate = Candidate(Genome.parse(text), lr, lr_decay)
            evaluation = Evaluation(curve[-1], curve[-1], tuple(curve), dead, seconds)
            records.append(to_record(len(records), candidate, seed, evaluation))
    return list(searches.values())


def read_stopped(path: Path = RESULTS / "fashion-mnist-stopped.json") -> list[list[TrialRecord]]:
    """The searches of ``train_stopped.py``; a record's rule stops it where the study did."""
    return [list(map(from_stopped, rows)) for rows in json.loads(path.read_text())]


def from_stopped(row: list[Any]) -> TrialRecord:
    """The record of a row, as ``train_stopped.py`` wrote it."""
    number, text, lr, lr_decay, seed, replicate, n_epochs, curve, dead, seconds = row
    candidate = Candidate(Genome.parse(text), lr, lr_decay)
    evaluation = Evaluation(curve[-1], curve[-1], tuple(curve), dead, seconds)
    minimum = (0.0,) * (n_epochs - 1) + (2.0,) if n_epochs < len(curve) else ()
    record = to_record(number, candidate, seed, evaluation)
    return replace(record, replicate=replicate, rule=StopRule(minimum))


def read(name: str) -> list[list[Any]]:
    """The rows of a published table."""
    rows: list[list[Any]] = json.loads((RESULTS / name).read_text())
    return rows


def to_record(number: int, candidate: Candidate, seed: int, evaluation: Evaluation) -> TrialRecord:
    """The record of a first training to the end."""
    cost = count_cost(candidate.genome, ImageShape(1, 28, 28), 10)
    return TrialRecord(
        number=number,
        state="complete",
        candidate=candidate,
        n_params=cost.n_params,
        macs=cost.macs,
        peak_bytes=cost.peak_bytes,
        seed=seed,
        evaluation=evaluation,
    )


if __name__ == "__main__":
    main()
