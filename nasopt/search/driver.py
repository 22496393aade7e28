"""The loop that drives a study: it alone asks and tells; workers only evaluate."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from typing import Literal

import optuna
from optuna.trial import TrialState

from nasopt.errors import SearchStoppedError
from nasopt.records import (
    TO_THE_END,
    Candidate,
    Evaluation,
    Evaluator,
    StopRule,
    TrialRecord,
    trial_seed,
)
from nasopt.search.plan import SearchPlan
from nasopt.search.progress import Progress, add_record, summarize
from nasopt.search.stopping import is_control, make_stop_rule
from nasopt.search.study import (
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
        self._running: dict[Future[Evaluation], list[optuna.Trial]] = {}
        self._futures: dict[Candidate, Future[Evaluation]] = {}
        self._n_failures_in_a_row = 0
        self._n_repeats_in_a_row = 0
        records = read_records(study, plan.space)
        self._ended = {r.number: r for r in records if r.state != "running"}
        self._known: dict[Candidate, TrialRecord] = {}
        for record in self._ended.values():
            self._remember(record)
        self._elapsed_before_s = max((r.elapsed_s for r in records), default=0.0)
        self.progress = summarize(records, plan.bar)

    def run(self, limits: Limits, stop: threading.Event) -> StopCause:
        """Searches until a limit is reached or ``stop`` is set; trials in flight are finished first.

        Trials that were running when an earlier driver died are evaluated first, in place.

        Raises:
            SearchStoppedError: if ten trials in a row failed.
        """
        self._began = time.monotonic()
        for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._start(optuna.trial.Trial(self._study, frozen._trial_id))
        while True:
            cause = self._cause_to_stop(limits, stop)
            while cause is None and len(self._running) < self._n_workers and self._may_ask():
                self._start(self._study.ask())
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
        if self._n_repeats_in_a_row >= MAX_REPEATS_IN_A_ROW:
            return "exhausted"
        return None

    def _may_ask(self) -> bool:
        """Whether all that the next trial may depend on is known."""
        first_open = self._n_trials_known_to(self.progress.n_trials)
        return all(t.number >= first_open for trials in self._running.values() for t in trials)

    def _n_trials_known_to(self, number: int) -> int:
        """How many trials, from the first, the trial of that number may depend on."""
        size = self._plan.generation_size
        return max(0, number // size - 1) * size

    def _elapsed_s(self) -> float:
        return self._elapsed_before_s + time.monotonic() - self._began

    def _start(self, trial: optuna.Trial) -> None:
        """Lets the trial choose; what is known already is told at once, the rest evaluated."""
        space = self._plan.space
        candidate = space.suggest(trial)
        n_params = space.n_params(candidate.genome)
        seed = trial_seed(self._plan.seed, candidate.genome)
        rule = self._stop_rule(trial.number, n_params)
        write_candidate(trial, candidate, space, seed, rule)
        self._count(n_trials=trial.number + 1)
        reason = space.why_too_large(candidate.genome)
        if reason is not None:
            self._tell(trial, TrialState.PRUNED, reason=reason)
        elif candidate in self._known:
            self._n_repeats_in_a_row += 1
            self._settle(trial, candidate, None)
        elif candidate in self._futures:
            self._running[self._futures[candidate]].append(trial)
        else:
            self._n_repeats_in_a_row = 0
            applied = TO_THE_END if is_control(trial.number) else rule
            future = self._executor.submit(self._evaluator, candidate, seed, applied)
            self._futures[candidate] = future
            self._running[future] = [trial]
            self._count(n_running=len(self._running))

    def _stop_rule(self, number: int, n_params: int) -> StopRule:
        """The rule of a trial, from what it may depend on alone."""
        if self._plan.stop_confidence is None:
            return TO_THE_END
        numbers = range(self._n_trials_known_to(number))
        records = [self._ended[n] for n in numbers if n in self._ended]
        return make_stop_rule(records, n_params, self._plan.stop_confidence)

    def _finish(self, future: Future[Evaluation]) -> None:
        trials = self._running.pop(future)
        candidate = next(c for c, f in self._futures.items() if f is future)
        del self._futures[candidate]
        self._count(n_running=len(self._running))
        error = future.exception()
        if error is None:
            self._n_failures_in_a_row = 0
            for trial in trials:
                self._settle(trial, candidate, future.result())
            return
        for trial in trials:
            self._n_failures_in_a_row += 1
            self._tell(trial, TrialState.FAIL, reason=_reason(error))

    def _settle(
        self, trial: optuna.Trial, candidate: Candidate, evaluation: Evaluation | None
    ) -> None:
        """Tells an evaluation; for a candidate that is known already, the one that it had."""
        first = self._known.get(candidate)
        if first is not None:
            evaluation = first.evaluation
            trial.set_user_attr("duplicate_of", first.number)
        assert evaluation is not None, "a candidate that is not known comes with its evaluation"
        write_evaluation(trial, evaluation, self._plan.bar)
        if evaluation.stopped:
            n_epochs = len(evaluation.curve)
            reason = (
                f"stopped after epoch {n_epochs} at {evaluation.val_accuracy:.2%}: in all likelihood it "
                "would have ended dominated by a network of at most its size"
            )
            self._tell(trial, TrialState.PRUNED, reason=reason)
        else:
            values = [evaluation.val_accuracy, self._plan.space.n_params(candidate.genome)]
            self._tell(trial, TrialState.COMPLETE, values=values)

    def _remember(self, record: TrialRecord) -> None:
        if record.evaluation is not None:
            self._known.setdefault(record.candidate, record)

    def _tell(
        self,
        trial: optuna.Trial,
        state: TrialState,
        *,
        values: list[float] | None = None,
        reason: str | None = None,
    ) -> TrialRecord:
        if reason is not None:
            trial.set_user_attr("reason", reason)
        trial.set_user_attr("elapsed_s", round(self._elapsed_s(), 3))
        record = to_record(self._study.tell(trial, values, state), self._plan.space)
        assert record is not None, "a trial is told only after it chose its candidate"
        self._ended[record.number] = record
        self._remember(record)
        self.progress = add_record(self.progress, record, self._plan.bar)
        self._on_progress(self.progress)
        return record

    def _count(self, **changes: int) -> None:
        self.progress = replace(self.progress, **changes)  # type: ignore[arg-type]


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return (
        text
        if isinstance(error, Exception) and type(error).__module__.startswith("nasopt")
        else f"{type(error).__name__}: {text}"
    )
