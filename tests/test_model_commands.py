"""The commands export and predict."""

import json

import numpy as np
import pytest
from PIL import Image

from nasopt.data import DataSource, load_test
from nasopt.model import read_metadata


def test_export_writes_and_says_what_it_costs(nasopt, trained_file, tmp_path):
    code, out, err = nasopt(
        *("export", trained_file, "--format", "c", "--format", "safetensors"),
        *("--output", tmp_path, "--name", "boots"),
    )
    assert (code, err) == (0, "")
    assert f"c           {tmp_path}/boots.h  " in out
    assert "checked against PyTorch: logits of 64 images within" in out
    assert "parameters  1,649" in out
    assert "flash       6,596 bytes of float weights" in out
    # maps: image 784, 3x28x28 2,352, 4x13x13 676, 8x6x6 288, ...; logits 10
    assert (
        f"RAM         {4 * (784 + 2352 + 676 + 10):,} bytes for image, scratch and logits" in out
    )
    assert f"{4 * (784 + 2352 + 10):,} where the image may be overwritten" in out
    assert "#define BOOTS_N_PARAMETERS 1649" in (tmp_path / "boots.h").read_text()
    assert read_metadata(tmp_path / "boots.safetensors") == read_metadata(trained_file)


def test_export_of_all_as_json(nasopt, trained_file, tmp_path):
    words = ("export", trained_file, "--format", "all", "--output", tmp_path, "--json")
    code, out, err = nasopt(*words)
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert [file["format"] for file in document["files"]] == ["c", "onnx", "torch", "safetensors"]
    for file in document["files"]:
        assert file["path"] == str(tmp_path / f"trained.{file['path'].rsplit('.', 1)[1]}")
        assert file["n_checked"] == 64
    assert document["flash_bytes"] == 4 * document["n_params"]
    assert document["macs"] == 3 * 4 * 784 + 4 * 27 * 169 + 8 * 36 * 36 + 8 * 64 + 640


def test_a_study_stands_for_its_weights_and_its_data(nasopt, study_file, small_npz, tmp_path):
    words = ("export", study_file, "--format", "c", "--output", tmp_path / "out")
    code, _, err = nasopt(*words)
    assert code == 2
    assert "there are no weights at" in err
    assert f"run 'nasopt verify {study_file}'" in err.replace("\n", " ")
    nasopt("search", study_file, "--quiet")
    nasopt("verify", study_file, "--quiet")
    code, _, _ = nasopt(*words)
    assert code == 0
    metadata = read_metadata(study_file.parent / "runs" / "tiny" / "model.safetensors")
    assert metadata["data"].startswith("small.npz ")
    assert metadata["pixels"] == "uint8"
    assert metadata["genome"] in (tmp_path / "out" / "model.h").read_text()
    code, out, _ = nasopt("predict", study_file, "--test", 3)
    assert code == 0
    assert "test 2" in out
    named = nasopt("predict", study_file, "--test", 3, "--data", small_npz)
    assert (named[0], named[1]) == (0, out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--format", "onx", "--output", "."],
            "error: unknown format 'onx'; did you mean 'onnx'?",
        ),
        (["--format", "c", "--output", ".", "--name", "9"], "error: a name for exports begins"),
        (
            ["--format", "c", "--output", "/dev/null/a"],
            "error: cannot write /dev/null/a/trained.h",
        ),
        (["--format", "c"], "Missing option '--output'"),
        (["--output", "."], "Missing option '--format'"),
    ],
)
def test_bad_options_are_one_clear_line_and_code_2(nasopt, trained_file, words, message):
    code, out, err = nasopt("export", trained_file, *words)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_predict_shows_classes_and_probabilities(nasopt, trained_file, tmp_path):
    test = load_test(DataSource()).split
    big = Image.fromarray(test.images[0, 0]).resize((56, 56))
    big.save(tmp_path / "boot[red].png")
    np.save(tmp_path / "same.npy", test.images[0, 0])
    code, out, err = nasopt("predict", trained_file, tmp_path / "boot[red].png")
    assert code == 0
    assert "boot[red].png" in out
    assert "resized from 56x56 to 28x28 (height x width)" in err
    code, out, err = nasopt("predict", trained_file, tmp_path / "same.npy", "--json")
    (document,) = json.loads(out)
    assert (code, err) == (0, "")
    probabilities = document["probabilities"]
    assert document["class_name"] == max(probabilities, key=probabilities.get)
    assert sum(probabilities.values()) == pytest.approx(1)
    assert document["notes"] == []


def test_predict_on_test_images_shows_the_truth(nasopt, trained_file):
    code, out, err = nasopt("predict", trained_file, "--test", 5)
    assert code == 0
    assert "true class" in out
    assert "of 5 right" in err
    code, out, _ = nasopt("predict", trained_file, "--test", 5, "--json")
    labels = load_test(DataSource()).split.labels[:5]
    assert [p["true_class"] for p in json.loads(out)] == labels.tolist()


def test_predict_without_images_says_what_to_give(nasopt, trained_file):
    code, out, err = nasopt("predict", trained_file)
    assert (code, out) == (2, "")
    assert "give at least one image, or --test N" in err
    code, _, err = nasopt("predict", trained_file, "boot.png", "--data", "absent.npz")
    assert (code, "give --test N too, or leave it out" in err) == (2, True)
