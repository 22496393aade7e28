"""The C header: compiled by gcc with all warnings as errors, run, and compared with PyTorch."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasopt.cost import count_cost
from nasopt.data import DataSource, load_test
from nasopt.errors import ExportError, SettingsError, UncheckedError
from nasopt.export import c_functions
from nasopt.export.c_check import run_header
from nasopt.export.c_header import make_header, name_from
from nasopt.export.c_memory import plan_memory
from nasopt.genome import ACTIVATIONS
from nasopt.model import load_network, run_model
from tests.networks import random_network
from tests.strategies import genomes, image_shapes

STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
STRICTER = ("-Wconversion", "-Wshadow", "-Wdouble-promotion", "-Wundef", "-Wcast-qual")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover", "-g")

# The image lies at the end of the one buffer, as the header allows; argmax answers after the logits.
ARENA_PROGRAM = """\
#include <stdio.h>
#include "$name.h"

int main(void)
{
    static float arena[${NAME}_ARENA_SIZE];
    float *image = arena + ${NAME}_ARENA_INPUT;
    float logits[${NAME}_N_CLASSES], answer;
    while (fread(image, sizeof(float), ${NAME}_INPUT_SIZE, stdin) == ${NAME}_INPUT_SIZE) {
        ${name}_logits(image, arena, logits);
        answer = (float)${name}_argmax(logits);
        fwrite(logits, sizeof logits, 1, stdout);
        fwrite(&answer, sizeof answer, 1, stdout);
    }
    return 0;
}
"""

CASES = [
    # normal before reduction, reduction first, normal between and after; even and odd kernels
    ("NC 4 2 relu;RC 5 3 relu;RC 6 3 relu;FL relu;", "1x28x28", 10),
    ("RC 4 1 sigmoid;NC 3 4 sigmoid;RC 6 2 sigmoid;NC 2 5 sigmoid;FL sigmoid;", "1x28x28", 10),
    ("NC 3 6 tanh;NC 2 7 tanh;RC 4 4 tanh;RC 3 1 tanh;FL tanh;", "3x13x22", 4),
    ("RC 3 3 swish;RC 2 2 swish;NC 4 6 swish;FL swish;", "3x22x13", 2),
    ("NC 2 4 gelu;RC 3 6 gelu;RC 2 2 gelu;NC 5 2 gelu;FL gelu;", "4x17x16", 100),
    ("RC 1 1 relu;RC 1 1 relu;NC 1 7 relu;FL tanh;", "1x4x4", 2),
]


@pytest.fixture(scope="module", autouse=True)
def gcc():
    assert shutil.which("gcc"), "the tests of the C header need gcc: apt-get install gcc libc6-dev"


def random_images(network, n_images, seed=1):
    rng = np.random.default_rng(seed)
    return rng.random((n_images, *network.image), dtype=np.float32)


def assert_same(network, images, *, flags=STRICT, name="net"):
    expected = run_model(network.model, images)
    found = run_header(make_header(network, name), name, images, flags=flags)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))
    return found, expected


def test_a_trained_network_answers_a_thousand_images_as_pytorch_does(trained_file):
    network = load_network(trained_file)
    images = load_test(DataSource()).split.images[:1000].astype(np.float32) / np.float32(255)
    found, expected = assert_same(network, images)
    assert np.abs(found - expected).max() <= 1e-4
    assert len(np.unique(expected.argmax(1))) > 5
    assert (found.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize(("genome", "image", "n_classes"), CASES)
def test_shapes_kernels_and_activations(genome, image, n_classes):
    network = random_network(genome, image, n_classes)
    assert_same(network, random_images(network, 20), flags=STRICT + STRICTER)


@st.composite
def networks(draw):
    image = draw(image_shapes())
    genome = draw(genomes(max_normal=3, max_filters=5, image=image))
    return random_network(genome, image, draw(st.integers(2, 12)), draw(st.integers(0, 2**32)))


@given(networks())
@settings(max_examples=12)
def test_any_genome_on_any_image(network):
    assert_same(network, random_images(network, 8))


@given(networks())
@settings(max_examples=200)
def test_no_map_touches_the_one_it_is_made_from(network):
    cost = count_cost(network.genome, network.image, network.n_classes)
    plan = plan_memory(cost, network.image)
    sizes = [np.prod(row.output) for row in cost.layers[:-1]]
    spans = [(at, at + n) for at, n in zip(plan.offsets, sizes, strict=True)]
    assert all(0 <= start < end <= plan.scratch for start, end in spans)
    for spans_of in (spans, [(plan.arena_input, plan.arena), spans[0]]):
        for (a, b), (c, d) in itertools.pairwise(spans_of):
            assert b <= c or d <= a
    assert plan.scratch == max(a + b for a, b in itertools.pairwise(sizes))
    assert plan.scratch <= plan.arena == cost.peak_bytes / 4 <= plan.image + plan.scratch + 4000


def test_the_image_may_lie_in_the_arena_and_nothing_is_touched_beside_it():
    network = random_network(*CASES[2])
    images = random_images(network, 5)
    header = make_header(network, "net")
    apart = run_header(header, "net", images, flags=(*STRICT, *SANITIZE))
    together = run_header(header, "net", images, flags=(*STRICT, *SANITIZE), program=ARENA_PROGRAM)
    assert (together[:, :-1] == apart).all()
    assert (together[:, -1] == apart.argmax(1)).all()


def symbols(network, tmp_path):
    """What gcc's object file of the header defines and needs, as ``nm`` prints it."""
    (tmp_path / "net.h").write_bytes(make_header(network, "net"))
    source = '#include "net.h"\nvoid f(const float *i, float *s, float *l);\nvoid f(const float *i, float *s, float *l) { net_logits(i, s, l); }\n'
    (tmp_path / "one.c").write_text(source)
    command = ["gcc", "-std=c99", "-O0", *STRICT, "-c", "one.c", "-o", "one.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run(
        ["nm", "one.o"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    return [line.split()[-2:] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_allocates_nothing_and_has_no_variables_of_its_own(activation, tmp_path):
    genome = f"RC 2 3 {activation};RC 2 3 {activation};FL {activation};"
    found = symbols(random_network(genome, "1x28x28", 10), tmp_path)
    functions = {"sigmoid": {"expf"}, "tanh": {"tanhf"}, "swish": {"expf"}, "gelu": {"erff"}}
    assert {name for kind, name in found if kind == "U"} == functions.get(activation, set())
    assert {kind for kind, _ in found} <= {"U", "T", "t", "r"}  # none of B b D d C: no state


def test_headers_live_together_and_compile_as_cpp(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.h").write_bytes(make_header(random_network(*CASES[0]), name))
    lines = [f'#include "{name}.h"' for name in ("one", "two", "one")]
    lines.append("float s[ONE_ARENA_SIZE + TWO_ARENA_SIZE], l[10];")
    lines.append("int main() { one_logits(s + ONE_ARENA_INPUT, s, l); return two_argmax(l); }")
    (tmp_path / "main.cpp").write_text("\n".join(lines) + "\n")
    command = ["g++", "-std=c++11", *STRICT, "main.cpp", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode in range(10)


def test_the_weights_in_the_text_are_the_weights_to_the_last_bit():
    network = random_network(*CASES[0])
    next(network.model.parameters()).data.view(-1)[:4] = 1e-42  # denormal
    text = make_header(network, "net").decode()
    arrays = re.findall(r"static const float \w+\[(\d+)\] = \{[^\n]*\n(.*?)\};", text, re.DOTALL)
    assert len(arrays) == len(network.weights)
    for (size, body), weight in zip(arrays, network.weights, strict=True):
        values = np.array([np.float32(word) for word in re.findall(r"([-+.e\d]+)f", body)])
        assert int(size) == weight.size
        assert (values == weight.ravel()).all()


def test_the_head_tells_what_it_is_whatever_the_metadata_say():
    network = random_network(*CASES[0])
    bad = {"test_accuracy": "0.7641", "a */ int": "*/ #error /* \n ??/ ü \\"}
    network = replace(network, metadata=dict(network.metadata) | bad)
    text = make_header(network, "net").decode("ascii")
    head = text[: text.index("*/")]
    assert f"genome         {network.genome}\n" in head
    assert "test_accuracy  0.7641\n" in head
    assert "divided by 255" in head
    assert "#error" in head
    assert_same(network, random_images(network, 2))
    other = replace(network, metadata=dict(network.metadata) | {"pixels": "float32"})
    assert "divided by 255" not in make_header(other, "net").decode()


def test_the_sizes_in_the_header_are_those_of_the_plan():
    network = random_network(*CASES[2])
    cost = count_cost(network.genome, network.image, network.n_classes)
    plan = plan_memory(cost, network.image)
    text = make_header(network, "my_net").decode()
    sizes = {key: int(n) for key, n in re.findall(r"#define MY_NET_(\w+) (\d+)", text)}
    assert sizes["INPUT_SIZE"] == 3 * 13 * 22
    assert sizes["SCRATCH_SIZE"] == plan.scratch
    assert 4 * sizes["ARENA_SIZE"] == cost.peak_bytes
    assert sizes["N_PARAMETERS"] == cost.n_params
    assert plan.ram_bytes == 4 * (sizes["INPUT_SIZE"] + sizes["SCRATCH_SIZE"] + 4)
    assert plan.least_ram_bytes == cost.peak_bytes + 4 * 4


@pytest.mark.parametrize("name", ["", "9net", "_net", "my-net", "n et", "ü", "n" * 41])
def test_names_that_c_would_refuse_are_refused(name):
    with pytest.raises(SettingsError, match="a name for exports begins with a letter"):
        make_header(random_network(*CASES[0]), name)


def test_a_name_is_made_of_a_files():
    assert name_from("model") == "model"
    assert name_from("my net-2.1") == "my_net_2_1"
    assert name_from("28x28") == "n_28x28"
    assert name_from("ü") == "n"


def test_weights_that_are_no_numbers_are_refused():
    network = random_network(*CASES[0])
    next(network.model.parameters()).data[0] = float("nan")
    with pytest.raises(ExportError, match="NaN or infinite; its training diverged"):
        make_header(network, "net")


def test_what_does_not_compile_or_ends_badly_is_said():
    network = random_network(*CASES[0])
    images = random_images(network, 1)
    with pytest.raises(
        UncheckedError, match=r"gcc could not compile the check: .* #error broken$"
    ):
        run_header(b"#error broken", "net", images)
    with pytest.raises(ExportError, match=r"the C header's check ended with code 3: no message"):
        run_header(b"", "net", images, program="int main(void) { return 3; }")


def test_gelu_is_the_exact_one():
    assert "erff" in c_functions.FORMULAS["gelu"]


@pytest.mark.slow
def test_the_page_on_microcontrollers_does_what_it_says(trained_file, tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "microcontroller.md").read_text()
    page = page.split("\n## On an emulated Cortex-M4")[0]  # from there on: test_cortex.py
    (tmp_path / "model.safetensors").write_bytes(trained_file.read_bytes())
    (tmp_path / "main.c").write_text(re.findall(r"```c\n(.*?)```", page, re.DOTALL)[0])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL):
        command = ["bash", "-euo", "pipefail", "-c", block]
        subprocess.run(command, cwd=tmp_path, env=os.environ | {"PATH": path}, check=True)
    images = load_test(DataSource()).split.images[:5].astype(np.float32) / np.float32(255)
    expected = run_model(load_network(trained_file).model, images).argmax(1)
    answers = (tmp_path / "answers.txt").read_text().split()
    assert answers == [str(answer) for answer in expected]
