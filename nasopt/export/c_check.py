"""Runs an exported header: compiles it with the machine's C compiler into a small program."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from nasopt.errors import ExportError, UncheckedError

COMPILERS = ("gcc", "cc", "clang")
TIMEOUT_S = 120

PROGRAM = """\
#include <stdio.h>
#include "$name.h"

int main(void)
{
    static float image[${NAME}_INPUT_SIZE], scratch[${NAME}_SCRATCH_SIZE];
    float logits[${NAME}_N_CLASSES];
    while (fread(image, sizeof image, 1, stdin) == 1) {
        ${name}_logits(image, scratch, logits);
        fwrite(logits, sizeof logits, 1, stdout);
    }
    return 0;
}
"""


def run_header(
    header: bytes,
    name: str,
    images: NDArray[np.float32],
    *,
    flags: Sequence[str] = (),
    program: str = PROGRAM,
) -> NDArray[np.float32]:
    """The logits, shape ``(n, n_classes)``, that the header computes for images ``(n, c, h, w)``.

    Args:
        header: what :func:`nasopt.export.c_header.make_header` returned.
        name: the name that it was made with.
        images: as the network sees them.
        flags: more options for the compiler.
        program: the C program around it: reads images from stdin, writes logits to stdout, both as floats.

    Raises:
        UncheckedError: if there is no C compiler here, or it compiles nothing.
        ExportError: if the program fails.
    """
    compiler = next((found for found in map(shutil.which, COMPILERS) if found), None)
    if compiler is None:
        raise UncheckedError("no C compiler was found; install gcc to have the header checked")
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        (folder / f"{name}.h").write_bytes(header)
        source = folder / "main.c"
        source.write_text(Template(program).substitute(name=name, NAME=name.upper()))
        binary = folder / "main"
        command = [compiler, "-std=c99", "-O2", *flags, str(source), "-o", str(binary), "-lm"]
        compiled = _run(command, b"")
        if compiled.returncode != 0:
            raise UncheckedError(
                f"{Path(compiler).name} could not compile the check: {_message(compiled)}"
            )
        done = _run([str(binary)], np.ascontiguousarray(images, dtype="<f4").tobytes())
    if done.returncode != 0:
        raise ExportError(
            f"the C header's check ended with code {done.returncode}: {_message(done)}"
        )
    return np.frombuffer(done.stdout, dtype="<f4").reshape(len(images), -1)


def _run(command: Sequence[str], standard_input: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command, input=standard_input, capture_output=True, check=False, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UncheckedError(f"the C header could not be run here: {error}") from error


def _message(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").splitlines()
    return next((line for line in lines if "error" in line), "no message")
