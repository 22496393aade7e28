"""Every format computes what PyTorch does; what cannot be made or checked is said."""

import json
import re

import numpy as np
import pytest
import torch

from nasopt.data import DataSource, load_test
from nasopt.errors import DataError, ExportError, SettingsError, UncheckedError
from nasopt.export import FORMATS, choose_formats, export_network
from nasopt.export.c_header import make_header
from nasopt.export.onnx_file import make_onnx, run_onnx
from nasopt.export.torch_program import make_program, run_program
from nasopt.model import load_network, pack_weights, read_metadata, run_model
from tests.networks import random_network

EVEN = "NC 4 4 gelu;RC 5 2 tanh;NC 3 6 sigmoid;RC 4 3 relu;FL swish;"


@pytest.fixture(scope="module")
def thousand():
    """The first 1,000 test images, as a network sees them."""
    return load_test(DataSource()).split.images[:1000].astype(np.float32) / np.float32(255)


@pytest.mark.parametrize(("make", "run"), [(make_onnx, run_onnx), (make_program, run_program)])
def test_a_trained_network_answers_a_thousand_images_as_pytorch_does(
    make, run, trained_file, thousand
):
    network = load_network(trained_file)
    expected = run_model(network.model, thousand)
    found = run(make(network), thousand)
    assert len(np.unique(expected.argmax(1))) > 5
    assert (found.argmax(1) == expected.argmax(1)).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("make", "run"), [(make_onnx, run_onnx), (make_program, run_program)])
def test_even_kernels_and_oblong_colour_images_survive(make, run):
    network = random_network(EVEN, "3x14x19", 4)
    content = make(network)
    for n_images in (1, 7):
        images = np.random.default_rng(n_images).random((n_images, 3, 14, 19), dtype=np.float32)
        np.testing.assert_allclose(
            run(content, images), run_model(network.model, images), rtol=0, atol=1e-4
        )


def test_files_of_all_formats_are_written_checked_and_carry_the_metadata(trained_file, tmp_path):
    done = export_network(trained_file, FORMATS, tmp_path / "new" / "folder")
    assert [file.path.name for file in done.files] == [
        "trained.h",
        "trained.onnx",
        "trained.pt2",
        "trained.safetensors",
    ]
    for file in done.files:
        assert file.path.stat().st_size == file.n_bytes
        assert (file.n_checked, file.unchecked) == (64, None)
        assert 0 <= file.max_difference <= 1e-4
    header, onnx_file, program, weights = (file.path for file in done.files)
    metadata = read_metadata(trained_file)
    assert read_metadata(weights) == metadata
    extra = {"nasopt.json": ""}
    torch.export.load(program, extra_files=extra)
    assert json.loads(extra["nasopt.json"]) == metadata
    import onnx

    assert {p.key: p.value for p in onnx.load(onnx_file).metadata_props} == metadata
    text = header.read_text()
    for key in ("genome", "lr", "test_accuracy", "data"):
        assert f"{key:<14} {metadata[key]}" in text
    assert {p.name for p in header.parent.iterdir()} == {f.path.name for f in done.files}


def test_what_differs_from_pytorch_is_not_written(trained_file, tmp_path, monkeypatch):
    monkeypatch.setitem(
        __import__("nasopt.export.c_functions", fromlist=["FORMULAS"]).FORMULAS,
        "relu",
        "x < 0.5f ? 0.5f : x",
    )
    with pytest.raises(
        ExportError, match=r"the export to c differs from PyTorch by .* nothing was"
    ):
        export_network(trained_file, ["safetensors", "c"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_compared(kind, trained_file, tmp_path, monkeypatch):
    def run_wrongly(_kind, _content, _name, network, images):
        return run_model(network.model, images) + 1

    monkeypatch.setattr("nasopt.export._run", run_wrongly)
    with pytest.raises(ExportError, match=f"the export to {kind} differs from PyTorch by 1 "):
        export_network(trained_file, [kind], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_compiler_the_header_is_written_and_said_to_be_unchecked(
    trained_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    (file,) = export_network(trained_file, ["c"], tmp_path).files
    assert (file.n_checked, file.max_difference) == (0, None)
    assert "no C compiler was found; install gcc" in file.unchecked
    assert file.path.read_bytes() == make_header(load_network(trained_file), "trained")


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_extra_is_named_with_how_to_install_it(
    package, trained_file, tmp_path, monkeypatch
):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(
        ExportError, match=r"onnx needs .*in a clone of nasopt: pip install '.\[onnx\]'"
    ):
        export_network(trained_file, ["onnx"], tmp_path)


def test_without_onnxruntime_a_file_is_said_to_be_unchecked(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(
        UncheckedError, match=r"onnxruntime is not .*in a clone of nasopt: pip install '.\[onnx\]'"
    ):
        run_onnx(b"", np.zeros((1, 1, 28, 28), np.float32))


def test_onnx_that_onnxruntime_cannot_run_is_refused():
    with pytest.raises(ExportError, match=r"onnxruntime .* cannot run the ONNX file .*update"):
        run_onnx(b"nonsense", np.zeros((1, 1, 28, 28), np.float32))


def test_formats_are_chosen_by_name():
    assert choose_formats(["onnx", "c", "onnx"]) == ("onnx", "c")
    assert choose_formats(["c", "all"]) == FORMATS
    with pytest.raises(SettingsError, match=r"unknown format 'onx'; did you mean 'onnx'\? known"):
        choose_formats(["onx"])


def test_large_images_are_checked_by_fewer(tmp_path):
    network = random_network("RC 2 3 relu;RC 2 3 relu;FL swish;", "3x700x500", 3)
    path = tmp_path / "large.safetensors"
    path.write_bytes(pack_weights(network.model, network.metadata))
    (file,) = export_network(path, ["c"], tmp_path).files
    assert file.n_checked == 2**26 // (4 * (3 * 700 * 500 + 2 * 349 * 249))


def test_a_file_whose_header_does_not_fit_its_weights_is_refused(trained_file, tmp_path):
    network = load_network(trained_file)
    path = tmp_path / "wrong.safetensors"
    for key, value in (("genome", "RC 1 1 relu;RC 1 1 relu;FL relu;"), ("n_classes", "ten")):
        path.write_bytes(pack_weights(network.model, dict(network.metadata) | {key: value}))
        with pytest.raises(DataError, match=r"the header of .* does not fit its weights"):
            export_network(path, ["c"], tmp_path)
    assert not re.search(r"\.h\b", " ".join(p.name for p in tmp_path.iterdir()))
