"""From all trials to the one network: the smallest that clears the bar, verified and explained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nasopt.records import (
    CandidateSummary,
    TrialRecord,
    Verification,
    completed,
    front_of,
    summarize_candidates,
)


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """What a network must do to be chosen.

    Its mean validation accuracy over its ``n`` trainings in the search must be at least ``bar + margin / sqrt(n)``; then at least
    ``min_pass_rate`` of ``n_seeds`` trainings on all training images must be above the bar on test.
    At most ``max_candidates`` are tried.
    """

    bar: float
    margin: float = 0.01
    n_seeds: int = 5
    min_pass_rate: float = 1.0
    max_candidates: int = 20

    def passes(self, verification: Verification) -> bool:
        """Whether the seeds suffice for the network to be chosen."""
        return verification.n_passed >= self.min_pass_rate * self.n_seeds

    def is_decided(self, verification: Verification) -> bool:
        """Whether more seeds would change nothing."""
        return len(verification.seeds) >= self.n_seeds or not self.may_still_pass(verification)

    def may_still_pass(self, verification: Verification) -> bool:
        """Whether the seeds not trained yet could make up for those that failed."""
        n_left = self.n_seeds - len(verification.seeds)
        return verification.n_passed + n_left >= self.min_pass_rate * self.n_seeds


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome: the trial and its verification if one was chosen, all that were tried, and why."""

    rule: SelectionRule
    chosen: CandidateSummary | None
    verifications: tuple[Verification, ...]
    reasons: tuple[str, ...]

    @property
    def verification(self) -> Verification | None:
        """The verification of the chosen trial."""
        return self.verifications[-1] if self.chosen else None

    def to_json(self) -> dict[str, Any]:
        """The selection as plain JSON values."""
        return {
            "bar": self.rule.bar,
            "margin": self.rule.margin,
            "min_pass_rate": self.rule.min_pass_rate,
            "chosen": self.chosen.to_json() if self.chosen else None,
            "verification": self.verification.to_json() if self.verification else None,
            "rejected": [v.to_json() for v in self.verifications[: -1 if self.chosen else None]],
            "reasons": list(self.reasons),
        }


def list_candidates(records: Sequence[TrialRecord], rule: SelectionRule) -> list[CandidateSummary]:
    """The candidates that clear the bar by the margin in validation, smallest first."""
    clear = [s for s in summarize_candidates(records) if s.shortfall(rule.bar, rule.margin) <= 0]
    return sorted(clear, key=lambda s: (s.n_params, -s.val_accuracy, s.number))


def select_smallest(
    records: Sequence[TrialRecord],
    rule: SelectionRule,
    verify: Callable[[CandidateSummary], Verification | None],
) -> Selection:
    """The smallest network that clears the bar and passes its verification, and the reasons in words.

    ``verify`` trains a trial's candidate from further seeds; it is called for one trial after the other,
    from the smallest up, until one passes. None from it says that the trial has not been verified, which ends the
    walk without a choice.
    """
    tried: list[Verification] = []
    for record in list_candidates(records, rule)[: rule.max_candidates]:
        verification = verify(record)
        if verification is None:
            reasons = [_explain_rejected(v) for v in tried]
            reasons.append(
                f"The smallest candidate left, trial {record.number} with {record.n_params:,} parameters and "
                f"{record.val_accuracy:.2%} in validation, is not verified yet; run 'nasopt select'."
            )
            return Selection(rule, None, tuple(tried), tuple(reasons))
        tried.append(verification)
        if rule.passes(tried[-1]):
            return Selection(rule, record, tuple(tried), _explain(records, rule, record, tried))
    return Selection(rule, None, tuple(tried), _explain_failure(records, rule, tried))


def _explain(
    records: Sequence[TrialRecord],
    rule: SelectionRule,
    chosen: CandidateSummary,
    tried: Sequence[Verification],
) -> tuple[str, ...]:
    verification = tried[-1]
    networks = summarize_candidates(records)
    reasons = [
        f"It is the smallest of {_n_genomes(records)} distinct architectures tried that clears {rule.bar:.1%} by a margin of "
        f"{rule.margin:.1%} in validation ({chosen.val_accuracy:.2%}) and holds on test: "
        f"{verification.n_passed} of {len(verification.seeds)} seeds above the bar, mean {verification.mean:.2%}, "
        f"standard deviation {verification.sd:.2%}."
    ]
    reasons += [_explain_rejected(v) for v in tried[:-1]]
    smaller = [s for s in networks if s.n_params < chosen.n_params]
    if smaller:
        best = max(smaller, key=lambda r: (r.val_accuracy, -r.n_params))
        nearest = max(smaller, key=lambda r: (r.n_params, r.val_accuracy))
        reasons.append(
            f"The next smaller one, with {nearest.n_params:,} parameters, scored {nearest.val_accuracy:.2%} in validation; "
            f"the best of all smaller ones, with {best.n_params:,}, scored {best.val_accuracy:.2%}."
        )
    else:
        reasons.append("No smaller network was tried.")
    larger = [
        r
        for r in front_of(networks)
        if r.n_params > chosen.n_params and r.val_accuracy > chosen.val_accuracy
    ]
    if larger:
        step, top = larger[0], larger[-1]
        reasons.append(
            f"{step.n_params - chosen.n_params:,} more parameters would have bought "
            f"{100 * (step.val_accuracy - chosen.val_accuracy):.2f} points of validation accuracy; the most accurate network "
            f"tried has {top.n_params:,} parameters and {top.val_accuracy:.2%}."
        )
    else:
        reasons.append("No larger network tried was more accurate in validation.")
    return tuple(reasons)


def _explain_rejected(verification: Verification) -> str:
    return (
        f"The network with {verification.n_params:,} parameters of trial {verification.number} was rejected: on test only "
        f"{verification.n_passed} of {len(verification.seeds)} seeds were above the bar (mean {verification.mean:.2%})."
    )


def _explain_failure(
    records: Sequence[TrialRecord], rule: SelectionRule, tried: Sequence[Verification]
) -> tuple[str, ...]:
    reasons = [_explain_rejected(v) for v in tried]
    n_candidates = len(list_candidates(records, rule))
    done = completed(records)
    if not done:
        reasons.append("No trial is complete yet; search first.")
    elif not n_candidates:
        best = max(summarize_candidates(records), key=lambda s: s.val_accuracy)
        reasons.append(
            f"Of {_n_genomes(records)} distinct architectures tried none clears {rule.bar:.1%} by a margin of {rule.margin:.1%} in "
            f"validation; the best scored {best.val_accuracy:.2%} with {best.n_params:,} parameters. "
            "Search longer, lower the bar, or allow larger networks."
        )
    elif len(tried) < n_candidates:
        reasons.append(
            f"{n_candidates - len(tried)} more candidates were left after selection.max_candidates = {rule.max_candidates}; raise it, or search longer."
        )
    else:
        reasons.append("No candidate is left; search longer or raise selection.margin.")
    return tuple(reasons)


def _n_genomes(records: Sequence[TrialRecord]) -> int:
    return len({r.candidate.genome for r in completed(records)})
