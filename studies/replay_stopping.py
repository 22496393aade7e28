"""What early stopping would have saved, and lost, in searches whose trials were all trained to the end.

Reads the searches of the table that ``make_table.py`` made. A trial is stopped where its rule says so, learned, as
in a search, from what the rules before it left of the curves two generations earlier. Work is counted in seconds of
training, stopped trainings by the share of their epochs:

    python studies/replay_stopping.py
"""

import json
from dataclasses import replace
from pathlib import Path

from nasopt.candidates import pareto_front
from nasopt.cost import count_cost
from nasopt.genome import Genome, ImageShape
from nasopt.records import Candidate, Evaluation, TrialRecord
from nasopt.search.stopping import is_control, learn_stop_rules

TABLE = Path("studies/results/fashion-mnist-table.json")
GENERATION = 8
CONFIDENCES = (0.8, 0.9, 0.95, 0.99)


def main() -> None:
    """Prints a row a confidence, over all searches."""
    searches: dict[str, list[list[object]]] = {}
    for row in json.loads(TABLE.read_text()):
        if row[0].startswith("search"):
            searches.setdefault(row[0], []).append(row)
    print("confidence  stopped  seconds saved  architectures an hour  front members lost")
    for confidence in CONFIDENCES:
        totals = [replay(rows, confidence) for rows in searches.values()]
        n, stopped, spent, saved, front, lost = (sum(t[i] for t in totals) for i in range(6))
        print(
            f"{confidence:<11} {stopped / n:<8.1%} {saved / spent:<14.1%} {spent / (spent - saved):<22.2f} {lost} of {front}"
        )


def replay(rows: list[list[object]], confidence: float) -> tuple[float, ...]:
    """Trials, those stopped, seconds spent without stopping, seconds saved, front members, those lost."""
    whole = [to_record(number, row) for number, row in enumerate(rows)]
    seen: list[TrialRecord] = []
    saved, lost = 0.0, set()
    for record in whole:
        n_known = max(0, record.number // GENERATION - 1) * GENERATION
        rule = learn_stop_rules(seen[:n_known], confidence).rule(record.n_params)
        curve = record.evaluation.curve
        end = next((i for i, a in enumerate(curve, start=1) if rule.should_stop(i, a)), None)
        kept = replace(record, rule=rule)
        if end is not None and not is_control(record.number):
            saved += record.evaluation.duration_s * (1 - end / len(curve))
            lost.add(record.number)
            kept = replace(kept, state="pruned")
        seen.append(kept)
    front = {s.number for s in pareto_front(whole)}
    spent = sum(r.evaluation.duration_s for r in whole)
    return len(whole), len(lost), spent, saved, len(front), len(front & lost)


def to_record(number: int, row: list[object]) -> TrialRecord:
    """The record of a row of the table."""
    _, text, lr, lr_decay, seed, curve, dead, seconds = row
    genome = Genome.parse(text)
    cost = count_cost(genome, ImageShape(1, 28, 28), 10)
    evaluation = Evaluation(curve[-1], curve[-1], tuple(curve), dead, seconds)
    return TrialRecord(
        number=number,
        state="complete",
        candidate=Candidate(genome, lr, lr_decay),
        n_params=cost.n_params,
        macs=cost.macs,
        peak_bytes=cost.peak_bytes,
        seed=seed,
        evaluation=evaluation,
        control=is_control(number),
    )


if __name__ == "__main__":
    main()
