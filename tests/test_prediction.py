"""Images of all kinds as a network sees them, and what it says to them."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nasopt.data import DataSource, load_test
from nasopt.errors import DataError, SettingsError
from nasopt.genome import ImageShape
from nasopt.model import load_network, run_model
from nasopt.prediction import predict_files, predict_test
from nasopt.prediction.display import prediction_notes, prediction_table
from nasopt.prediction.images import read_image
from tests.networks import random_network
from tests.strategies import FASHION

COLOUR = ImageShape(3, 6, 8)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)


def save_png(path, array):
    Image.fromarray(array).save(path)
    return path


def test_a_png_of_the_right_kind_is_its_pixels_divided_by_255(pixels, tmp_path):
    image = read_image(save_png(tmp_path / "a.png", pixels), FASHION, pixels="uint8")
    np.testing.assert_array_equal(image.values[0], pixels.astype(np.float32) / np.float32(255))
    assert image.notes == ()
    inverted = read_image(tmp_path / "a.png", FASHION, pixels="uint8", invert=True)
    np.testing.assert_allclose(inverted.values, 1 - image.values)
    assert inverted.notes == ("inverted",)


@pytest.mark.parametrize(
    ("array_shape", "shape", "notes"),
    [
        ((28, 28, 3), FASHION, ["colours turned into grey"]),
        ((28, 28, 4), FASHION, ["transparency dropped", "colours turned into grey"]),
        ((56, 56), FASHION, ["resized from 56x56 to 28x28 (height x width)"]),
        (
            (20, 30),
            FASHION,
            ["resized from 20x30 to 28x28 (height x width), which changes its proportions"],
        ),
        ((6, 8), COLOUR, ["grey spread over the colours"]),
        ((6, 8, 3), COLOUR, []),
    ],
)
def test_what_is_changed_is_said(array_shape, shape, notes, tmp_path):
    array = np.random.default_rng(1).integers(0, 256, array_shape, dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    for path in (save_png(tmp_path / "a.png", array), tmp_path / "a.npy"):
        image = read_image(path, shape, pixels="uint8")
        assert image.values.shape == tuple(shape)
        assert image.values.dtype == np.float32
        assert 0 <= image.values.min() <= image.values.max() <= 1
        assert list(image.notes) == notes


def test_rows_stay_rows_and_channels_stay_channels(tmp_path):
    array = np.random.default_rng(2).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    expected = array.transpose(2, 0, 1) / np.float32(255)
    save_png(tmp_path / "a.png", array)
    np.save(tmp_path / "last.npy", array)
    np.save(tmp_path / "first.npy", array.transpose(2, 0, 1))
    np.save(tmp_path / "float.npy", expected)
    for name in ("a.png", "last.npy", "first.npy", "float.npy"):
        image = read_image(tmp_path / name, COLOUR, pixels="uint8")
        np.testing.assert_array_equal(image.values, np.float32(expected))


def test_a_jpeg_turned_by_its_camera_is_turned_back(tmp_path):
    array = np.zeros((28, 28), np.uint8)
    array[:14] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    Image.fromarray(array).save(tmp_path / "a.jpg", exif=exif)
    image = read_image(tmp_path / "a.jpg", FASHION, pixels="uint8")
    assert image.values[0, 20:].mean() > 0.9
    assert image.values[0, :8].mean() < 0.1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 28), np.float32), "has shape (3, 28), the network wants 1x28x28"),
        (np.full((28, 28), 300), "whole numbers outside of 0 to 255"),
        (np.full((28, 28), np.nan), "NaN or infinite"),
        (np.zeros((0, 28)), "does not hold one array of numbers"),
        (np.array(["a"]), "does not hold one array of numbers"),
        (np.zeros((2, 2, 28, 28), np.uint8), "has shape (2, 2, 28, 28)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(array, message, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError) as caught:
        read_image(tmp_path / "a.npy", FASHION, pixels="uint8")
    assert message in str(caught.value)


def test_files_that_are_no_images_are_refused(tmp_path, pixels):
    for name, message in (
        ("absent.png", "there is no image"),
        ("absent.npy", "there is no image"),
        ("text.png", "is not a readable picture .* give a PNG, a JPEG or an .npy"),
        ("text.npy", "is not a readable .npy file"),
    ):
        if name.startswith("text"):
            (tmp_path / name).write_text("hello")
        with pytest.raises(DataError, match=message):
            read_image(tmp_path / name, FASHION, pixels="uint8")
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="more than 8 bits a channel"):
        read_image(tmp_path / "deep.png", FASHION, pixels="uint8")
    with pytest.raises(DataError, match="the network wants 2 channels; give an .npy"):
        read_image(save_png(tmp_path / "a.png", pixels), ImageShape(2, 28, 28), pixels="uint8")


def test_a_network_trained_on_floats_takes_floats_only(tmp_path, pixels):
    np.save(tmp_path / "float.npy", np.full((28, 28), -3.5))
    image = read_image(tmp_path / "float.npy", FASHION, pixels="float32")
    assert (image.values == -3.5).all()
    assert image.notes == ()
    (note,) = read_image(tmp_path / "float.npy", FASHION, pixels="uint8").notes
    assert "outside of 0 to 1" in note
    np.save(tmp_path / "whole.npy", pixels)
    with pytest.raises(DataError, match="whole numbers, but the network was trained on frac"):
        read_image(tmp_path / "whole.npy", FASHION, pixels="float32")
    with pytest.raises(DataError, match="numbers of another scale than pixels"):
        read_image(save_png(tmp_path / "a.png", pixels), FASHION, pixels="float32")
    with pytest.raises(DataError, match="there is no image .*none.png"):
        read_image(tmp_path / "none.png", FASHION, pixels="float32")
    with pytest.raises(DataError, match="only pixels can be inverted"):
        read_image(tmp_path / "float.npy", FASHION, pixels="float32", invert=True)


def test_a_picture_of_a_test_image_gets_the_answer_of_the_test_image(trained_file, tmp_path):
    network = load_network(trained_file)
    test = load_test(DataSource()).split
    paths = [save_png(tmp_path / f"{i}.png", test.images[i, 0]) for i in range(12)]
    from_files = predict_files(network, paths)
    from_test = predict_test(network, 12, None)
    expected = run_model(network.model, test.images[:12].astype(np.float32) / np.float32(255))
    for i, (a, b) in enumerate(zip(from_files, from_test, strict=True)):
        assert a.probabilities == pytest.approx(b.probabilities)
        assert a.class_number == b.class_number == expected[i].argmax()
        assert sum(a.probabilities) == pytest.approx(1)
        assert (a.true_class, b.true_class) == (None, test.labels[i])
    assert from_files[0].class_names[9] == "Ankle boot"
    assert prediction_table(from_test).row_count == 12
    n_right = sum(p.class_number == p.true_class for p in from_test)
    assert prediction_notes(from_test) == [f"{n_right} of 12 right"]


def test_a_bright_background_is_never_inverted_but_said(trained_file, tmp_path):
    network = load_network(trained_file)
    array = 255 - load_test(DataSource()).split.images[0, 0]
    (plain,) = predict_files(network, [save_png(tmp_path / "a.png", array)])
    (inverted,) = predict_files(network, [tmp_path / "a.png"], invert=True)
    assert "has a bright background, Fashion-MNIST's is black: try --invert" in plain.notes
    assert inverted.notes == ("inverted",)
    assert plain.probabilities != inverted.probabilities
    (wrongly,) = predict_files(network, [save_png(tmp_path / "b.png", 255 - array)], invert=True)
    assert wrongly.notes[-1].endswith("black: leave --invert out")
    assert inverted.class_number == predict_test(network, 1, None)[0].class_number


def test_other_data_have_numbers_for_names_and_must_be_named(tmp_path, small_npz):
    network = random_network("RC 2 3 relu;RC 2 3 relu;FL swish;", FASHION, 10)
    with pytest.raises(DataError, match="data that its file does not name; say with --data"):
        predict_test(network, 1, None)
    (prediction,) = predict_test(network, 1, str(small_npz))
    assert prediction.class_names == tuple("0123456789")
    with pytest.raises(SettingsError, match="give at least one image, or --test N"):
        predict_files(network, [])


def test_the_same_data_may_have_another_name(tmp_path, small_npz):
    data = DataSource(small_npz)
    network = random_network("RC 2 3 relu;RC 2 3 relu;FL swish;", FASHION, 10)
    network = replace(network, metadata={**network.metadata, "data": data.identity()})
    renamed = shutil.copy(small_npz, tmp_path / "my own.npz")
    (prediction,) = predict_test(network, 1, str(renamed))
    assert prediction == predict_test(network, 1, str(small_npz))[0]


def test_test_images_must_be_the_networks_own(trained_file, small_npz):
    with pytest.raises(DataError, match=r"was trained on fashion-mnist, but these are small.npz"):
        predict_test(load_network(trained_file), 1, str(small_npz))
    network = random_network("RC 2 3 relu;RC 2 3 relu;FL swish;", "3x28x28", 10)
    with pytest.raises(DataError, match=r"wants images of 3x28x28, those of .* are 1x28x28"):
        predict_test(network, 1, str(small_npz))
