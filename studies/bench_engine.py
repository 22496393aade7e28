"""Measures the native engine against PyTorch: time a step, kernels against the FMA peak, threads, memory.

Run it with ``make bench-engine`` or ``python studies/bench_engine.py [--quick] [--onednn]``. Both engines train the same
networks on one thread each, taking turns in one process; figures are medians of the turns, in processor
time, which counts no time when the machine works on something else.
"""

import argparse
import ctypes
import math
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nasopt.cost import count_cost, count_params
from nasopt.data import DataSource, Split, TrainVal, load_train_val
from nasopt.genome import Genome, ImageShape
from nasopt.training import Recipe, torch_engine, train
from nasopt.training.native_engine import NativeNetwork, chosen_isa, lanes_and_peak
from nasopt.training.randomness import initial_weights

GENOMES = (
    "RC 1 3 relu;RC 2 3 relu;FL relu;",
    "RC 2 3 swish;RC 3 3 swish;FL swish;",
    "NC 2 3 relu;RC 2 3 relu;RC 4 3 relu;FL relu;",
    "RC 3 3 gelu;RC 4 3 gelu;FL gelu;",
    "RC 2 5 tanh;RC 4 3 tanh;FL tanh;",
    "NC 2 2 sigmoid;RC 3 3 sigmoid;RC 5 3 sigmoid;FL sigmoid;",
    "RC 3 4 swish;NC 3 3 swish;RC 4 3 swish;FL swish;",
    "RC 4 3 relu;RC 8 3 relu;FL swish;",
    "RC 4 5 swish;RC 6 3 gelu;FL swish;",
    "RC 4 3 relu;NC 6 3 relu;RC 8 3 relu;FL swish;",
    "RC 8 3 swish;RC 12 3 swish;FL swish;",
    "NC 4 3 relu;RC 8 3 relu;RC 12 3 relu;FL relu;",
    "RC 8 5 gelu;RC 16 3 gelu;NC 8 3 gelu;FL gelu;",
    "NC 8 3 tanh;RC 8 3 tanh;RC 16 3 tanh;NC 8 1 tanh;FL tanh;",
    "RC 8 3 relu;NC 16 3 relu;RC 24 3 swish;FL swish;",
    "RC 16 3 gelu;RC 32 3 gelu;FL gelu;",
    "NC 8 5 relu;RC 16 5 relu;RC 32 3 relu;FL relu;",
    "RC 16 3 swish;NC 32 3 swish;RC 48 3 swish;FL swish;",
    "NC 16 3 sigmoid;RC 24 3 sigmoid;NC 32 3 sigmoid;RC 32 3 sigmoid;FL sigmoid;",
)
BANDS = ((0, 1500), (1500, 5000), (5000, 30_001))
IMAGE = ImageShape(1, 28, 28)
BATCH = 128
KERNELS = ("forward", "d input", "d weights")
WIDE = 8  # channels, from which a kernel's share of the peak is summed up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps and turns")
    parser.add_argument(
        "--onednn", action="store_true", help="PyTorch at its best, not as nasopt runs it"
    )
    parser.add_argument("--only", help="one genome; prints its row and its kernels")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch_engine.use_onednn = options.onednn
    data = load_train_val(DataSource())
    if options.memory:
        _print_memory(data, options.memory)
        return
    genomes = (options.only,) if options.only else GENOMES
    print(
        f"instruction set {chosen_isa()}; PyTorch with oneDNN {'on' if options.onednn else 'off'}; "
        f"batch {BATCH}; one thread an engine"
    )
    compare(data, genomes, n_turns=3 if options.quick else 5, n_steps=10 if options.quick else 20)
    compare_kernels(genomes, n_rounds=5 if options.quick else 15)
    if not options.only:
        compare_epochs(data, GENOMES[7])
        compare_threads(data)
        subprocess.run(
            [sys.executable, __file__, "--memory", GENOMES[-1]],
            check=True,
        )


def compare(data: TrainVal, genomes: tuple[str, ...], *, n_turns: int, n_steps: int) -> None:
    """Prints the table of milliseconds a step, and the geometric means of the bands of sizes."""
    part = _first(data, BATCH * n_steps, 1)
    more = _first(
        data, 8 * BATCH * n_steps, 1
    )  # the native engine needs more steps to be timed well
    print(f"\n{'params':>7} {'torch ms':>9} {'native ms':>9} {'ratio':>6}  genome")
    rows = []
    for text in genomes:
        genome = Genome.parse(text)
        torch_ms, native_ms = [], []
        for _ in range(n_turns):
            torch_ms.append(1e3 * _time_epoch(genome, part, "torch") / n_steps)
            native_ms.append(1e3 * _time_epoch(genome, more, "native") / (8 * n_steps))
        n_params = count_params(genome, IMAGE.channels, data.n_classes)
        ours, theirs = statistics.median(native_ms), statistics.median(torch_ms)
        rows.append((n_params, theirs / ours))
        print(
            f"{n_params:7,} {theirs:9.2f} {ours:9.3f} {theirs / ours:6.1f}  {genome}", flush=True
        )
    for low, high in BANDS:
        ratios = [ratio for n_params, ratio in rows if low <= n_params < high]
        if ratios:
            mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
            print(
                f"{low:6,} to {high - 1:6,} parameters: geometric mean {mean:.1f}x, "
                f"lowest {min(ratios):.1f}x, of {len(ratios)}"
            )


