"""The loop that drives a study: it alone asks and tells; workers only evaluate."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field, replace
from typing import Literal

import optuna
from optuna.trial import TrialState

from nasopt.candidates import CandidateTable, shortfall
from nasopt.errors import (
    DataError,
    EngineError,
    GenomeError,
    SearchStoppedError,
    WorkerLostError,
)
from nasopt.records import (
    TO_THE_END,
    Candidate,
    Evaluation,
    Evaluator,
    StopRule,
    TrialRecord,
    trial_seed,
)
from nasopt.search.genome_sampler import EXPECTED_KEY
from nasopt.search.ledger import n_known_to
from nasopt.search.plan import SearchPlan
from nasopt.search.progress import Progress, add_record, summarize
from nasopt.search.replicates import choose_replicate, is_replicate_turn
from nasopt.search.stopping import (
    StopRules,
    TeachingCurves,
    confidence_after,
    is_control,
)
from nasopt.search.study import (
    REPLICATE_KEY,
    read_records,
    to_record,
    write_candidate,
    write_evaluation,
)

MAX_FAILURES_IN_A_ROW = 10
MAX_REPEATS_IN_A_ROW = 1000
POLL_S = 0.5

StopCause = Literal["budget", "trials", "interrupted", "exhausted"]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a search ends: after ``seconds`` of search or ``trials``, counted since the study began."""

    seconds: float | None = None
    trials: int | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """What a trial trains: the seed is that of the replicate, ``earlier`` what the replicates before it reached.

    ``rules`` are those that ``rule`` came from, if any.
    """

    trial: optuna.Trial
    candidate: Candidate
    replicate: int
    seed: int
    rule: StopRule
    rules: StopRules | None
    earlier: tuple[float, ...]

    @property
    def key(self) -> tuple[Candidate, int]:
        """What makes two trainings the same."""
        return self.candidate, self.replicate


@dataclass(slots=True)
class _Past:
    """What the first ``n_trials`` trials tell."""

    n_trials: int = 0
    table: CandidateTable = field(default_factory=CandidateTable)
    curves: TeachingCurves = field(default_factory=TeachingCurves)

    def add(self, record: TrialRecord) -> None:
        self.table.add(record)
        self.curves.add(record)


