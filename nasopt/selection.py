"""From all trials to the one network: raced on validation, then opened on test, and explained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from nasopt.candidates import CandidateSummary, front_of, summarize_candidates
from nasopt.errors import SettingsError
from nasopt.explanation import (
    SEARCH_LONGER,
    Spent,
    explain_choice,
    explain_contradicted,
    explain_narrow_rule,
    explain_no_candidate,
    explain_race,
    find_knee,
)
from nasopt.racing import RaceRule, n_needed
from nasopt.records import Race, SeedResult, TrialRecord, Verification

Order = Literal["smallest", "knee", "best-under"]
ORDERS: tuple[Order, ...] = get_args(Order)
_TITLES: dict[Order, str] = {
    "smallest": "the smallest network",
    "knee": "the smallest network from the knee of the front up",
    "best-under": "the most accurate network in the search",
}


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """What a network must do to be chosen.

    Its mean validation accuracy over its ``n`` trainings in the search must be at least ``bar + margin / sqrt(n)``.
    Then it is raced over ``race_seeds`` fresh seeds, see :class:`nasopt.racing.RaceRule`. What a race accepts is trained on all
    training images from ``n_seeds`` seeds and opened on test: the mean must be above the bar, and
    ``min_pass_rate`` of the seeds too. At most ``max_candidates`` are raced.

    Only the first ``n_seeds`` count, where more were trained at some time, and none after the one that leaves too few.

    Candidates are walked through from the smallest up; from the knee of the front up; or, of those with at
    most ``under`` parameters, from the most accurate down. Where ``trials`` are named, only their networks are candidates,
    whatever they have in validation.
    """

    bar: float
    margin: float = 0.01
    n_seeds: int = 20
    min_pass_rate: float = 0.8
    max_candidates: int = 30
    race_seeds: int = 48
    order: Order = "smallest"
    under: int | None = None
    trials: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """What it looks for, in words."""
        title = _TITLES[self.order]
        if self.under is not None:
            title += f" of at most {self.under:,} parameters"
        if not self.trials:
            return title
        return f"{title} among {_name_trials(self.trials)} (asked for by number)"

    @property
    def asked(self) -> dict[str, Any]:
        """What a user may ask for in place of the study file's, as plain JSON values; see :func:`recall_rule`."""
        return {
            "bar": self.bar,
            "order": self.order,
            "under": self.under,
            "trials": list(self.trials),
        }

    def race(self, position: int) -> RaceRule:
        """What the race of the network at ``position`` of the walk, from 1, is judged by."""
        return RaceRule(
            self.bar,
            self.min_pass_rate,
            self.race_seeds,
            position=position,
            n_candidates=self.max_candidates,
        )

    def counted(self, verification: Verification) -> Verification:
        """``verification`` with those of its seeds that count, in whatever order they ended.

        They are the first ``n_seeds``, up to one that is missing, and up to the one after which too few can pass.
        """
        trained = {s.replicate: s for s in verification.seeds}
        seeds: list[SeedResult] = []
        n_failed = 0
        for replicate in range(1, self.n_seeds + 1):
            if replicate not in trained or n_failed > self.n_seeds - self.n_to_pass:
                break
            seeds.append(trained[replicate])
            n_failed += trained[replicate].test_accuracy <= verification.bar
        return replace(verification, seeds=tuple(seeds))

    @property
    def n_to_pass(self) -> int:
        """How many of the seeds on test must be above the bar."""
        return n_needed(self.min_pass_rate, self.n_seeds)

    def passes(self, verification: Verification) -> bool:
        """Whether all the seeds on test are there, and bear out what the race said."""
        verification = self.counted(verification)
        return (
            len(verification.seeds) >= self.n_seeds
            and verification.n_passed >= self.n_to_pass
            and verification.mean > self.bar
        )

    def is_decided(self, verification: Verification) -> bool:
        """Whether more seeds would change nothing."""
        n = len(self.counted(verification).seeds)
        return n >= self.n_seeds or not self.may_still_pass(verification)

    def may_still_pass(self, verification: Verification) -> bool:
        """Whether the seeds not trained yet could make up for those that failed."""
        verification = self.counted(verification)
        n_left = self.n_seeds - len(verification.seeds)
        return verification.n_passed + n_left >= self.n_to_pass


