"""Why a network was chosen, what its size bought, and why others were not: in words."""

from collections.abc import Sequence

import numpy as np

from nasopt.racing import RaceVerdict, lower_bound, pass_rate_bounds
from nasopt.records import (
    CandidateSummary,
    Race,
    TrialRecord,
    Verification,
    front_of,
    summarize_candidates,
)

STEP = 100  # parameters
ERROR = 0.05


def explain_choice(
    records: Sequence[TrialRecord],
    chosen: CandidateSummary,
    race: Race,
    verification: Verification,
    title: str = "the smallest",
) -> list[str]:
    """Why ``chosen``, ``title`` of all, is the answer, and what a smaller or larger network would have given."""
    networks = summarize_candidates(records)
    n_tests = len(verification.seeds)
    low, _ = pass_rate_bounds(verification.n_passed, n_tests, ERROR)
    n_tried = len({r.candidate.genome for r in records if r.evaluation is not None})
    n_smaller = len(
        {
            r.candidate.genome
            for r in records
            if r.evaluation is not None and r.n_params <= chosen.n_params
        }
    )
    reasons = [
        f"It is {title} of {n_tried} distinct architectures trained that won its race in validation: mean {race.mean:.2%} over "
        f"{len(race.accuracies)} fresh seeds, above {verification.bar:.1%} with 95% confidence (at least "
        f"{lower_bound(race.accuracies, ERROR):.2%}). {n_smaller} of them are at or below its size.",
        f"On test, trained on all training images, it holds: {verification.n_passed} of {n_tests} seeds above the bar (with 95% confidence at "
        f"least {low:.0%} of all seeds), mean {verification.mean:.2%}, standard deviation {verification.sd:.2%}, "
        f"lowest {min(verification.accuracies):.2%}.",
    ]
    smaller = [s for s in networks if s.n_params < chosen.n_params]
    if smaller:
        best = max(smaller, key=lambda s: (s.val_accuracy, -s.n_params))
        nearest = max(smaller, key=lambda s: (s.n_params, s.val_accuracy))
        reasons.append(
            f"The next smaller one, with {nearest.n_params:,} parameters, scored {nearest.val_accuracy:.2%} in the search; "
            f"the best of all smaller ones, with {best.n_params:,}, scored {best.val_accuracy:.2%}."
        )
    else:
        reasons.append("No smaller network was tried.")
    return [*reasons, *_explain_trade_off(front_of(networks), chosen, race.mean)]


def _explain_trade_off(
    front: Sequence[CandidateSummary], chosen: CandidateSummary, accuracy: float
) -> list[str]:
    """What the last parameters bought and the next would; ``accuracy`` is that of ``chosen`` over fresh seeds."""
    reasons = []
    before = [s for s in front if s.n_params <= chosen.n_params - STEP]
    if before:
        reasons.append(
            f"The last {chosen.n_params - before[-1].n_params:,} parameters bought "
            f"{100 * (accuracy - before[-1].val_accuracy):.2f} points of validation accuracy."
        )
    after = [
        s for s in front if s.n_params > chosen.n_params and s.val_accuracy > chosen.val_accuracy
    ]
    near = [s for s in after if s.n_params <= chosen.n_params + STEP]
    if not after:
        return [*reasons, "No larger network tried was more accurate in validation."]
    step, top = (near or after[:1])[-1], after[-1]
    reasons.append(
        f"{step.n_params - chosen.n_params:,} more parameters would have bought "
        f"{100 * (step.val_accuracy - chosen.val_accuracy):.2f} points in the search; the most accurate network "
        f"tried has {top.n_params:,} parameters and {top.val_accuracy:.2%}."
    )
    knee = find_knee(front)
    if knee is not None and knee.number != chosen.number:
        reasons.append(
            f"The knee of the front, where more parameters begin to buy little, is at {knee.n_params:,} parameters "
            f"and {knee.val_accuracy:.2%} (trial {knee.number})."
        )
    return reasons


def find_knee(front: Sequence[CandidateSummary]) -> CandidateSummary | None:
    """The member farthest above the line from the front's smallest to its largest; None of fewer than three.

    Sizes are taken by their logarithms.

    References:
        Das (1999), On characterizing the "knee" of the Pareto curve.
    """
    if len(front) < 3:
        return None
    sizes = np.log([s.n_params for s in front])
    accuracies = np.array([s.val_accuracy for s in front])
    along = (sizes - sizes[0]) / (sizes[-1] - sizes[0])
    above = accuracies - (accuracies[0] + along * (accuracies[-1] - accuracies[0]))
    return front[int(np.argmax(above))]


def explain_race(race: Race, bar: float, verdict: RaceVerdict) -> str:
    """Why a network was not accepted in its race."""
    n = len(race.accuracies)
    seen = f"mean {race.mean:.2%} over {n} fresh seeds, {race.n_above(bar)} of them above the bar"
    text = f"The network with {race.n_params:,} parameters of trial {race.number} "
    if verdict == "dropped":
        return f"{text}was dropped in its race: {seen}."
    return f"{text}is too close to the bar to be sure of: {seen}."


def explain_contradicted(verification: Verification) -> str:
    """That test contradicts what validation said."""
    return (
        f"The network with {verification.n_params:,} parameters of trial {verification.number} won its race, but test contradicts it: "
        f"{verification.n_passed} of {len(verification.seeds)} seeds were above the bar (mean {verification.mean:.2%})."
    )


def explain_failure(
    records: Sequence[TrialRecord],
    n_candidates: int,
    bar: float,
    margin: float,
    max_candidates: int,
) -> list[str]:
    """Why no network was chosen, and what to do."""
    networks = summarize_candidates(records)
    if not networks:
        return ["No trial is complete yet; search first."]
    if not n_candidates:
        best = max(networks, key=lambda s: s.val_accuracy)
        n_genomes = len({s.candidate.genome for s in networks})
        return [
            f"Of {n_genomes} distinct architectures tried none clears {bar:.1%} by a margin of {margin:.1%} in "
            f"validation; the best scored {best.val_accuracy:.2%} with {best.n_params:,} parameters. "
            "Search longer, lower the bar, or allow larger networks."
        ]
    if n_candidates > max_candidates:
        return [
            f"{n_candidates - max_candidates} more candidates were left after selection.max_candidates = {max_candidates}; raise it, or search longer."
        ]
    return ["No candidate is left; search longer or raise selection.margin."]
