"""One network as a C99 header: weights and float inference, without allocation, state or dependencies."""

import re
from collections.abc import Iterator
from string import Template

import numpy as np
from numpy.typing import NDArray

from nasopt import __version__
from nasopt.cost import HIDDEN_UNITS, count_cost
from nasopt.errors import ExportError, SettingsError
from nasopt.export import c_functions
from nasopt.export.c_memory import MemoryPlan, plan_memory
from nasopt.model import SavedNetwork

VALUES_A_LINE = 8

HEAD = """\
/* $name.h: one trained network, written by nasopt $version.
 *
$facts
 *
 * It needs a C99 (or C++11) compiler$math. It allocates nothing and keeps no state.
 *
 * Input: ${NAME}_INPUT_SIZE floats, one image of $channels x $height x $width (channels x rows x columns): the rows of
 * the first channel from top to bottom, each from the left, then those of the next channel. $pixels
 * Output: ${NAME}_N_CLASSES logits; the largest is the class that the network answers.
 *
 *     static float image[${NAME}_INPUT_SIZE], scratch[${NAME}_SCRATCH_SIZE];
 *     float logits[${NAME}_N_CLASSES];
 *     ${name}_logits(image, scratch, logits);
 *     answer = ${name}_argmax(logits);
 *
 * Memory: $weight_bytes bytes of constants (flash), $image_bytes for the image, $scratch_bytes of scratch, $logit_bytes for the logits.
 * Where the image need not be kept, $arena_bytes bytes hold it and the scratch together; inference overwrites it then:
 *
 *     static float arena[${NAME}_ARENA_SIZE];
 *     float *image = arena + ${NAME}_ARENA_INPUT;
 *     ${name}_logits(image, arena, logits);
 */
#ifndef NASOPT_${NAME}_H
#define NASOPT_${NAME}_H

$includes

#define ${NAME}_GENOME "$genome"
#define ${NAME}_CHANNELS $channels
#define ${NAME}_HEIGHT $height
#define ${NAME}_WIDTH $width
#define ${NAME}_N_CLASSES $n_classes
#define ${NAME}_N_PARAMETERS $n_params

/* In floats. */
#define ${NAME}_INPUT_SIZE $input_size
#define ${NAME}_SCRATCH_SIZE $scratch_size
#define ${NAME}_ARENA_SIZE $arena_size
#define ${NAME}_ARENA_INPUT $arena_input
"""

INFERENCE = """\
/* Writes the logits of one image; scratch must not overlap it, unless it is the arena described above. */
static inline void ${name}_logits(const float *image, float *scratch, float *logits)
{
$calls
}

#endif
"""

PIXELS = {
    "uint8": "A value is the pixel, 0 to 255, divided by 255.",
    "float32": "Values are on the scale of the training images, which were stored as floats.",
}


def check_name(name: str) -> str:
    """``name``, if C identifiers and a file's name may begin with it.

    Raises:
        SettingsError: if not.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,39}", name):
        raise SettingsError(
            f"a name for exports begins with a letter, and has letters, digits and _, at most 40, not {name!r}; "
            "write for example --name my_model"
        )
    return name


def name_from(stem: str) -> str:
    """A valid name as near as possible to a file's ``stem``."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_")[:38]
    return name if re.match(r"[A-Za-z]", name) else f"n_{name}".rstrip("_")


def make_header(network: SavedNetwork, name: str) -> bytes:
    """The header, every name in it beginning with ``name`` (macros: in capitals).

    Raises:
        SettingsError: if C has no such names.
        ExportError: if a weight is not a finite number.
    """
    words = {"name": check_name(name), "NAME": name.upper()}
    plan = plan_memory(count_cost(network.genome, network.image, network.n_classes), network.image)
    parts = [
        _head(network, plan, words),
        *_arrays(network, name),
        *(Template(text).substitute(words) for text in _functions(network)),
        Template(INFERENCE).substitute(words, calls="\n".join(_calls(network, plan, name))),
    ]
    return "\n".join(parts).encode("ascii")


