"""Hypothesis strategies for the values of the package."""

from hypothesis import strategies as st

from nasopt.genome import ACTIVATIONS, MAX_KERNEL, ConvLayer, Genome, ImageShape

FASHION = ImageShape(1, 28, 28)


@st.composite
def genomes(draw, max_normal=4, max_filters=12, image=FASHION):
    """Genomes that fit ``image``."""
    n_normal = draw(st.integers(0, max_normal))
    kinds = draw(st.permutations(["RC", "RC"] + ["NC"] * n_normal))
    size = min(image.height, image.width)
    n_reductions = 0
    layers = []
    for kind in kinds:
        largest = MAX_KERNEL
        if kind == "RC":  # leave at least one pixel for the reduction that is still to come
            n_reductions += 1
            largest = min(MAX_KERNEL, size)
        layer = ConvLayer(
            kind,
            draw(st.integers(1, max_filters)),
            draw(st.integers(1, largest)),
            draw(st.sampled_from(ACTIVATIONS)),
        )
        layers.append(layer)
        size = layer.output_size(size)
    return Genome(tuple(layers), draw(st.sampled_from(ACTIVATIONS)))


def image_shapes(max_size=20):
    """Small image shapes, not necessarily square."""
    return st.builds(
        ImageShape, st.integers(1, 3), st.integers(4, max_size), st.integers(4, max_size)
    )
