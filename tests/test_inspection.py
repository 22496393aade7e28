from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nasopt.data import DataSource, class_names, load_test
from nasopt.inspection import inspect_chosen, inspect_model, to_pixels
from nasopt.model import load_network, predict_probabilities, read_metadata
from nasopt.records import Candidate, SeedResult, Verification


def chosen_of(path):
    from nasopt.genome import Genome

    genome = Genome.parse(read_metadata(path)["genome"])
    seeds = (
        SeedResult(0, 7, 0.1, 0.1, 0.1, dead=True),
        SeedResult(1, 1, 0.6, 0.6, 0.6, dead=False),
    )
    return Verification(1, Candidate(genome, 0.03, 0.05), 900, 0.2, seeds)


def test_mistakes_are_counted_and_the_worst_come_first(trained_file, small_npz):
    test = load_test(DataSource(small_npz)).split
    model = load_network(trained_file).model
    inspection = inspect_model(model, test, class_names("small.npz", 10), seed=3)
    probabilities = predict_probabilities(model, test.images)
    predicted = probabilities.argmax(1)
    assert inspection.n_images == 500
    assert inspection.n_wrong == np.sum(predicted != test.labels)
    assert inspection.confusion[3][5] == np.sum((test.labels == 3) & (predicted == 5))
    worst = inspection.wrong[0]
    assert worst.for_label == min(
        probabilities[i, test.labels[i]] for i in np.flatnonzero(predicted != test.labels)
    )
    assert np.array_equal(worst.pixels, test.images[worst.index, 0])
    assert [w.for_label for w in inspection.wrong] == sorted(w.for_label for w in inspection.wrong)


def test_only_the_weights_of_the_chosen_network_are_inspected(trained_file, small_npz):
    source, chosen = DataSource(small_npz), chosen_of(trained_file)
    fourth = replace(chosen, seeds=(replace(chosen.seeds[1], replicate=4),))
    assert inspect_chosen(trained_file, source, chosen).seed == 1
    assert inspect_chosen(trained_file, source, fourth).seed == 4  # by its number, not its value
    assert inspect_chosen(trained_file, source, None) is None
    assert inspect_chosen(Path("missing.safetensors"), source, chosen) is None
    layers = (replace(chosen.candidate.genome.layers[0], filters=9),)
    other = replace(chosen.candidate.genome, layers=layers + chosen.candidate.genome.layers[1:])
    for change in ({"genome": other}, {"lr": 0.02}, {"lr_decay": 0.1}):
        changed = replace(chosen, candidate=replace(chosen.candidate, **change))
        assert inspect_chosen(trained_file, source, changed) is None
    other_seed = replace(chosen, seeds=(replace(chosen.seeds[1], seed=3),))
    assert inspect_chosen(trained_file, source, other_seed) is None


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 5)), (2, (4, 5)), (3, (4, 5, 3))])
def test_images_become_pictures(channels, shape):
    image = np.zeros((channels, 4, 5), np.float32)
    image[0, 1, 2] = -2
    pixels = to_pixels(image)
    assert pixels.shape == shape
    assert (pixels.min(), pixels.max()) == (0, 255)
