"""All genomes of a space below a size, one by one and in a fixed order."""

from collections.abc import Iterator
from itertools import combinations, groupby, product

from nasopt.cost import count_conv_params, count_head_params
from nasopt.genome import N_REDUCTIONS, ConvLayer, Genome
from nasopt.space import SearchSpace

SEPARATOR = "/"


def enumerate_genomes(
    space: SearchSpace, below: int, max_depth: int, activations: tuple[str, ...]
) -> Iterator[Genome]:
    """The genomes of ``space`` with fewer than ``below`` parameters, within limits, the shallow ones first.

    Of a space where every layer has an activation of its own this is a part.

    Args:
        space: its bounds on filters, kernels and depth hold, and its caps.
        below: the number of parameters that a genome stays below.
        max_depth: the most convolutions, reductions included.
        activations: what the layers of a genome may have, as :func:`assign_activations` reads it, no two the same.
    """
    for depth in range(space.depth[0], min(max_depth, space.depth[1]) + 1):
        assigned = [pair for each in activations for pair in assign_activations(each, depth)]
        for reductions in combinations(range(depth), N_REDUCTIONS):
            kinds = ["RC" if i in reductions else "NC" for i in range(depth)]
            for shape in _shapes(space, below, kinds):
                for names, final in assigned:
                    layers = tuple(
                        ConvLayer(kind, filters, kernel, name)
                        for kind, (filters, kernel), name in zip(kinds, shape, names, strict=True)
                    )
                    genome = Genome(layers, final)
                    if space.why_too_large(genome) is None:
                        yield genome


def assign_activations(activations: str, depth: int) -> Iterator[tuple[tuple[str, ...], str]]:
    """The activations of ``depth`` convolutions and of the final layers, in every way that ``activations`` allows.

    ``swish`` is that in all layers, ``tanh/gelu`` tanh in the convolutions and gelu in the final layers, ``tanh/swish/gelu``
    tanh in the first convolutions, from any one of the others on swish, and gelu in the final layers; and so on.
    """
    names, final = split_activations(activations)
    for turns in combinations(range(1, depth), len(names) - 1):
        ends = zip((0, *turns), (*turns, depth), names, strict=True)
        yield tuple(name for start, end, name in ends for _ in range(start, end)), final


def split_activations(activations: str) -> tuple[tuple[str, ...], str]:
    """The names of the convolutions in ``activations``, in their order and each once where it stands twice, and the final one."""
    *names, final = activations.split(SEPARATOR)
    return tuple(name for name, _ in groupby(names or [final])), final


def join_activations(names: tuple[str, ...], final: str) -> str:
    """The shortest text of which :func:`split_activations` makes these."""
    return final if names == (final,) else SEPARATOR.join((*names, final))


def describe_activations(activations: str) -> str:
    """What :func:`assign_activations` does with ``activations``, in words."""
    names, final = split_activations(activations)
    if names == (final,):
        return f"{final} in all layers"
    return f"{', then '.join(names)} in the convolutions and {final} in the final layers"


def _shapes(
    space: SearchSpace, below: int, kinds: list[str]
) -> Iterator[tuple[tuple[int, int], ...]]:
    """Filters and kernel of every layer, for layers of these kinds."""
    fewest, smallest = space.filters[0], space.kernel[0]
    # What a layer and the head cost at least: branches that cannot stay below are not followed.
    least_layer = count_conv_params(fewest, fewest, smallest)

    def extend(
        chosen: tuple[tuple[int, int], ...], n_in: int, spent: int, size: int
    ) -> Iterator[tuple[tuple[int, int], ...]]:
        i = len(chosen)
        if i == len(kinds):
            yield chosen
            return
        n_left = len(kinds) - i - 1
        largest = space.max_kernel(kinds[i], size, kinds[i:].count("RC"))
        for filters, kernel in product(
            range(fewest, space.filters[1] + 1), range(smallest, largest + 1)
        ):
            cost = spent + count_conv_params(n_in, filters, kernel)
            head = count_head_params(fewest if n_left else filters, space.n_classes)
            if cost + n_left * least_layer + head < below:
                layer = ConvLayer(kinds[i], filters, kernel, "relu")
                yield from extend(
                    (*chosen, (filters, kernel)), filters, cost, layer.output_size(size)
                )

    yield from extend((), space.image.channels, 0, min(space.image.height, space.image.width))