def _head(network: SavedNetwork, plan: MemoryPlan, words: dict[str, str]) -> str:
    uses_math = bool(_activations(network) & c_functions.NEEDS_MATH)
    n_params = sum(weight.size for weight in network.weights)
    facts = {"genome": str(network.genome), "n_params": str(n_params)}
    facts |= {key: value for key, value in network.metadata.items() if key not in facts}
    return Template(HEAD).substitute(
        words,
        version=__version__,
        facts="\n".join(f" * {_plain(key):<14} {_plain(value)}" for key, value in facts.items()),
        math=", and expf, tanhf or erff of its library (-lm)" if uses_math else "",
        includes="#include <math.h>\n#include <stdint.h>" if uses_math else "#include <stdint.h>",
        pixels=PIXELS.get(network.metadata.get("pixels", "uint8"), PIXELS["uint8"]),
        genome=network.genome,
        channels=network.image.channels,
        height=network.image.height,
        width=network.image.width,
        n_classes=network.n_classes,
        n_params=n_params,
        input_size=plan.image,
        scratch_size=plan.scratch,
        arena_size=plan.arena,
        arena_input=plan.arena_input,
        weight_bytes=f"{4 * n_params:,}",
        image_bytes=f"{4 * plan.image:,}",
        scratch_bytes=f"{4 * plan.scratch:,}",
        arena_bytes=f"{4 * plan.arena:,}",
        logit_bytes=f"{4 * plan.logits:,}",
    )


def _plain(text: str) -> str:
    """``text`` without anything that could end a comment or begin another, whatever a file's header says."""
    return re.sub(r"[^ -~]|[*?\\]", "_", text)


def _activations(network: SavedNetwork) -> set[str]:
    genome = network.genome
    return {genome.final_activation, *(layer.activation for layer in genome.layers)}


def _arrays(network: SavedNetwork, name: str) -> Iterator[str]:
    for i, weight in enumerate(network.weights):
        if not np.isfinite(weight).all():
            raise ExportError(
                "a weight of the network is NaN or infinite; its training diverged, train it again"
            )
        shape = " x ".join(map(str, weight.shape))
        kind = "bias" if i % 2 else "weight"
        yield f"static const float {name}_{kind}_{i // 2 + 1}[{weight.size}] = {{ /* {shape} */\n{_values(weight)}\n}};\n"


def _values(weight: NDArray[np.float32]) -> str:
    # numpy writes the shortest decimal that reads back as the same float.
    texts = [f"{value!s}f" for value in weight.ravel()]
    lines = range(0, len(texts), VALUES_A_LINE)
    return ",\n".join("    " + ", ".join(texts[i : i + VALUES_A_LINE]) for i in lines)


def _functions(network: SavedNetwork) -> Iterator[str]:
    yield from (c_functions.CONVOLUTION, c_functions.POOLING, c_functions.DENSE)
    for activation, formula in c_functions.FORMULAS.items():
        if activation in _activations(network):
            yield Template(c_functions.ACTIVATION).safe_substitute(
                activation=activation, formula=formula
            )
    yield c_functions.ARGMAX


def _calls(network: SavedNetwork, plan: MemoryPlan, name: str) -> Iterator[str]:
    genome, before, source = network.genome, network.image, "image"
    places = [f"scratch + {offset}" if offset else "scratch" for offset in plan.offsets]
    maps = genome.feature_maps(network.image)
    for i, (layer, after) in enumerate(zip(genome.layers, maps, strict=True)):
        pad = (layer.kernel - 1) // 2 if layer.kind == "NC" else 0
        yield f"    /* {layer}: {before} to {after} */"
        yield (
            f"    {name}_convolve({source}, {before.channels}, {before.height}, {before.width}, {name}_weight_{i + 1}, {name}_bias_{i + 1}, "
            f"{places[i]}, {after.channels}, {after.height}, {after.width}, {layer.kernel}, {layer.stride}, {pad});"
        )
        yield f"    {name}_{layer.activation}({places[i]}, {after.n_values});"
        before, source = after, places[i]
    yield f"    /* FL {genome.final_activation} */"
    yield f"    {name}_pool({source}, {before.channels}, {before.height * before.width}, {places[-2]});"
    steps = (
        (places[-2], before.channels, places[-1], HIDDEN_UNITS),
        (places[-1], HIDDEN_UNITS, "logits", network.n_classes),
    )
    for i, (origin, n_in, target, n_out) in enumerate(steps, start=len(maps) + 1):
        yield f"    {name}_dense({origin}, {n_in}, {name}_weight_{i}, {name}_bias_{i}, {target}, {n_out});"
        yield f"    {name}_{genome.final_activation}({target}, {n_out});"
