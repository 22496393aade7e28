"""The loop that drives a study: it alone asks and tells; workers only evaluate."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from typing import Any, Literal

import optuna
from optuna.trial import TrialState

from nasopt.errors import SearchStoppedError
from nasopt.records import (
    Candidate,
    Evaluation,
    Evaluator,
    TrialRecord,
    completed,
    pareto_front,
    trial_seed,
)
from nasopt.search.plan import SearchPlan
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


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a search stands; ``latest`` is the trial that ended last."""

    n_trials: int = 0
    n_trained: int = 0
    n_duplicates: int = 0
    n_pruned: int = 0
    n_failed: int = 0
    n_running: int = 0
    elapsed_s: float = 0.0
    front: tuple[TrialRecord, ...] = ()
    smallest: TrialRecord | None = None
    latest: TrialRecord | None = None

    def to_json(self) -> dict[str, Any]:
        """The state as plain JSON values."""
        return {
            "n_trials": self.n_trials,
            "n_trained": self.n_trained,
            "n_duplicates": self.n_duplicates,
            "n_pruned": self.n_pruned,
            "n_failed": self.n_failed,
            "n_running": self.n_running,
            "elapsed_s": self.elapsed_s,
            "smallest": self.smallest.to_json() if self.smallest else None,
            "front": [record.to_json() for record in self.front],
        }


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
        self._known = {r.candidate: r for r in reversed(completed(records))}
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
        """Whether all that the next trial's choice may depend on is known."""
        size = self._plan.generation_size
        first_needed = (self.progress.n_trials // size - 1) * size
        return all(t.number >= first_needed for trials in self._running.values() for t in trials)

    def _elapsed_s(self) -> float:
        return self._elapsed_before_s + time.monotonic() - self._began

    def _start(self, trial: optuna.Trial) -> None:
        """Lets the trial choose; what is known already is told at once, the rest evaluated."""
        space = self._plan.space
        candidate = space.suggest(trial)
        seed = trial_seed(self._plan.seed, candidate.genome)
        write_candidate(trial, candidate, space, seed)
        self._count(n_trials=trial.number + 1)
        n_params = space.n_params(candidate.genome)
        if space.max_params is not None and n_params > space.max_params:
            reason = (
                f"{n_params} parameters are more than the study's max_params of {space.max_params}"
            )
            self._tell(trial, TrialState.PRUNED, reason=reason)
        elif candidate in self._known:
            self._n_repeats_in_a_row += 1
            self._complete(trial, candidate)
        elif candidate in self._futures:
            self._running[self._futures[candidate]].append(trial)
        else:
            self._n_repeats_in_a_row = 0
            future: Future[Evaluation] = self._executor.submit(self._evaluator, candidate, seed)
            self._futures[candidate] = future
            self._running[future] = [trial]
            self._count(n_running=len(self._running))

    def _finish(self, future: Future[Evaluation]) -> None:
        trials = self._running.pop(future)
        candidate = next(c for c, f in self._futures.items() if f is future)
        del self._futures[candidate]
        self._count(n_running=len(self._running))
        error = future.exception()
        if error is None:
            self._n_failures_in_a_row = 0
            for trial in trials:
                self._complete(trial, candidate, future.result())
            return
        for trial in trials:
            self._n_failures_in_a_row += 1
            self._tell(trial, TrialState.FAIL, reason=_reason(error))

    def _complete(
        self, trial: optuna.Trial, candidate: Candidate, evaluation: Evaluation | None = None
    ) -> None:
        """Tells an evaluation; if the candidate is known already, the one that it had."""
        first = self._known.get(candidate)
        if first is not None and first.evaluation is not None:
            evaluation = first.evaluation
            trial.set_user_attr("duplicate_of", first.number)
        assert evaluation is not None, "a candidate that is not known comes with its evaluation"
        write_evaluation(trial, evaluation, self._plan.bar)
        values = [evaluation.val_accuracy, self._plan.space.n_params(candidate.genome)]
        record = self._tell(trial, TrialState.COMPLETE, values=values)
        self._known.setdefault(candidate, record)

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
        self.progress = _add(self.progress, record, self._plan.bar)
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


def _add(progress: Progress, record: TrialRecord, bar: float) -> Progress:
    return replace(
        progress,
        n_trained=progress.n_trained
        + (record.state == "complete" and record.duplicate_of is None),
        n_duplicates=progress.n_duplicates + (record.duplicate_of is not None),
        n_pruned=progress.n_pruned + (record.state == "pruned"),
        n_failed=progress.n_failed + (record.state == "failed"),
        elapsed_s=max(progress.elapsed_s, record.elapsed_s),
        front=tuple(pareto_front([*progress.front, record])),
        smallest=_smaller(progress.smallest, record, bar),
        latest=record,
    )


def _smaller(smallest: TrialRecord | None, record: TrialRecord, bar: float) -> TrialRecord | None:
    if record.evaluation is None or record.val_accuracy < bar:
        return smallest
    return record if smallest is None or record.n_params < smallest.n_params else smallest


def summarize(records: list[TrialRecord], bar: float) -> Progress:
    """Where a search stands after ``records``."""
    progress = Progress(
        n_trials=max((r.number + 1 for r in records), default=0),
        n_running=sum(r.state == "running" for r in records),
    )
    for record in records:
        if record.state != "running":
            progress = _add(progress, record, bar)
    return progress
