"""All genomes of a space below a size, one by one and in a fixed order."""

from collections.abc import Iterator
from itertools import combinations, product

from nasopt.cost import count_conv_params, count_head_params
from nasopt.genome import N_REDUCTIONS, ConvLayer, Genome
from nasopt.space import SearchSpace


def enumerate_genomes(
    space: SearchSpace, below: int, max_depth: int, activations: tuple[str, ...]
) -> Iterator[Genome]:
    """The genomes of ``space`` with fewer than ``below`` parameters, within limits, the shallow ones first.

    One activation serves all layers of a genome, the final ones too: of a space of mixed activations this is a part.

    Args:
        space: its bounds on filters, kernels and depth hold, and its caps.
        below: the number of parameters that a genome stays below.
        max_depth: the most convolutions, reductions included.
        activations: those that a genome may have, each of them one that ``space`` has for convolutions and final layers.
    """
    for depth in range(space.depth[0], min(max_depth, space.depth[1]) + 1):
        for reductions in combinations(range(depth), N_REDUCTIONS):
            kinds = ["RC" if i in reductions else "NC" for i in range(depth)]
            for shape in _shapes(space, below, kinds):
                for activation in activations:
                    layers = tuple(
                        ConvLayer(kind, filters, kernel, activation)
                        for kind, (filters, kernel) in zip(kinds, shape, strict=True)
                    )
                    genome = Genome(layers, activation)
                    if space.why_too_large(genome) is None:
                        yield genome


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
