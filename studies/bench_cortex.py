"""Bytes and instructions of networks on emulated Cortex-M: ``python studies/bench_cortex.py [MODEL.safetensors ...]``.

Each network is exported as a C header, compiled with ``cortex-m/`` around it and run in QEMU on test images of
Fashion-MNIST; its logits are compared with PyTorch's. Without a file these are three networks of
earlier searches, trained here, each by its recipe and from one seed. QEMU counts instructions, it knows
no cycles: the figures compare networks and flags, and are no times.
"""

import argparse
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasopt.cost import count_cost
from nasopt.data import DataSource, load_test, load_train_val
from nasopt.export.c_header import make_header
from nasopt.export.c_memory import plan_memory
from nasopt.genome import Genome, ImageShape
from nasopt.model import SavedNetwork, build_model, load_network, run_model
from nasopt.training import Recipe, train

SOURCES = Path(__file__).parent / "cortex-m"
# Of docs/microcontroller.md: genome, lr, lr_decay.
NETWORKS = (
    ("NC 1 1 tanh;RC 1 2 tanh;RC 3 2 swish;NC 2 3 gelu;NC 3 3 gelu;FL gelu;", 0.02274, 0.121),
    ("RC 3 5 gelu;NC 3 3 swish;NC 3 2 swish;RC 3 2 swish;FL swish;", 0.02986, 0.1717),
    ("RC 2 4 relu;RC 8 5 swish;FL gelu;", 0.03207, 0.106),
)
N_IMAGES = 300
TIMEOUT_S = 300
COMPILER = ("arm-none-eabi-gcc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
# newlib-nano, and its stdio and exit through semihosting; the vectors are ours.
LINK = ("--specs=nano.specs", "--specs=rdimon.specs", "-nostartfiles", "-lm")
QEMU = (
    "qemu-system-arm",
    *("-display", "none", "-monitor", "none", "-serial", "none"),
    *("-semihosting-config", "enable=on,target=native"),
)


@dataclass(frozen=True, slots=True)
class Target:
    """A processor: QEMU's board, what the compiler is told of it, and the linker of its memory."""

    name: str
    machine: str
    flags: tuple[str, ...]
    script: Path = SOURCES / "mps2.ld"


HARD_FLOAT = ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard")
TARGETS = (
    Target("Cortex-M4F", "mps2-an386", (*HARD_FLOAT, "-Os")),
    Target("Cortex-M4F", "mps2-an386", (*HARD_FLOAT, "-O2")),
    # A Cortex-M3 runs the code of an M0 unchanged; QEMU's board with an M0 has 16 KB of RAM, and another clock.
    Target("Cortex-M0", "mps2-an385", ("-mcpu=cortex-m0", "-mfloat-abi=soft", "-Os")),
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of the network's part of a program.

    ``code`` and ``constants`` are the header's own; ``library`` is what these functions need of newlib
    and libgcc, code and constants, and ``variables`` the RAM that the library keeps for itself.
    """

    code: int
    constants: int
    library: int
    variables: int


@dataclass(frozen=True, slots=True)
class Run:
    """What the program said of ``n`` images: logits ``(n, classes)``, and ``(n,)`` of the rest."""

    logits: NDArray[np.float32]
    answers: NDArray[np.int32]
    instructions: NDArray[np.uint32]
    stack: NDArray[np.uint32]


def measure_sizes(network: SavedNetwork, target: Target) -> Sizes:
    """The bytes of the network's functions and weights, compiled alone and linked with what they need."""
    with tempfile.TemporaryDirectory() as name:
        folder = _write_header(network, Path(name))
        source, include = str(SOURCES / "network.c"), f"-I{folder}"
        flags = (*target.flags, "-ffunction-sections", include, source)
        _call(*COMPILER, *flags, "-c", "-o", str(folder / "network.o"))
        alone = ("--specs=nano.specs", "-nostartfiles", "-Wl,-e,infer,--gc-sections", "-lm")
        _call(*COMPILER, *flags, *alone, "-o", str(folder / "network.elf"))
        own, linked = _sections(folder / "network.o"), _sections(folder / "network.elf")
    assert own["data"] == own["bss"] == 0, "a header keeps no state"
    return Sizes(
        own["text"],
        own["rodata"],
        linked["text"] + linked["rodata"] - own["text"] - own["rodata"],
        linked["data"] + linked["bss"],
    )


def run_network(
    network: SavedNetwork,
    images: NDArray[np.float32],
    target: Target,
    *,
    infer: Path = SOURCES / "network.c",
) -> Run:
    """What the network, called by ``infer``, answers to ``images`` on the emulated board."""
    with tempfile.TemporaryDirectory() as name:
        folder = _write_header(network, Path(name))
        program = str(folder / "main.elf")
        sources = map(str, (SOURCES / "startup.c", infer, SOURCES / "measure.c"))
        script = ("-T", str(target.script))
        _call(*COMPILER, *target.flags, f"-I{folder}", *sources, *script, *LINK, "-o", program)
        emulator = (*QEMU, "-machine", target.machine, "-icount", "shift=0", "-kernel", program)
        output = _call(*emulator, standard_input=images.astype("<f4").tobytes())
    fields = [("logits", "<f4", (network.n_classes,)), ("answer", "<i4")]
    rows = np.frombuffer(output, [*fields, ("instructions", "<u4"), ("stack", "<u4")])
    return Run(rows["logits"], rows["answer"], rows["instructions"], rows["stack"])


def _write_header(network: SavedNetwork, folder: Path) -> Path:
    (folder / "network.h").write_bytes(make_header(network, "network"))
    return folder


def _call(*command: str, standard_input: bytes = b"") -> bytes:
    """What ``command`` writes to stdout; its errors go to ours."""
    return subprocess.run(
        command, input=standard_input, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT_S
    ).stdout


def _sections(path: Path) -> dict[str, int]:
    """Bytes of text, rodata, data and bss, their parts (``.text.infer``) added up."""
    sizes = dict.fromkeys(("text", "rodata", "data", "bss"), 0)
    for line in _call("arm-none-eabi-size", "-A", str(path)).decode().splitlines():
        words = line.split()
        kind = words[0].split(".")[1] if words and words[0].startswith(".") else ""
        if kind in sizes:
            sizes[kind] += int(words[1])
    return sizes


def train_network(text: str, lr: float, lr_decay: float) -> SavedNetwork:
    """That genome trained on Fashion-MNIST, from seed 1."""
    recipe = Recipe(lr=lr, lr_decay=lr_decay, patience=None)
    result = train(Genome.parse(text), recipe, 1, load_train_val(DataSource()))
    image = ImageShape(1, 28, 28)
    model = build_model(result.genome, image, 10, result.weights).eval()
    return SavedNetwork(result.genome, image, 10, model, {})


def print_rows(network: SavedNetwork, images: NDArray[np.float32]) -> None:
    """Prints a row of the table for each target."""
    cost = count_cost(network.genome, network.image, network.n_classes)
    plan = plan_memory(cost, network.image)
    expected = run_model(network.model, images)
    for target in TARGETS:
        sizes, run = measure_sizes(network, target), run_network(network, images, target)
        same = int((run.answers == expected.argmax(1)).sum())
        print(
            f"| {cost.n_params:,} | {cost.macs:,} | {target.name} `{target.flags[-1]}` | {sizes.constants:,} | {sizes.code:,} "
            f"| {sizes.library:,} | {plan.least_ram_bytes:,} + {sizes.variables:,} + {run.stack.max():,} "
            f"| {run.instructions.mean():,.0f} | {same} of {len(images)}, {np.abs(run.logits - expected).max():.1e} |"
        )


def main(paths: Sequence[Path]) -> None:
    """Prints the table of the networks in ``paths``, or of :data:`NETWORKS`."""
    for tool in (COMPILER[0], QEMU[0]):
        print(_call(tool, "--version").decode().splitlines()[0])
    print(
        "\n| parameters | MACs | compiled for | weights | code | library | RAM: arena and logits + library + stack "
        "| instructions an image | same classes, largest difference of a logit |\n|---|---|---|---|---|---|---|---|---|"
    )
    images = load_test(DataSource()).split.images[:N_IMAGES].astype(np.float32) / np.float32(255)
    networks = [load_network(path) for path in paths]
    for network in networks or [train_network(*row) for row in NETWORKS]:
        print_rows(network, images)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL", help="weights of nasopt")
    main(parser.parse_args().models)
