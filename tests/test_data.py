import gzip
import hashlib
import os
import re
import shutil
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import BadStatusLine
from pathlib import Path

import numpy as np
import pytest

from nasopt import evaluation, search
from nasopt.data import DataSource, Split, Test, TrainVal, fashion_mnist, load_test, load_train_val
from nasopt.data.npz import read_npz
from nasopt.errors import DataError, OutputError
from nasopt.genome import ImageShape
from nasopt.reference import judge

NAMES = tuple(fashion_mnist.CHECKSUMS)


def test_fashion_mnist_is_split_once_and_stratified(fashion):
    assert (len(fashion.train), len(fashion.val)) == (50_000, 10_000)
    assert np.bincount(fashion.train.labels).tolist() == [5000] * 10
    assert np.bincount(fashion.val.labels).tolist() == [1000] * 10
    assert fashion.shape == ImageShape(1, 28, 28)
    assert len(fashion.all()) == 60_000
    test = load_test(DataSource()).split
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert DataSource().describe() == (fashion.shape, fashion.n_classes)


def test_the_split_is_the_same_for_ever(fashion):
    # Another split would make accuracies of studies incomparable: the sum was written down once.
    content = fashion.val.images.tobytes() + fashion.val.labels.tobytes()
    expected = "8d19f420003a5cf4d0a8dfc8e3e6017179503ed09e0cdc5840fb32791010ef72"
    assert hashlib.sha256(content).hexdigest() == expected


