"""How often what a race accepts holds on seeds that it did not use, at several bars; beside the naive pick.

Two settings. ``table``: networks of our own space, each trained from 20 seeds (``make_table.py``); a race draws its
seeds at random from half of them, and a pick holds if the mean of the other half is above the bar.
``simulated``: networks with the means and the noise found there, dead seeds included, drawn anew without end; a pick holds
if its true mean is above the bar.

    python studies/calibrate_race.py
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nasopt.racing import RaceRule

TABLE = Path(__file__).parent / "results" / "fashion-mnist-table.json"
BARS = (0.73, 0.74, 0.75, 0.76, 0.77)
N_WALKS = 1000
DEAD = 0.3  # an accuracy below it is that of a training that died
N_CANDIDATES = 30  # of a walk, in random order: sizes say nothing of accuracy here

Draw = Callable[[int], np.ndarray]


def main() -> None:
    """Prints a row a bar and setting."""
    networks = read_networks(TABLE)
    rng = np.random.default_rng(0)
    report_noise(networks)
    print(f"{len(networks)} networks, {N_WALKS} walks of {N_CANDIDATES} networks a row")
    print("setting    bar    accepted  held     naive pick held   seeds a walk")
    for bar in BARS:
        report("simulated", bar, [walk_simulated(networks, bar, rng) for _ in range(N_WALKS)])
    for bar in BARS:
        report("table", bar, [walk_table(networks, bar, rng) for _ in range(N_WALKS)])


def read_networks(path: Path) -> list[np.ndarray]:
    """The final validation accuracies of every network trained from many seeds."""
    networks: dict[tuple[object, ...], list[float]] = {}
    for part, genome, lr, lr_decay, _seed, curve, *_ in json.loads(path.read_text()):
        if part == "seeds":
            networks.setdefault((genome, lr, lr_decay), []).append(curve[-1])
    return [np.array(accuracies) for accuracies in networks.values()]


def report_noise(networks: list[np.ndarray]) -> None:
    """Prints how accuracies differ from seed to seed; a seed below ``DEAD`` has died."""
    deviations = [a[a >= DEAD].std(ddof=1) for a in networks if (a >= DEAD).sum() > 1]
    low, middle, high = 100 * np.quantile(deviations, [0.1, 0.5, 0.9])
    with_dead = np.mean([(a < DEAD).any() for a in networks])
    dead = np.mean(np.concatenate(networks) < DEAD)
    print(
        f"noise from seed to seed: standard deviation {middle:.1f} points (10th to 90th percentile {low:.1f} to {high:.1f}); "
        f"{with_dead:.0%} of the networks died from at least one seed, {dead:.1%} of all trainings did"
    )


def walk_simulated(
    networks: list[np.ndarray], bar: float, rng: np.random.Generator
) -> tuple[bool | None, bool | None, int]:
    """One walk over networks whose true means and dead seeds are those of the table."""
    chosen = rng.choice(len(networks), N_CANDIDATES, replace=False)
    draws = [lambda n, a=networks[i]: rng.choice(a, n) for i in chosen]
    means = [float(networks[i].mean()) for i in chosen]
    return walk(draws, means, bar)


def walk_table(
    networks: list[np.ndarray], bar: float, rng: np.random.Generator
) -> tuple[bool | None, bool | None, int]:
    """One walk over the table: half of the seeds to race on, the other half to be judged by."""
    draws, means = [], []
    for i in rng.choice(len(networks), N_CANDIDATES, replace=False):
        shuffled = rng.permutation(networks[i])
        half = len(shuffled) // 2
        draws.append(lambda n, a=shuffled[:half]: a[:n])
        means.append(float(shuffled[half:].mean()))
    return walk(draws, means, bar)


def walk(
    draws: Sequence[Draw], means: Sequence[float], bar: float
) -> tuple[bool | None, bool | None, int]:
    """Whether the pick of a walk holds, and that of the naive walk (None without one); the seeds used."""
    n_seeds, naive, held, position = 0, None, None, 0
    for draw, mean in zip(draws, means, strict=True):
        accuracies = draw(1 + RaceRule(bar).n_seeds)
        if accuracies[0] <= bar:  # the search's one training; a race has seeds of its own
            continue
        if naive is None:
            naive = mean > bar
        if held is not None:
            continue
        position += 1
        seen = accuracies[1:]
        rule = RaceRule(bar, n_seeds=len(seen), position=position)
        n = next(n for n in rule.rounds if rule.judge(seen[:n]) != "open")
        n_seeds += min(n, len(seen))
        if rule.judge(seen[:n]) == "accepted":
            held = mean > bar
    return held, naive, n_seeds


def report(setting: str, bar: float, walks: list[tuple[bool | None, bool | None, int]]) -> None:
    """Prints a row."""
    held = [h for h, _, _ in walks if h is not None]
    naive = [n for _, n, _ in walks if n is not None]
    seeds = np.mean([s for _, _, s in walks])
    share = f"{np.mean(held):.1%}" if held else "-"
    print(
        f"{setting:<10} {bar:.2f}   {len(held):>4}      {share:<8} {np.mean(naive):<17.1%} {seeds:.0f}"
    )


if __name__ == "__main__":
    main()
