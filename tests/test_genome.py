import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasopt.errors import GenomeError
from nasopt.genome import ConvLayer, Genome, ImageShape
from tests.strategies import genomes

EXAMPLE = "NC 10 2 sigmoid;RC 10 3 relu;RC 10 3 relu;FL relu;"


@given(genomes())
def test_parsing_what_was_printed_gives_the_same(genome):
    assert Genome.parse(str(genome)) == genome


@given(genomes(), st.sampled_from([" ", "  ", "\t", "\n "]))
def test_extra_spaces_and_a_missing_last_semicolon_are_accepted(genome, space):
    text = str(genome).rstrip(";").replace(" ", space).replace(";", f"{space};{space}")
    assert str(Genome.parse(space + text + space)) == str(genome)


def test_an_example_is_read_field_by_field():
    genome = Genome.parse(EXAMPLE)
    assert genome.layers[0] == ConvLayer("NC", 10, 2, "sigmoid")
    assert [layer.kind for layer in genome.layers] == ["NC", "RC", "RC"]
    assert genome.final_activation == "relu"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"empty; write one like"),
        (" ; ", r"part 1 is empty"),
        ("RC 1 1 relu;;RC 1 1 relu;FL relu", r"part 2 is empty; remove the extra ';'"),
        (
            "XC 1 1 relu;RC 1 1 relu;FL relu",
            r"part 1 \('XC 1 1 relu'\): unknown layer type 'XC'; did you mean '(NC|RC)'\?",
        ),
        ("nc 1 1 relu;RC 1 1 relu;RC 1 1 relu;FL relu", r"part 1 .*did you mean 'NC'\?"),
        (
            "RC 1 1 relu;RC 1 1 rleu;FL relu",
            r"part 2 .*unknown activation 'rleu'; did you mean 'relu'\? known are",
        ),
        (
            "RC 1 1 relu;RC 1 1 relu;FL swihs",
            r"part 3 \('FL swihs'\): unknown activation 'swihs'; did you mean 'swish'",
        ),
        ("RC 0 1 relu;RC 1 1 relu;FL relu", r"part 1 .*filters must be at least 1, not 0"),
        ("RC -3 1 relu;RC 1 1 relu;FL relu", r"part 1 .*filters must be at least 1, not -3"),
        ("RC x 1 relu;RC 1 1 relu;FL relu", r"part 1 .*filters must be a whole number, not 'x'"),
        (
            "RC 1 2.5 relu;RC 1 1 relu;FL relu",
            r"part 1 .*kernel must be a whole number, not '2.5'",
        ),
        ("RC 1 8 relu;RC 1 1 relu;FL relu", r"part 1 .*kernel must be from 1 to 7, not 8"),
        ("RC 1 0 relu;RC 1 1 relu;FL relu", r"part 1 .*kernel must be from 1 to 7, not 0"),
        ("RC 1 relu;RC 1 1 relu;FL relu", r"part 1 .*RC takes 3 values .*not 2"),
        ("RC 1 1 relu tanh;RC 1 1 relu;FL relu", r"part 1 .*RC takes 3 values .*not 4"),
        ("RC 1 1 relu;FL relu", r"exactly 2 RC layers, this one has 1; add an RC"),
        (
            "RC 1 1 relu;RC 1 1 relu;RC 1 1 relu;FL relu",
            r"exactly 2 RC layers, this one has 3; turn the extra",
        ),
        ("FL relu", r"exactly 2 RC layers, this one has 0"),
        (
            "RC 1 1 relu;RC 1 1 relu",
            r"part 2 .*the last part must be FL .*add for example 'FL relu;'",
        ),
        (
            "RC 1 1 relu;FL relu;RC 1 1 relu",
            r"part 2 \('FL relu'\): FL must be the last part, but 1 follow",
        ),
        ("RC 1 1 relu;RC 1 1 relu;FL relu;FL relu", r"part 3 .*FL must be the last part"),
        ("RC 1 1 relu;RC 1 1 relu;FL", r"part 3 \('FL'\): FL takes one activation"),
        ("RC ١ 1 relu;RC 1 1 relu;FL relu", r"filters must be a whole number"),
    ],
)
def test_errors_name_the_part_and_how_to_mend_it(text, message):
    with pytest.raises(GenomeError, match=message):
        Genome.parse(text)


@given(st.text(max_size=40))
def test_any_text_is_a_genome_or_a_genome_error(text):
    try:
        genome = Genome.parse(text)
    except GenomeError:
        return
    assert Genome.parse(str(genome)) == genome


def test_a_reduction_that_does_not_fit_names_the_feature_map_that_it_met():
    genome = Genome.parse("RC 1 7 relu;NC 1 7 relu;RC 1 4 relu;FL relu")
    with pytest.raises(
        GenomeError, match=r"part 3 \('RC 1 4 relu'\): the kernel 4 .* a 1x1 feature map"
    ):
        genome.feature_maps(ImageShape(1, 8, 8))
    assert genome.feature_maps(ImageShape(1, 28, 28))[-1] == ImageShape(1, 4, 4)


def test_image_shapes_are_parsed():
    assert ImageShape.parse("3x32x16") == ImageShape(3, 32, 16)
    for text in ("28x28", "1x0x3", "axbxc", "", "9" * 5000 + "x1x1"):
        with pytest.raises(GenomeError, match="like 1x28x28"):
            ImageShape.parse(text)
