import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from nasopt.cost import count_cost, count_macs, count_params
from nasopt.genome import Genome, ImageShape
from nasopt.model import build_model
from tests.strategies import FASHION, genomes, image_shapes


def cases():
    return image_shapes().flatmap(lambda image: st.tuples(st.just(image), fitting(image)))


def fitting(image):
    return genomes(image=image).filter(lambda g: fits(g, image))


def fits(genome, image):
    size = min(image.height, image.width)
    for layer in genome.layers:
        if layer.kind == "RC" and layer.kernel > size:
            return False
        size = layer.output_size(size)
    return True


@given(cases(), st.integers(2, 12))
@settings(max_examples=60)
def test_costs_are_those_of_the_network_that_is_built(case, n_classes):
    image, genome = case
    model = build_model(genome, image, n_classes)
    cost = count_cost(genome, image, n_classes)
    assert cost.n_params == sum(p.numel() for p in model.parameters())
    assert cost.n_params == count_params(genome, image.channels, n_classes)
    assert cost.macs == count_macs(genome, image, n_classes)
    shapes = []
    for module in model:
        module.register_forward_hook(lambda _module, _inputs, output: shapes.append(output.shape))
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *image))
    assert 2 * cost.macs == counter.get_total_flops()
    maps = [
        tuple(shape[1:])
        for shape, module in zip(shapes, model, strict=True)
        if isinstance(module, torch.nn.Conv2d)
    ]
    assert maps == [tuple(row.output) for row in cost.layers[: len(genome.layers)]]
    sizes = [torch.zeros(*image).numel()]
    for shape, module in zip(shapes, model, strict=True):
        if isinstance(module, torch.nn.Conv2d | torch.nn.AdaptiveAvgPool2d | torch.nn.Linear):
            sizes.append(shape[1:].numel())
    assert cost.peak_bytes == 4 * max(a + b for a, b in itertools.pairwise(sizes))


@pytest.mark.parametrize(
    ("text", "n_params"),
    [
        ("RC 1 1 relu;RC 1 1 relu;FL relu;", 782),
        ("NC 10 2 sigmoid;RC 10 3 relu;RC 10 3 relu;FL relu;", 50 + 910 + 910 + 704 + 650),
    ],
)
def test_known_sizes(text, n_params):
    assert count_params(Genome.parse(text), 1, 10) == n_params


def test_the_layers_add_up_to_the_total():
    cost = count_cost(Genome.parse("RC 4 3 relu;RC 8 3 relu;FL swish"), FASHION, 10)
    assert cost.n_params == sum(row.n_params for row in cost.layers)
    assert cost.macs == sum(row.macs for row in cost.layers)
    assert cost.layers[0].output == ImageShape(4, 13, 13)
    assert cost.layers[0].macs == 4 * 9 * 13 * 13
