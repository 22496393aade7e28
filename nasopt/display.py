"""The progress of a search in a terminal, or as plain lines elsewhere."""

import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from nasopt.candidates import CandidateSummary
from nasopt.search.driver import Limits, StopCause
from nasopt.search.progress import Progress
from nasopt.wording import number_of

LINE_EVERY_S = 15.0


class SearchDisplay:
    """Shows a search as it runs: a live line in a terminal, else a plain line from time to time."""

    def __init__(self, console: Console, limits: Limits, *, quiet: bool) -> None:
        self._console = console
        self._limits = limits
        self._quiet = quiet
        self._first: tuple[float, int] | None = None
        self._progress: Progress | None = None
        self._received = self._last_line = time.monotonic()
        self._live = Live(
            console=console,
            refresh_per_second=4,
            get_renderable=lambda: Text("\n".join(self._parts())),
            transient=True,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._live.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def update(self, progress: Progress) -> None:
        """Shows the state after a trial."""
        before, self._progress = self._progress, progress
        self._received = time.monotonic()
        if self._first is None:
            self._first = (progress.elapsed_s, progress.n_trained)
        if self._quiet:
            return
        found = progress.smallest != (before.smallest if before else None)
        failed = progress.n_failed > (before.n_failed if before else progress.n_failed)
        if failed and progress.latest is not None:
            self._print(f"trial {progress.latest.number} failed: {progress.latest.reason}")
        if self._console.is_terminal:
            if found and before is not None and progress.smallest is not None:
                self._print(_found(progress.smallest))
        elif found or self._received - self._last_line >= LINE_EVERY_S:
            self._last_line = self._received
            self._print(" · ".join(self._parts()))

    def _print(self, line: str) -> None:
        with suppress(OSError, SystemExit):  # whoever read along is gone, and the search goes on
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _parts(self) -> list[str]:
        progress = self._progress
        if progress is None or self._first is None:
            return ["starting …"]
        waiting = time.monotonic() - self._received if self._console.is_terminal else 0.0
        elapsed_s = progress.elapsed_s + waiting
        parts = [
            f"{progress.n_trials} trials ({progress.n_trained} trained, {progress.n_duplicates} duplicates, {progress.n_failed} failed)"
        ]
        minutes = (elapsed_s - self._first[0]) / 60
        if minutes > 0 and progress.n_trained > self._first[1]:
            parts.append(f"{(progress.n_trained - self._first[1]) / minutes:.1f} a minute")
        if self._limits.seconds is not None:
            parts.append(f"{format_duration(max(0.0, self._limits.seconds - elapsed_s))} left")
        parts.append(f"front {len(progress.front)}")
        parts.append(_smallest(progress.smallest))
        return parts


def _smallest(network: CandidateSummary | None) -> str:
    if network is None:
        return "none above the bar yet"
    return f"smallest above the bar {network.n_params:,} at {_accuracy(network)}"


def _found(network: CandidateSummary) -> str:
    return (
        f"{network.n_params:>7,} parameters at {_accuracy(network)}   {network.candidate.genome}"
    )


def _accuracy(network: CandidateSummary) -> str:
    seeds = f" (mean of {network.n_runs})" if network.n_runs > 1 else ""
    return f"{network.val_accuracy:.2%}{seeds}"


def format_duration(seconds: float) -> str:
    """A duration as ``1:02:03`` or ``2:03``."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def describe_progress(progress: Progress) -> str:
    """The state of a search in a line."""
    return (
        f"{progress.n_trials} trials: {progress.n_trained} trained ({progress.n_stopped} stopped early, {progress.n_replicates} replicates), {progress.n_duplicates} duplicates, {progress.n_too_large} too large, "
        f"{progress.n_failed} failed; {format_duration(progress.elapsed_s)} of search; front of {len(progress.front)}; "
        f"{_smallest(progress.smallest)}"
    )


def describe_end(cause: StopCause, limits: Limits, n_trials: int) -> str:
    """Why a search ended that has ``n_trials`` trials now, and how to go on."""
    if cause == "budget":
        return f"the budget of {format_duration(limits.seconds or 0)} is used up; search on with a larger --budget"
    if cause == "trials":
        return (
            f"{number_of(n_trials, 'trial')} {'is' if n_trials == 1 else 'are'} done; search on with --trials above {n_trials}, "
            "which counts from the study's start"
        )
    if cause == "interrupted":
        return "interrupted; run the same command to go on"
    return "all that was proposed of late was known already, or too large; widen the space in a study file of another name"