def _name_trials(numbers: Sequence[int]) -> str:
    return f"trial{'s' if len(numbers) > 1 else ''} {', '.join(str(n) for n in numbers)}"


def adapt_rule(
    usual: SelectionRule,
    order: str,
    under: int | None,
    bar: float | None,
    trials: Sequence[int] = (),
) -> SelectionRule:
    """``usual`` with what a user asked for instead.

    Raises:
        SettingsError: if the order is unknown, lacks the size it needs, or contradicts the trials.
    """
    if order not in ORDERS:
        raise SettingsError(f"unknown rule {order!r}; give one of {', '.join(ORDERS)}")
    if order == "best-under" and under is None:
        raise SettingsError(
            "the rule best-under needs the most parameters that a network may have; give it with --under"
        )
    if order == "knee" and trials:
        raise SettingsError(
            "the rule knee chooses from the whole front, so it cannot be asked of single trials; leave out --rule knee or --trial"
        )
    return replace(
        usual,
        order=order,
        under=under,
        bar=usual.bar if bar is None else bar,
        trials=tuple(sorted(set(trials))),
    )


def recall_rule(usual: SelectionRule, asked: Mapping[str, Any]) -> SelectionRule:
    """``usual`` with what was asked for in an earlier run, perhaps by a version that knew less to ask for."""
    return replace(usual, **{**asked, "trials": tuple(asked.get("trials", ()))})


