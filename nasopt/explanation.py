"""Why a network was chosen, what its size bought, and why others were not: in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nasopt.candidates import CandidateSummary, front_of, summarize_candidates
from nasopt.racing import RaceVerdict, lower_bound, n_needed, pass_rate_bounds
from nasopt.records import Race, TrialRecord, Verification
from nasopt.wording import format_share, number_of

STEP = 100  # parameters
ERROR = 0.05
ROUNDING = 1e-9
SEARCH_LONGER = (
    "search longer ('nasopt search STUDY --budget 2h', counted from the study's beginning)"
)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a walk through candidates spent of its confidence: the error of the last race, and ``n_tested`` networks opened on test."""

    level: float
    n_tested: int


def explain_choice(
    records: Sequence[TrialRecord],
    chosen: CandidateSummary,
    race: Race,
    verification: Verification,
    spent: Spent,
    title: str,
) -> list[str]:
    """Why ``chosen``, ``title`` of all, is the answer, and what a smaller or larger network would have given."""
    networks = summarize_candidates(records)
    n_tests = len(verification.seeds)
    error = ERROR / spent.n_tested
    low, _ = pass_rate_bounds(verification.n_passed, n_tests, error)
    n_tried = len({r.candidate.genome for r in records if r.evaluation is not None})
    n_smaller = len(
        {
            r.candidate.genome
            for r in records
            if r.evaluation is not None and r.n_params <= chosen.n_params
        }
    )
    reasons = [
        f"Of {number_of(n_tried, 'distinct architecture')} trained, {n_smaller:,} of them at or below its size, it is {title} that won its race and held on test.",
        f"In its race, on validation, {race.n_above(verification.bar)} of {len(race.accuracies)} fresh seeds were above {format_share(verification.bar)}, mean {race.mean:.2%} "
        f"({_explain_bound(race, spent.level)}).",
        f"On test, trained on all training images, {verification.n_passed} of {n_tests} seeds were above the bar (with {100 * (1 - error):.3g}% confidence at "
        f"least {low:.0%} of all seeds{_opened(spent.n_tested)}), mean {verification.mean:.2%}, standard deviation {verification.sd:.2%}, "
        f"lowest {min(verification.accuracies):.2%}.{_explain_test_error(verification)}",
        f"The weights are those of its seed {verification.first_passed.replicate}, the first one above the bar: "
        f"{verification.first_passed.test_accuracy:.2%} on test.",
    ]
    smaller = [s for s in networks if s.n_params < chosen.n_params]
    if smaller:
        best = max(smaller, key=lambda s: (s.val_accuracy, -s.n_params))
        nearest = max(smaller, key=lambda s: (s.n_params, s.val_accuracy))
        reasons.append(
            f"The next smaller one trained to the end, with {nearest.n_params:,} parameters, scored {_against(nearest.val_accuracy, verification.bar)} in the search "
            f"({_runs(nearest)}); the best of all smaller ones, with {best.n_params:,}, {_against(best.val_accuracy, verification.bar)} ({_runs(best)})."
        )
    else:
        reasons.append("No smaller network was trained to the end.")
    return [*reasons, *_explain_trade_off(networks, chosen)]


def _opened(n_tested: int) -> str:
    return (
        ""
        if n_tested == 1
        else f"; it is network {n_tested} of those that this walk opened on test"
    )


def _explain_bound(race: Race, level: float) -> str:
    if len(set(race.accuracies)) == 1:  # Student's t would call it exact
        return "all seeds alike, so that the spread of others is not known"
    bound = lower_bound(race.accuracies, level)
    return f"at least {bound:.2%}, with 95% confidence in all that this walk may race together"


def _explain_test_error(verification: Verification) -> str:
    if verification.test_error is None:
        return ""
    return (
        f" {verification.n_images:,} test images alone leave a standard error of {100 * verification.test_error:.2f} points, "
        "common to all seeds."
    )


def _against(accuracy: float, bar: float) -> str:
    """An accuracy, and how far it is from the bar."""
    return f"{accuracy:.2%}, {100 * abs(accuracy - bar):.2f} points {'above' if accuracy > bar else 'below'} the bar"


def _runs(network: CandidateSummary) -> str:
    return "one training" if network.n_runs == 1 else f"mean of {network.n_runs} trainings"


