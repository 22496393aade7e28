"""The C header on an emulated Cortex-M: the programs of ``studies/cortex-m/``, and the page that shows them."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_cortex import SOURCES, TARGETS, measure_sizes, run_network

from nasopt.data import DataSource, load_test
from nasopt.model import load_network, run_model
from tests.networks import random_network

pytestmark = [pytest.mark.slow, pytest.mark.cortex]

PAGE = Path(__file__).parents[1] / "docs" / "microcontroller.md"

each_target = pytest.mark.parametrize(
    "target", TARGETS, ids=lambda target: target.name + target.flags[-1]
)


@pytest.fixture(scope="module", autouse=True)
def tools():
    packages = "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        assert shutil.which(tool), f"the Cortex-M tests need {tool}: apt-get install {packages}"


@pytest.fixture(scope="module")
def test_images():
    return load_test(DataSource()).split.images[:300]


def as_seen(images):
    return images.astype(np.float32) / np.float32(255)


@each_target
def test_a_trained_network_answers_on_a_cortex_as_in_pytorch(target, trained_file, test_images):
    network = load_network(trained_file)
    expected = run_model(network.model, as_seen(test_images))
    run = run_network(network, as_seen(test_images), target)
    assert len(np.unique(expected.argmax(1))) > 5
    assert (run.answers == expected.argmax(1)).all()
    np.testing.assert_allclose(run.logits, expected, rtol=0, atol=1e-4)
    assert 0 < run.stack.max() <= 512
    again = run_network(network, as_seen(test_images[:5]), target)
    assert (again.logits == run.logits[:5]).all()
    assert np.abs(again.instructions.astype(int) - run.instructions[:5]).max() <= 40  # a tick


@each_target
def test_the_header_takes_its_weights_and_less_than_2_kb_of_code(target, trained_file):
    network = load_network(trained_file)
    sizes = measure_sizes(network, target)
    assert sizes.constants == 4 * sum(weight.size for weight in network.weights)
    assert 500 < sizes.code < 2048


def test_another_board_takes_two_lines_of_the_linker_script(tmp_path):
    """The micro:bit has a real Cortex-M0, which faults on an unaligned access, and 16 KB of RAM."""
    text = (SOURCES / "mps2.ld").read_text()
    text = text.replace("0x00000000, LENGTH = 4M", "0x00000000, LENGTH = 256K")
    text = text.replace("0x20000000, LENGTH = 4M", "0x20000000, LENGTH = 16K")
    (tmp_path / "microbit.ld").write_text(text)
    microbit = replace(TARGETS[-1], machine="microbit", script=tmp_path / "microbit.ld")
    genome = "RC 3 5 gelu;NC 3 3 swish;NC 3 2 tanh;RC 3 2 sigmoid;FL swish;"
    network = random_network(genome, "1x28x28", 10)
    images = np.random.default_rng(1).random((20, 1, 28, 28), dtype=np.float32)
    expected = run_model(network.model, images)
    run = run_network(network, images, microbit)
    np.testing.assert_allclose(run.logits, expected, rtol=0, atol=1e-4)
    assert (run.answers == expected.argmax(1)).all()


def test_relu_alone_needs_no_library_where_there_is_an_fpu():
    network = random_network("NC 2 3 relu;RC 3 3 relu;RC 4 2 relu;FL relu;", "1x28x28", 10)
    for target in TARGETS[:2]:
        sizes = measure_sizes(network, target)
        assert sizes.library == sizes.variables == 0


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "swish", "gelu"])
def test_activations_even_kernels_and_three_channels(activation):
    genome = "NC 3 6 A;NC 2 7 A;RC 4 4 A;RC 3 1 A;FL A;".replace("A", activation)
    network = random_network(genome, "3x13x22", 4)
    images = np.random.default_rng(1).random((20, 3, 13, 22), dtype=np.float32)
    expected = run_model(network.model, images)
    for target in (TARGETS[0], TARGETS[-1]):
        run = run_network(network, images, target)
        atol = 1e-4 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(run.logits, expected, rtol=0, atol=atol)


@each_target
def test_instructions_are_counted_as_they_are(target, tmp_path):
    """A loop of two instructions, a million times round, in the place of the network."""
    source = tmp_path / "loop.c"
    source.write_text(
        "int infer(const float *image, float *scratch, float *logits);\n"
        "int infer(const float *image, float *scratch, float *logits)\n"
        "{\n    int n = 1000000;\n    (void)image, (void)scratch, (void)logits;\n"
        '    __asm volatile(".syntax unified\\n1: subs %0, %0, #1\\n bne 1b" : "+l"(n) : : "cc");\n'
        "    return 7;\n}\n"
    )
    network = random_network("RC 1 1 relu;RC 1 1 relu;FL relu;", "1x4x4", 2)
    run = run_network(network, np.zeros((3, 1, 4, 4), dtype=np.float32), target, infer=source)
    assert (run.answers == 7).all()
    assert np.abs(run.instructions.astype(int) - 2_000_000).max() <= 80


def test_a_fault_ends_the_program_with_an_error(tmp_path):
    source = tmp_path / "fault.c"
    source.write_text(
        "int infer(const float *image, float *scratch, float *logits);\n"
        "int infer(const float *image, float *scratch, float *logits)\n"
        '{\n    (void)image, (void)scratch, (void)logits;\n    __asm volatile("udf #0");\n    return 0;\n}\n'
    )
    network = random_network("RC 1 1 relu;RC 1 1 relu;FL relu;", "1x4x4", 2)
    with pytest.raises(subprocess.CalledProcessError, match="exit status 101"):
        run_network(network, np.zeros((1, 1, 4, 4), dtype=np.float32), TARGETS[0], infer=source)


def test_the_page_runs_its_program_on_the_emulated_board(trained_file, test_images, tmp_path):
    page = PAGE.read_text()
    (tmp_path / "model.safetensors").write_bytes(trained_file.read_bytes())
    (tmp_path / "main.c").write_text(re.findall(r"```c\n(.*?)```", page, re.DOTALL)[0])
    shutil.copytree(SOURCES, tmp_path / "studies" / "cortex-m")
    shutil.copy(SOURCES.parent / "bench_cortex.py", tmp_path / "studies")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL):
        command = ["bash", "-euo", "pipefail", "-c", block]
        subprocess.run(command, cwd=tmp_path, env=os.environ | {"PATH": path}, check=True)
    expected = run_model(load_network(trained_file).model, as_seen(test_images)).argmax(1)
    answers = (tmp_path / "cortex.txt").read_text().split()
    assert answers == [str(answer) for answer in expected]
