"""How often what a race accepts holds on seeds that it did not use, at several bars; beside the naive pick.

Walks over networks in random order, as ``nasopt verify`` walks from the smallest up: a network whose one training of a search is
above the bar is raced. Two settings, both on the networks near the bar of ``make_seeds.py``. ``table``: a race takes the seeds that
the network was trained from for it, and a pick holds if the mean of 20 others is above the bar; ``of networks`` says how many
different ones were picked. ``simulated``: all seeds are drawn anew from those of the network, dead ones included, and a pick holds if their mean is above the bar.

    python studies/calibrate_race.py
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from make_seeds import LOWEST_BAR, N_UNUSED, TABLE

from nasopt.racing import RaceRule

BARS = (0.73, 0.74, 0.75, 0.76, 0.77)
N_WALKS = 1000
DEAD = 0.3  # an accuracy below it is that of a training that died
N_CANDIDATES = 30  # of a walk, in random order: sizes say nothing of accuracy here


@dataclass(frozen=True)
class Network:
    """The final validation accuracies of one network: of its one training of a search, its race, and seeds that neither saw."""

    searched: float
    raced: np.ndarray
    unused: np.ndarray

    @property
    def all(self) -> np.ndarray:
        """Those of all seeds."""
        return np.concatenate(([self.searched], self.raced, self.unused))

    def drawn(self, rng: np.random.Generator) -> "Network":
        """Another network that has these accuracies as its distribution: ``unused`` are all of them."""
        searched, *raced = rng.choice(self.all, 1 + RaceRule(0.0).n_seeds)
        return Network(searched, np.array(raced), self.all)


@dataclass(frozen=True)
class Walk:
    """Whether the pick of a walk holds, and that of the naive walk (None without one); which it is, and the seeds raced."""

    held: bool | None
    naive: bool | None
    pick: int | None
    n_seeds: int


def main() -> None:
    """Prints a row a setting and bar."""
    networks = read_networks()
    report_noise([network.all for network in networks])
    print(f"{len(networks)} networks, {N_WALKS} walks of {N_CANDIDATES} networks a row")
    print("setting     bar  picks  of networks  held    naive pick held  seeds a walk")
    for bar in [bar for bar in BARS if bar >= LOWEST_BAR]:
        print(f"table      {bar:.2f}  {summarize(walks_on_table(networks, bar))}")
    for bar in BARS:
        print(f"simulated  {bar:.2f}  {summarize(walks_simulated(networks, bar))}")


def walks_on_table(networks: Sequence[Network], bar: float) -> list[Walk]:
    """Walks over the networks as they were trained."""
    rng = np.random.default_rng(0)
    return [walk(networks, bar, rng) for _ in range(N_WALKS)]


def walks_simulated(networks: Sequence[Network], bar: float) -> list[Walk]:
    """Walks of which each draws all seeds anew."""
    rng = np.random.default_rng(0)
    return [walk([n.drawn(rng) for n in networks], bar, rng) for _ in range(N_WALKS)]


def read_networks() -> list[Network]:
    """The published networks, from the one that looked worst to the one that looked best."""
    return [
        Network(first[N_UNUSED], np.array(raced), np.array(first[:N_UNUSED]))
        for _genome, _lr, _lr_decay, first, raced in json.loads(TABLE.read_text())
    ]


def report_noise(networks: Sequence[np.ndarray]) -> None:
    """Prints how accuracies differ from seed to seed; a seed below ``DEAD`` has died."""
    deviations = [a[a >= DEAD].std(ddof=1) for a in networks if (a >= DEAD).sum() > 1]
    low, middle, high = 100 * np.quantile(deviations, [0.1, 0.5, 0.9])
    with_dead = np.mean([(a < DEAD).any() for a in networks])
    dead = np.mean(np.concatenate(networks) < DEAD)
    print(
        f"noise from seed to seed: standard deviation {middle:.1f} points (10th to 90th percentile {low:.1f} to {high:.1f}); "
        f"{with_dead:.0%} of the networks died from at least one seed, {dead:.1%} of all trainings did"
    )


def walk(networks: Sequence[Network], bar: float, rng: np.random.Generator) -> Walk:
    """One walk, to the first network that is accepted."""
    naive, n_seeds, position = None, 0, 0
    for i in rng.choice(len(networks), N_CANDIDATES, replace=False):
        network = networks[i]
        if network.searched <= bar:
            continue
        holds = bool(network.unused.mean() > bar)
        naive = holds if naive is None else naive
        position += 1
        verdict, n = RaceRule(bar, position=position).decide(network.raced)
        assert verdict != "open", "the table holds too few seeds of this race"
        n_seeds += n
        if verdict == "accepted":
            return Walk(holds, naive, int(i), n_seeds)
    return Walk(None, naive, None, n_seeds)


def summarize(walks: Sequence[Walk]) -> str:
    """How many walks had a pick, and of how many networks; how often it and the naive pick held, and the seeds of a walk."""
    held = [w.held for w in walks if w.held is not None]
    naive = [w.naive for w in walks if w.naive is not None]
    picks = {w.pick for w in walks} - {None}
    seeds = np.mean([w.n_seeds for w in walks])
    share = f"{np.mean(held):.1%}" if held else "-"
    return f"{len(held):<5}  {len(picks):<11}  {share:<6}  {np.mean(naive):<15.1%}  {seeds:.0f}"


if __name__ == "__main__":
    main()