def _explain_trade_off(
    networks: Sequence[CandidateSummary], chosen: CandidateSummary
) -> list[str]:
    """What the last parameters bought and the next would, by the accuracies of the search."""
    front, reasons = front_of(networks), []
    before = [s for s in front if s.n_params <= chosen.n_params - STEP]
    if before and before[-1].val_accuracy < chosen.val_accuracy:
        reasons.append(
            f"The last {chosen.n_params - before[-1].n_params:,} parameters bought "
            f"{100 * (chosen.val_accuracy - before[-1].val_accuracy):.2f} points of validation accuracy in the search."
        )
    # Not of the front alone: a smaller network that was lucky may dominate all that is larger.
    after = [
        s
        for s in front_of([s for s in networks if s.n_params > chosen.n_params])
        if s.val_accuracy > chosen.val_accuracy
    ]
    near = [s for s in after if s.n_params <= chosen.n_params + STEP]
    if not after:
        return [*reasons, "No larger network tried was more accurate in validation."]
    step, top = (near or after[:1])[-1], after[-1]
    reasons.append(
        f"{step.n_params - chosen.n_params:,} more parameters would have bought "
        f"{100 * (step.val_accuracy - chosen.val_accuracy):.2f} points in the search; the most accurate larger one "
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
    """The member farthest above the line from the front's smallest to its largest; None if none is above it.

    Sizes are taken by their logarithms. The two ends are on the line.

    References:
        Das (1999), On characterizing the "knee" of the Pareto curve.
    """
    if len(front) < 3:
        return None
    sizes = np.log([s.n_params for s in front])
    accuracies = np.array([s.val_accuracy for s in front])
    along = (sizes - sizes[0]) / (sizes[-1] - sizes[0])
    above = accuracies - (accuracies[0] + along * (accuracies[-1] - accuracies[0]))
    highest = 1 + int(np.argmax(above[1:-1]))
    return front[highest] if above[highest] > ROUNDING else None


def explain_race(race: Race, bar: float, verdict: RaceVerdict, min_pass_rate: float) -> str:
    """Why a network was not accepted in its race."""
    n = len(race.accuracies)
    seen = f"mean {_against(race.mean, bar)}, over {n} fresh seeds, {race.n_above(bar)} of them above it"
    text = f"The network with {race.n_params:,} parameters of trial {race.number} "
    if verdict == "dropped":
        return f"{text}was dropped in its race, as too bad or without a fair chance left: {seen}."
    if race.n_above(bar) < n_needed(min_pass_rate, n):
        return f"{text}has too few seeds above the bar, {min_pass_rate:.0%} are asked for: {seen}."
    return f"{text}is too close to the bar to be sure of: {seen}."


def explain_contradicted(verification: Verification, n_to_pass: int, n_seeds: int) -> str:
    """That test contradicts what validation said, where ``n_to_pass`` of ``n_seeds`` seeds were to pass."""
    n = len(verification.seeds)
    end = f", and no more were trained, since {n_to_pass} of {n_seeds} cannot pass any more"
    return (
        f"The network with {verification.n_params:,} parameters of trial {verification.number} won its race, but test contradicts it: "
        f"{verification.n_passed} of {n} seeds were above the bar (mean {verification.mean:.2%}){end if n < n_seeds else ''}."
    )


def explain_narrow_rule(smallest: CandidateSummary, under: int | None, knee: int | None) -> str:
    """That ``smallest`` and perhaps others clear the bar, but none within what the rule asks for.

    Args:
        smallest: the smallest network that clears the bar by the margin.
        under: the most parameters that were asked for, if so many.
        knee: the parameters of the knee at which the rule begins, if it is that rule.
    """
    asked = (
        []
        if knee is None
        else [f"of at least {knee:,} parameters, where the front has its knee (--rule knee)"]
    )
    asked += [] if under is None else [f"of at most {under:,} (--under)"]
    return (
        f"No network {' and '.join(asked)} clears the bar by the margin; the smallest of all that does has {smallest.n_params:,} parameters "
        f"and {smallest.val_accuracy:.2%} in validation. Leave {'one of the two' if len(asked) > 1 else 'that'} out, or search longer."
    )


def explain_no_candidate(records: Sequence[TrialRecord], bar: float, margin: float) -> str:
    """Why there was nothing to race, and what to do."""
    networks = summarize_candidates(records)
    ended = [r for r in records if r.state != "running"]
    if not networks and ended:
        n_failed = sum(r.state == "failed" for r in ended)
        n_too_large = sum(r.is_too_large for r in ended)
        return (
            f"No training came to its end: of {len(ended)} trials {n_failed} failed, {len(ended) - n_failed - n_too_large} were stopped early and "
            f"{n_too_large} were too large. The last one: {max(ended, key=lambda r: r.number).reason}. "
            "Mend the cause, or widen the space in a study of another name."
        )
    if not networks:
        return "No trial is complete yet; search first."
    best = max(networks, key=lambda s: s.val_accuracy)
    n_genomes = len({s.candidate.genome for s in networks})
    return (
        f"Of {number_of(n_genomes, 'distinct architecture')} tried none clears {format_share(bar)} by a margin of {format_share(margin)} (of a mean of n trainings, "
        f"that over the root of n) in validation; the best of all scored {best.val_accuracy:.2%} with {best.n_params:,} parameters. "
        f"{SEARCH_LONGER[0].upper()}{SEARCH_LONGER[1:]}, choose by a lower bar ('nasopt verify STUDY --bar B'), or allow larger networks in a study of another name."
    )