def compare_kernels(genomes: tuple[str, ...], *, n_rounds: int) -> None:
    """Prints the rate of every distinct convolution against the measured peak of multiply-adds.

    Both are the best of many turns, those of a kernel spread over ``n_rounds``: on a shared machine, a
    neighbour slows the kernels for seconds at a time.
    """
    isa = chosen_isa()
    lanes, peak = lanes_and_peak(isa)
    print(
        f"\nFMA peak {peak:.1f} GFLOP/s\n{'layer':26} {'kernel':9} {'GFLOP/s':>8} {'% of peak':>9}"
    )
    layers = _distinct_layers(genomes, lanes)
    rounds = [[_kernel_seconds(layer) for layer in layers] for _ in range(n_rounds)]
    shares: dict[str, list[float]] = {}
    for layer, *turns in zip(layers, *rounds, strict=True):
        rates = 1e-9 * layer.flops / np.min(turns, axis=0)
        for kernel, rate in zip(KERNELS, rates.tolist(), strict=True):
            if layer.index == 0 and kernel == "d input":
                continue
            print(f"{layer.name:26} {kernel:9} {rate:8.1f} {100 * rate / peak:8.0f}%")
            if layer.is_wide:
                shares.setdefault(kernel, []).append(100 * rate / peak)
    for kernel, values in shares.items():
        print(
            f"{kernel} at 8 or more channels: median {statistics.median(values):.0f} %, "
            f"lowest {min(values):.0f} % of peak, of {len(values)}"
        )


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution of a network, and the operations of one pass of a chunk through it."""

    network: NativeNetwork
    index: int
    name: str
    flops: int
    is_wide: bool


def _distinct_layers(genomes: tuple[str, ...], lanes: int) -> list[_Layer]:
    found: dict[str, _Layer] = {}
    for genome in map(Genome.parse, genomes):
        weights = initial_weights(genome, IMAGE.channels, 10, np.random.default_rng(0))
        network = NativeNetwork(genome, IMAGE, 10, weights)
        costs = count_cost(genome, IMAGE, 10).layers
        n_in, size = IMAGE.channels, IMAGE.height
        for index, layer in enumerate(genome.layers):
            name = f"{layer.kind} {n_in}->{layer.filters} k{layer.kernel} at {size}"
            is_wide = min(n_in, layer.filters) >= WIDE
            flops = 2 * costs[index].macs * lanes
            found.setdefault(name, _Layer(network, index, name, flops, is_wide))
            n_in, size = layer.filters, costs[index].output.height
    return list(found.values())


def _kernel_seconds(layer: _Layer) -> list[float]:
    """The least time of one pass through each of a layer's kernels."""
    repeats = max(1, int(2e8 / layer.flops))
    turns = [layer.network.time_layer(layer.index, repeats) for _ in range(5)]
    return (np.min(turns, axis=0) / repeats).tolist()


def compare_epochs(data: TrainVal, text: str) -> None:
    """Prints the time of a whole epoch, evaluation included, on all training images."""
    genome = Genome.parse(text)
    turns = [
        [_time_epoch(genome, data, engine) for engine in ("torch", "native")] for _ in range(3)
    ]
    theirs, ours = (statistics.median(times) for times in zip(*turns, strict=True))
    print(
        f"\nepoch of {len(data.train):,} images, {genome}: torch {theirs:.2f} s, native {ours:.3f} s, {theirs / ours:.1f}x"
    )


def compare_threads(data: TrainVal) -> None:
    """Prints trainings a minute on one and on two threads."""
    part = _first(data, 100 * BATCH, 1000)
    genomes = [Genome.parse(text) for text in GENOMES[:10]] * 3

    def per_minute(n_threads: int) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(lambda genome: _time_epoch(genome, part, "native"), genomes))
        return 60 * len(genomes) / (time.perf_counter() - began)

    turns = [(per_minute(1), per_minute(2)) for _ in range(5)]
    one, two = (statistics.median(rates) for rates in zip(*turns, strict=True))
    ratio = statistics.median(b / a for a, b in turns)
    print(
        f"trainings of 100 steps a minute: {one:.0f} on one thread, {two:.0f} on two, {ratio:.2f}x"
    )


def _print_memory(data: TrainVal, text: str) -> None:
    """Prints by how much the process grows at most while it trains; Linux with glibc only."""
    part = _first(data, 20 * BATCH, 1000)
    _time_epoch(Genome.parse(GENOMES[0]), part, "native")  # whatever the first training loads
    ctypes.CDLL(None).malloc_trim(0)  # pages freed earlier would hide what a training takes
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _status_mb("VmRSS")
    _time_epoch(Genome.parse(text), part, "native")
    grown = _status_mb("VmHWM") - before
    print(f"peak memory of one training beyond the data set: {grown:.1f} MB, {text}")


def _status_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _time_epoch(genome: Genome, data: TrainVal, engine: str) -> float:
    began = time.process_time()
    train(genome, Recipe(epochs=1), 0, data, engine=engine)
    return time.process_time() - began


def _first(data: TrainVal, n_train: int, n_val: int) -> TrainVal:
    def cut(split: Split, n: int) -> Split:
        return Split(split.images[:n], split.labels[:n])

    return TrainVal(cut(data.train, n_train), cut(data.val, n_val), data.n_classes)


if __name__ == "__main__":
    main()