class SearchDriver:
    """Runs one search on an open study.

    Args:
        study: the study, whose trials are continued.
        plan: what it searches.
        evaluator: what a worker does.
        executor: the workers.
        n_workers: how many trials run at once.
        on_progress: called after every trial that ends, in the driver's thread.
    """

    def __init__(
        self,
        study: optuna.Study,
        plan: SearchPlan,
        evaluator: Evaluator,
        executor: Executor,
        n_workers: int,
        on_progress: Callable[[Progress], None] = lambda _progress: None,
    ) -> None:
        self._study = study
        self._plan = plan
        self._evaluator = evaluator
        self._executor = executor
        self._n_workers = n_workers
        self._on_progress = on_progress
        self._running: dict[Future[Evaluation], list[_Run]] = {}
        self._futures: dict[tuple[Candidate, int], Future[Evaluation]] = {}
        self._n_failures_in_a_row = 0
        trials, records = study.get_trials(deepcopy=False), read_records(study, plan.space)
        self._left = deque(t for t in trials if t.state == TrialState.RUNNING)
        self._ended = {r.number: r for r in records if r.state != "running"}
        self._last_new, self._repeats = -1, set[int]()
        self._failed: set[tuple[Candidate, int]] = set()
        for record in sorted(self._ended.values(), key=lambda r: r.number):
            key = (record.candidate, record.replicate)
            is_repeat = record.duplicate_of is not None or key in self._failed
            self._note(record.number, is_repeat=is_repeat or record.is_too_large)
            if record.state == "failed":
                self._failed.add(key)
        self._chosen: dict[int, Candidate] = {}
        self._numbers: dict[Candidate, list[int]] = {}
        for record in records:
            self._choose(record.number, record.candidate)
        self._known: dict[tuple[Candidate, int], TrialRecord] = {}
        self._stop_rules: tuple[int, StopRules] | None = None
        self._table = CandidateTable(list(self._ended.values()))
        self._past = _Past()
        for record in self._ended.values():
            self._remember(record)
        self._elapsed_before_s = max((r.elapsed_s for r in records), default=0.0)
        asked = [t.number + 1 for t in trials if t.state != TrialState.WAITING]
        self.progress = replace(summarize(records, plan.bar), n_trials=max(asked, default=0))

    def run(self, limits: Limits, stop: threading.Event) -> StopCause:
        """Searches until a limit is reached or ``stop`` is set; trials in flight are finished first.

        Trials that were running when an earlier driver died are evaluated first, in place, whatever the limits are.

        Raises:
            SearchStoppedError: if ten trials in a row failed, or a worker has no data or engine to train with.
        """
        self._began = time.monotonic()
        while True:
            cause = self._cause_to_stop(limits, stop)
            while len(self._running) < self._n_workers and self._may_start(cause):
                self._start(self._resume() if self._left else self._ask())
                cause = self._cause_to_stop(limits, stop)
            if not self._running:
                break
            done, _ = wait(self._running, POLL_S, FIRST_COMPLETED)
            for future in done:
                self._finish(future)
        if self._n_failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            reason = self.progress.latest.reason if self.progress.latest else "unknown"
            raise SearchStoppedError(
                f"{MAX_FAILURES_IN_A_ROW} trials in a row failed, the last because {reason}; "
                "mend the cause and run the same command again, the study goes on from here"
            )
        return cause or "budget"

    def _cause_to_stop(self, limits: Limits, stop: threading.Event) -> StopCause | None:
        if stop.is_set() or self._n_failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            return "interrupted"
        if limits.seconds is not None and self._elapsed_s() >= limits.seconds:
            return "budget"
        if limits.trials is not None and self.progress.n_trials >= limits.trials:
            return "trials"
        if len(self._repeats) >= MAX_REPEATS_IN_A_ROW:
            return "exhausted"
        return None

    def _may_start(self, cause: StopCause | None) -> bool:
        """Whether one more trial may be started, where there is that cause to stop."""
        if self._left:
            return cause != "interrupted"
        return cause is None and self._may_ask()

    def _resume(self) -> optuna.Trial:
        """The next of the trials that an earlier driver left running."""
        return optuna.trial.Trial(self._study, self._left.popleft()._trial_id)

    def _may_ask(self) -> bool:
        """Whether all that the next trial may depend on is known."""
        first_open = n_known_to(self.progress.n_trials, self._plan.generation_size)
        return all(r.trial.number >= first_open for runs in self._running.values() for r in runs)

    def _elapsed_s(self) -> float:
        return self._elapsed_before_s + time.monotonic() - self._began

    def _ask(self) -> optuna.Trial:
        """The next trial: one of those to start with, what the sampler proposes, or a known candidate once more."""
        plan, number = self._plan, self.progress.n_trials
        if number < len(plan.start):
            self._study.enqueue_trial(plan.space.to_params(plan.start[number]))
        elif is_replicate_turn(number, plan.replicate_share) and not is_control(number):
            n_known = n_known_to(number, self._plan.generation_size)
            pending = [self._chosen[n] for n in range(n_known, number) if n in self._chosen]
            table = self._known_to(n_known).table
            candidate = choose_replicate(table, pending, plan.bar, plan.margin)
            if candidate is not None:
                self._study.enqueue_trial(
                    plan.space.to_params(candidate), user_attrs={REPLICATE_KEY: True}
                )
        return self._study.ask()

    def _start(self, trial: optuna.Trial) -> None:
        """Lets the trial choose; what is known already is told at once, the rest evaluated."""
        space = self._plan.space
        self._count(n_trials=max(self.progress.n_trials, trial.number + 1))
        candidate = space.suggest(trial)
        try:
            space.from_params(trial.params)
        except GenomeError as error:  # what a user enqueued may lie anywhere
            trial.set_user_attr("reason", str(error))
            self._study.tell(trial, state=TrialState.FAIL)
            return
        run = self._plan_run(trial, candidate)
        write_candidate(trial, candidate, space, run.seed, run.rule, run.replicate)
        self._choose(trial.number, candidate)
        reason = space.why_too_large(candidate.genome)
        if reason is not None:
            self._note(trial.number, is_repeat=True)
            self._tell(run, TrialState.PRUNED, reason=reason)
            return
        is_repeat = run.key in self._known or run.key in self._futures or run.key in self._failed
        self._note(trial.number, is_repeat=is_repeat)
        if run.key in self._known:
            self._n_failures_in_a_row = 0
            self._settle(run, None)
        elif run.key in self._futures:
            self._running[self._futures[run.key]].append(run)
        else:
            self._train([run])

    def _train(self, runs: list[_Run]) -> None:
        """Has the first of ``runs`` trained, which are of one candidate and seed; the others wait for what it comes to."""
        run = runs[0]
        rule = TO_THE_END if is_control(run.trial.number) else run.rule
        future = self._executor.submit(self._evaluator, run.candidate, run.seed, rule)
        self._futures[run.key] = future
        self._running[future] = runs
        self._count(n_running=len(self._running))

    def _plan_run(self, trial: optuna.Trial, candidate: Candidate) -> "_Run":
        """What the trial is to train, from what it may depend on alone."""
        plan = self._plan
        n_known = n_known_to(trial.number, self._plan.generation_size)
        known = self._known_to(n_known)
        replicate, rule, rules = 0, TO_THE_END, None
        if trial.user_attrs.get(REPLICATE_KEY):
            replicate = sum(n < trial.number for n in self._numbers.get(candidate, ()))
        elif plan.stop_confidence is not None:
            if self._stop_rules is None or self._stop_rules[0] != n_known:
                confidence = confidence_after(n_known, plan.stop_confidence)
                learned = known.curves.rules(known.table.front(), confidence)
                self._stop_rules = (n_known, learned)
            rules = self._stop_rules[1]
            rule = rules.rule(plan.space.n_params(candidate.genome))
        seed = trial_seed(plan.seed, candidate.genome, replicate)
        summary = known.table.get(candidate) if replicate else None
        earlier = summary.accuracies if summary is not None else ()
        return _Run(trial, candidate, replicate, seed, rule, rules, earlier)

    def _note(self, number: int, *, is_repeat: bool) -> None:
        """Keeps the repeats since the last trial that trained something new, in order of number: of time it depends not.

        What is too large to be trained counts as a repeat.
        """
        if is_repeat and number > self._last_new:
            self._repeats.add(number)
        elif not is_repeat and number > self._last_new:
            self._last_new = number
            self._repeats = {repeat for repeat in self._repeats if repeat > number}

    def _choose(self, number: int, candidate: Candidate) -> None:
        if number not in self._chosen:  # a trial that is resumed has chosen before
            self._chosen[number] = candidate
            self._numbers.setdefault(candidate, []).append(number)

    def _known_to(self, n_trials: int) -> "_Past":
        """What the first ``n_trials`` trials tell."""
        if n_trials < self._past.n_trials:  # a trial that an earlier driver left
            self._past = _Past()
        for n in range(self._past.n_trials, n_trials):
            if n in self._ended:
                self._past.add(self._ended[n])
        self._past.n_trials = n_trials
        return self._past

    def _finish(self, future: Future[Evaluation]) -> None:
        runs = self._running.pop(future)
        del self._futures[runs[0].key]
        self._count(n_running=len(self._running))
        error = future.exception()
        if error is None:
            self._n_failures_in_a_row = 0
            for run in runs:
                self._settle(run, future.result())
            return
        if isinstance(error, DataError | EngineError | ImportError | WorkerLostError):
            # No candidate's fault, and no part of the study: its trials stay open, and are taken up again.
            raise SearchStoppedError(
                f"a worker cannot train: {_reason(error)}; mend the cause and run the same command again, the study "
                "goes on from here"
            ) from error
        self._n_failures_in_a_row += 1
        self._failed.add(runs[0].key)
        self._tell(runs[0], TrialState.FAIL, reason=_reason(error))
        if len(runs) > 1:  # each by its own rule, as if it had been asked only now
            self._train(runs[1:])

    def _settle(self, run: "_Run", evaluation: Evaluation | None) -> None:
        """Tells an evaluation; for a training that is known already, the one that it had."""
        trial, plan = run.trial, self._plan
        first = self._known.get(run.key)
        if first is not None:
            evaluation = first.evaluation
            trial.set_user_attr("duplicate_of", first.number)
        assert evaluation is not None, "a candidate that is not known comes with its evaluation"
        accuracies = (*run.earlier, evaluation.val_accuracy)
        write_evaluation(trial, evaluation, shortfall(accuracies, plan.bar, plan.margin))
        if evaluation.stopped:
            if run.rules is not None:
                trial.set_user_attr(EXPECTED_KEY, run.rules.expected(evaluation.curve))
            n_epochs = len(evaluation.curve)
            reason = (
                f"stopped after epoch {n_epochs} at {evaluation.val_accuracy:.2%}: in all likelihood it "
                "would have ended dominated by a network of at most its size"
            )
            self._tell(run, TrialState.PRUNED, reason=reason)
        else:
            values = [evaluation.val_accuracy, plan.space.n_params(run.candidate.genome)]
            self._tell(run, TrialState.COMPLETE, values=values)

    def _remember(self, record: TrialRecord) -> None:
        if record.evaluation is not None:
            self._known.setdefault((record.candidate, record.replicate), record)

    def _tell(
        self,
        run: "_Run",
        state: TrialState,
        *,
        values: list[float] | None = None,
        reason: str | None = None,
    ) -> None:
        trial = run.trial
        if reason is not None:
            trial.set_user_attr("reason", reason)
        trial.set_user_attr("elapsed_s", round(self._elapsed_s(), 3))
        record = to_record(self._study.tell(trial, values, state), self._plan.space)
        assert record is not None, "a trial is told only after it chose its candidate"
        self._ended[record.number] = record
        self._remember(record)
        self._table.add(record)
        self.progress = add_record(self.progress, record, self._plan.bar, self._table)
        self._on_progress(self.progress)

    def _count(self, **changes: int) -> None:
        self.progress = replace(self.progress, **changes)  # type: ignore[arg-type]


def _reason(error: BaseException) -> str:
    text = "".join(filter(str.isprintable, " ".join(str(error).split()))) or "no message"
    return (
        text
        if isinstance(error, Exception) and type(error).__module__.startswith("nasopt")
        else f"{type(error).__name__}: {text}"
    )