def check_trials(records: Sequence[TrialRecord], rule: SelectionRule) -> None:
    """Refuses a rule that names a trial whose network cannot be raced.

    Raises:
        SettingsError: if the study has no such trial, or its network was never trained to the end.
    """
    known = {r.number: r for r in records}
    trained = {s.candidate for s in summarize_candidates(records)}
    for number in rule.trials:
        if number not in known:
            there = f"its last is trial {max(known)}" if known else "it has none yet"
            raise SettingsError(
                f"the study has no trial {number}; {there}: name one that 'nasopt front' lists, or search on"
            )
        record = known[number]
        if record.candidate not in trained:
            why = f" ({record.reason})" if record.reason else ""
            raise SettingsError(
                f"trial {number} is {record.state}{why}, and its network was not trained to the end; name a trial that is "
                "complete, or make it the start of a study of another name ([[search.start]])"
            )


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome: the network and its verification if one was chosen, all that were tried, and why.

    ``races`` are those of the walk, in order; ``verifications`` those decided on test, the chosen one last.
    """

    rule: SelectionRule
    chosen: CandidateSummary | None
    races: tuple[Race, ...]
    verifications: tuple[Verification, ...]
    reasons: tuple[str, ...]

    @property
    def verification(self) -> Verification | None:
        """The verification of the chosen network."""
        return self.verifications[-1] if self.chosen else None

    def to_json(self) -> dict[str, Any]:
        """The selection as plain JSON values."""
        return {
            "bar": self.rule.bar,
            "rule": self.rule.order,
            "under": self.rule.under,
            "trials": list(self.rule.trials),
            "margin": self.rule.margin,
            "min_pass_rate": self.rule.min_pass_rate,
            "chosen": self.chosen.to_json() if self.chosen else None,
            "verification": self.verification.to_json() if self.verification else None,
            "contradicted": [
                v.to_json() for v in self.verifications[: -1 if self.chosen else None]
            ],
            "races": [
                race.to_json() | {"verdict": self.rule.race(position).judge(race.accuracies)}
                for position, race in enumerate(self.races, start=1)
            ],
            "reasons": list(self.reasons),
        }


def list_candidates(records: Sequence[TrialRecord], rule: SelectionRule) -> list[CandidateSummary]:
    """The candidates that clear the bar by the margin in validation, or those of the trials named, in the order of the rule."""
    networks = summarize_candidates(records)
    clear = [s for s in networks if s.shortfall(rule.bar, rule.margin) <= 0]
    if rule.trials:
        named = {r.candidate for r in records if r.number in rule.trials}
        clear = [s for s in networks if s.candidate in named]
    if rule.under is not None:
        clear = [s for s in clear if s.n_params <= rule.under]
    if rule.order == "best-under":
        return sorted(clear, key=lambda s: (-s.val_accuracy, s.n_params, s.number))
    knee = _knee(networks, rule)
    if knee is not None:
        clear = [s for s in clear if s.n_params >= knee.n_params]
    return sorted(clear, key=lambda s: (s.n_params, -s.val_accuracy, s.number))


def _knee(networks: Sequence[CandidateSummary], rule: SelectionRule) -> CandidateSummary | None:
    """Where the walk of the rule knee begins; None for another rule, and where the front has none."""
    return find_knee(front_of(networks)) if rule.order == "knee" else None


def _explain_none(records: Sequence[TrialRecord], rule: SelectionRule) -> str:
    """Why the rule has no candidate, and what to do."""
    others = list_candidates(records, replace(rule, order="smallest", under=None))
    if not others:
        return explain_no_candidate(records, rule.bar, rule.margin)
    knee = _knee(summarize_candidates(records), rule)
    return explain_narrow_rule(others[0], rule.under, None if knee is None else knee.n_params)


def select_network(
    records: Sequence[TrialRecord],
    rule: SelectionRule,
    race: Callable[[CandidateSummary, int], Race],
    verify: Callable[[CandidateSummary], Verification],
) -> Selection:
    """The first network in the order of the rule that wins its race and is borne out on test, and the reasons in words.

    ``race`` is called for one candidate after the other, in that order, with its position from 1;
    ``verify`` for what a race accepts. Either may return what is not decided yet, which ends the walk without
    a choice.
    """
    races: list[Race] = []
    tested: list[Verification] = []  # and decided
    reasons: list[str] = []
    candidates = list_candidates(records, rule)
    if rule.order == "knee" and _knee(summarize_candidates(records), rule) is None:
        reasons.append("The front has no knee, so that all candidates were walked through.")
    for position, network in enumerate(candidates[: rule.max_candidates], start=1):
        ran = race(network, position)
        verdict, n_used = rule.race(position).decide(ran.accuracies)
        races.append(replace(ran, accuracies=ran.accuracies[:n_used]))
        if verdict == "accepted":
            verification = rule.counted(verify(network))
            if rule.passes(verification):
                tested.append(verification)
                level, n_tested = rule.race(position).level, len(tested)
                choice = explain_choice(
                    records, network, races[-1], verification, Spent(level, n_tested), rule.title
                )
                return Selection(rule, network, tuple(races), tuple(tested), (*choice, *reasons))
            if rule.is_decided(verification):
                tested.append(verification)
                reasons.append(explain_contradicted(verification, rule.n_to_pass, rule.n_seeds))
                continue
        if verdict in {"open", "accepted"}:
            reasons.append(
                f"The next candidate, trial {network.number} with {network.n_params:,} parameters and "
                f"{network.val_accuracy:.2%} in validation, is not verified yet; run 'nasopt verify', with the options that it had."
            )
            return Selection(rule, None, tuple(races), tuple(tested), tuple(reasons))
        reasons.append(explain_race(races[-1], rule.bar, verdict, rule.min_pass_rate))
    if not candidates and rule.trials and rule.under is not None:
        least = min(r.n_params for r in records if r.number in rule.trials)
        reasons.append(
            f"The smallest network of {_name_trials(rule.trials)} has {least:,} parameters, more than {rule.under:,} (--under); "
            "leave that out, or name other trials."
        )
    elif not candidates:  # of all trials: those that are named always are candidates
        reasons.append(_explain_none(records, rule))
    elif len(candidates) > rule.max_candidates:
        reasons.append(
            f"{len(candidates) - rule.max_candidates} more candidates were left after selection.max_candidates = {rule.max_candidates}; "
            "raise it, or search longer."
        )
    else:
        others = "name other trials or none, or " if rule.trials else ""
        reasons.append(f"No candidate is left; {others}{SEARCH_LONGER}.")
    return Selection(rule, None, tuple(races), tuple(tested), tuple(reasons))