def test_no_part_of_a_search_can_name_test_data():
    files = [*Path(search.__path__[0]).glob("*.py"), Path(evaluation.__file__)]
    assert len(files) > 8
    for file in files:
        assert not re.search(r"\b(load_test|Test|final_data)\b", file.read_text()), file


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no system folder, no network."""
    monkeypatch.setenv(fashion_mnist.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "nowhere")

    def no_network(*_args, **_options):
        raise RuntimeError("Error downloading train-images: Name or service not known")

    monkeypatch.setattr(fashion_mnist, "FashionMNIST", no_network)
    monkeypatch.setenv("PATH", "")
    return tmp_path / "cache"


def test_threads_load_the_data_once(monkeypatch, raw_files):
    calls = []

    def read(folder):
        calls.append(folder)
        time.sleep(0.05)
        return read_fashion_mnist(folder)

    read_fashion_mnist = fashion_mnist.read_fashion_mnist
    monkeypatch.setattr(fashion_mnist, "read_fashion_mnist", read)
    source = DataSource(raw_files)
    with ThreadPoolExecutor(4) as executor:
        loaded = list(executor.map(load_train_val, [source] * 4))
    assert calls == [raw_files]
    assert all(data is loaded[0] for data in loaded)


def test_data_that_were_pinned_are_no_others(small_npz, tmp_path):
    path = Path(shutil.copy(small_npz, tmp_path / "own.npz"))
    pinned = DataSource(path).pinned()
    assert pinned.identity() == DataSource(path).identity()
    assert DataSource(tmp_path / "absent.npz").pinned() == DataSource(tmp_path / "absent.npz")
    assert DataSource().pinned() == DataSource()
    with np.load(small_npz) as arrays:
        other = dict(arrays) | {"y_train": np.roll(arrays["y_train"], 1)}
    elsewhere = tmp_path / "elsewhere.npz"  # as if on another machine
    np.savez(elsewhere, **other)
    load_train_val(DataSource(elsewhere))
    with pytest.raises(DataError, match="holds other data here than where the study is driven"):
        load_train_val(replace(pinned, path=elsewhere))


def test_the_tasks_own_verdict_reads_the_folder_that_the_variable_names(monkeypatch):
    monkeypatch.setenv("NASOPT_DATA", "/nowhere")
    with pytest.raises(DataError, match="there is no folder /nowhere"):
        judge("RC 1 1 relu;RC 1 1 relu;FL relu")


@pytest.fixture(scope="module")
def raw_files():
    load_train_val(DataSource())
    return fashion_mnist._raw_folder(fashion_mnist.cache_folder())


@pytest.fixture(scope="module")
def packed_files(raw_files, tmp_path_factory):
    """A folder with the four files as they are handed out."""
    folder = tmp_path_factory.mktemp("packed")
    for name in NAMES:
        content = (raw_files / name).read_bytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=1))
    return folder


def test_when_nothing_is_found_the_error_lists_what_was_tried(cache):
    with pytest.raises(DataError) as caught:
        fashion_mnist.read_fashion_mnist()
    message = str(caught.value)
    for tried in ("the cache", "nowhere", "torchvision's download", "Debian's package", "apt-get"):
        assert tried in message
    assert "--data or NASOPT_DATA" in message


def test_a_server_that_answers_nonsense_is_one_more_way_that_failed(cache, monkeypatch):
    def nonsense(*_args, **_options):
        raise BadStatusLine("garbage")

    monkeypatch.setattr(fashion_mnist, "FashionMNIST", nonsense)
    with pytest.raises(DataError, match=r"(?s)torchvision's download: garbage.*Debian's package"):
        fashion_mnist.read_fashion_mnist()


@pytest.mark.parametrize("place", ["", "raw", "FashionMNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_named_folder_is_used_packed_or_not(
    raw_files, packed_files, cache, tmp_path, monkeypatch, place, packed
):
    folder = tmp_path / "mine" / place
    folder.mkdir(parents=True)
    for name in NAMES:
        if packed:
            shutil.copy(packed_files / f"{name}.gz", folder)
        else:
            shutil.copy(raw_files / name, folder)
    monkeypatch.undo()
    monkeypatch.setenv(fashion_mnist.CACHE_VARIABLE, str(cache))
    train, test = fashion_mnist.read_fashion_mnist(tmp_path / "mine")
    assert (len(train), len(test)) == (60_000, 10_000)
    # From now on the cache has it.
    fashion_mnist._check_cache(cache)


def test_a_wrong_folder_is_an_error_at_once(cache, tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        fashion_mnist.read_fashion_mnist(tmp_path / "absent")
    with pytest.raises(DataError, match="does not hold train-images-idx3-ubyte"):
        fashion_mnist.read_fashion_mnist(tmp_path)


def test_truncated_and_changed_files_are_named(packed_files, cache, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(packed_files, folder)
    labels = folder / "t10k-labels-idx1-ubyte.gz"
    intact = labels.read_bytes()
    labels.write_bytes(intact[:-100])
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz is truncated or unreadable"):
        fashion_mnist.read_fashion_mnist(folder)
    changed = bytearray(gzip.decompress(intact))
    changed[100] ^= 1
    labels.write_bytes(gzip.compress(bytes(changed)))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz is not the original"):
        fashion_mnist.read_fashion_mnist(folder)


def test_a_corrupt_cache_is_replaced(packed_files, cache, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv(fashion_mnist.CACHE_VARIABLE, str(cache))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", packed_files)
    fashion_mnist.read_fashion_mnist()
    spoilt = fashion_mnist._raw_folder(cache) / NAMES[1]
    spoilt.write_bytes(b"short")
    train, _ = fashion_mnist.read_fashion_mnist()
    assert len(train) == 60_000
    assert spoilt.stat().st_size == 60_008


def test_a_cache_that_cannot_be_written_says_so(packed_files, cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(
        OutputError, match="cannot write .*train-images.*; set NASOPT_CACHE to a folder"
    ):
        fashion_mnist.read_fashion_mnist(packed_files)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="not a Debian machine")
def test_debians_package_is_unpacked_without_root(packed_files, cache, tmp_path, monkeypatch):
    monkeypatch.undo()
    package, tools = tmp_path / "package", tmp_path / "tools"
    shutil.copytree(packed_files, package / fashion_mnist.SYSTEM_FOLDER.relative_to("/"))
    (package / "DEBIAN").mkdir()
    (package / "DEBIAN" / "control").write_text(
        f"Package: {fashion_mnist.DEBIAN_PACKAGE}\nVersion: 1\nArchitecture: all\n"
        "Maintainer: a <a@b>\nDescription: a\n"
    )
    built = tmp_path / "built.deb"
    subprocess.run(["dpkg-deb", "-Znone", "--build", package, built], check=True)
    tools.mkdir()
    apt_get = tools / "apt-get"  # downloads from nowhere
    apt_get.write_text(
        f'#!/bin/sh\ncase "$*" in *download*) cp {built} ./{fashion_mnist.DEBIAN_PACKAGE}_1_all.deb;; esac\n'
    )
    apt_get.chmod(0o755)
    monkeypatch.setenv(fashion_mnist.CACHE_VARIABLE, str(cache))
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    fashion_mnist._fetch_from_debian(cache)
    fashion_mnist._check_cache(cache)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="not a Debian machine")
def test_debians_package_is_fetched_without_root(cache, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv(fashion_mnist.CACHE_VARIABLE, str(cache))
    fashion_mnist._fetch_from_debian(cache)
    fashion_mnist._check_cache(cache)


def test_sources_are_parsed(tmp_path, monkeypatch):
    assert DataSource.parse("fashion-mnist") == DataSource()
    monkeypatch.setenv("NASOPT_DATA", str(tmp_path))
    assert DataSource.parse("fashion-mnist").path == tmp_path
    monkeypatch.setenv("NASOPT_DATA", "/nowhere")
    with pytest.raises(DataError, match="no folder /nowhere, which NASOPT_DATA names"):
        DataSource.parse("fashion-mnist")
    assert DataSource.parse(str(tmp_path)).path == tmp_path
    assert DataSource.parse("x/y.npz").is_npz
    with pytest.raises(
        DataError, match="unknown data source 'mnist'; give 'fashion-mnist', a folder"
    ):
        DataSource.parse("mnist")


def write(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (60, 8, 9, 3), dtype=np.uint8),
        "y_train": np.arange(60) % 4,
        "x_test": rng.integers(0, 256, (20, 8, 9, 3), dtype=np.uint8),
        "y_test": np.arange(20) % 4,
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_own_data_of_any_shape(tmp_path):
    path = write(tmp_path / "own.npz")
    data = load_train_val(DataSource(path))
    assert data.shape == ImageShape(3, 8, 9)
    assert data.n_classes == 4
    assert (len(data.train), len(data.val)) == (52, 8)
    assert DataSource(path).describe() == (ImageShape(3, 8, 9), 4)
    assert (
        DataSource(path).identity()
        != DataSource(write(tmp_path / "b.npz", y_test=np.zeros(20, int))).identity()
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((8, 9), (1, 8, 9)),
        ((8, 9, 1), (1, 8, 9)),
        ((3, 8, 9), (3, 8, 9)),
        ((8, 8, 3), (3, 8, 8)),
        ((8, 8, 5), (5, 8, 8)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
def test_axes_and_types_of_own_images(tmp_path, shape, expected, dtype):
    path = write(
        tmp_path / "own.npz",
        x_train=np.ones((60, *shape), dtype),
        x_test=np.ones((20, *shape), dtype),
    )
    train, _ = read_npz(path)
    assert train.shape == expected
    assert train.images.dtype == (np.float32 if dtype is np.float64 else np.uint8)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("scale", [np.uint8, lambda x: x / 7 - 3])
def test_pixels_keep_their_place_and_their_scale(tmp_path, channels_last, scale):
    rng = np.random.default_rng(0)
    train, test = (scale(rng.integers(0, 256, (n, 3, 8, 9))) for n in (60, 20))
    stored = [np.moveaxis(x, 1, -1) if channels_last else x for x in (train, test)]
    path = write(tmp_path / "own.npz", x_train=stored[0], x_test=stored[1])
    for split, expected in zip(read_npz(path), (train, test), strict=True):
        np.testing.assert_array_equal(split.images, expected.astype(split.images.dtype))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, r"lacks y_test; save it with numpy.savez"),
        ({"x_train": np.zeros((60, 4), np.uint8)}, r"x_train has shape \(60, 4\); expected"),
        (
            {"x_train": np.full((60, 8, 9, 3), 256)},
            r"x_train holds whole numbers from 256 to 256; scale",
        ),
        ({"x_train": np.full((60, 8, 9, 3), np.nan)}, r"NaN or infinite"),
        ({"x_train": np.full((60, 8, 9, 3), "a")}, r"x_train holds <U1; expected numbers"),
        (
            {"x_test": np.zeros((20, 9, 9, 3), np.uint8)},
            r"x_train has images of 3x8x9, x_test of 3x9x9",
        ),
        ({"y_train": np.zeros((60, 4), int)}, r"not one-hot"),
        ({"y_train": np.zeros(60)}, r"y_train holds float64; expected whole class numbers"),
        ({"y_train": np.arange(60) % 4 - 1}, r"labels must count from 0, found -1"),
        ({"y_train": np.zeros(50, int)}, r"x_train and y_train: 60 images need as many labels"),
        ({"y_test": np.full(20, 9)}, r"y_test has label 9, y_train only up to 3"),
        (
            {"x_test": np.zeros((0, 8, 9, 3), np.uint8), "y_test": np.zeros(0, int)},
            r"x_test and y_test: .*no images",
        ),
        (
            {"x_train": np.zeros((60, 8, 9, 3))},
            r"x_train is stored as float64 and x_test as uint8",
        ),
        (
            {
                "x_train": np.zeros((60, 8, 0, 3), np.uint8),
                "x_test": np.zeros((20, 8, 0, 3), np.uint8),
            },
            r"images have the shape 3x8x0 .*, without a pixel",
        ),
        (
            {"y_train": np.zeros(60, int), "y_test": np.zeros(20, int)},
            r"all labels of y_train are the same",
        ),
        (
            {"y_train": np.r_[np.zeros(58, int), 1, 1], "y_test": np.zeros(20, int)},
            r"class 1 has only 2 training images",
        ),
    ],
)
def test_unusable_own_data_are_refused(tmp_path, changes, message):
    path = write(tmp_path / "own.npz", **changes)
    with pytest.raises(DataError, match=message):
        load_train_val(DataSource(path))


def test_files_that_are_no_npz(tmp_path):
    with pytest.raises(DataError, match="there is no data file"):
        read_npz(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match="not a readable .npz"):
        read_npz(tmp_path / "text.npz")
    with zipfile.ZipFile(tmp_path / "header.npz", "w") as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': (       ")
    with pytest.raises(DataError, match="not a readable .npz"):
        read_npz(tmp_path / "header.npz")
    path = write(tmp_path / "cut.npz")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="not a readable .npz"):
        read_npz(path)


def test_splits_must_fit_together():
    images = np.zeros((4, 1, 2, 2), np.uint8)
    split = Split(images, np.arange(4))
    with pytest.raises(DataError, match="a training label is 3, but there are 2 classes"):
        TrainVal(split, split, 2)
    with pytest.raises(DataError, match="training images are 1x2x2, validation images 1x3x3"):
        TrainVal(split, Split(np.zeros((1, 1, 3, 3), np.uint8), np.zeros(1, np.int64)), 4)
    with pytest.raises(DataError, match="training images are uint8, validation images float32"):
        TrainVal(split, Split(images.astype(np.float32), np.arange(4)), 4)
    with pytest.raises(DataError, match="must be uint8 or float32"):
        Split(np.zeros((4, 1, 2, 2)), np.arange(4))
    with pytest.raises(DataError, match="have the shape 0x2x2 .* without a pixel"):
        Split(np.zeros((4, 0, 2, 2), np.uint8), np.arange(4))
    assert not isinstance(Test(split), Split)
