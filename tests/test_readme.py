"""The README's command blocks do what they say; those marked ``<!-- long: … -->`` are not run here."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"(<!-- long: [^>]+ -->\n)?```sh\n(.*?)```", re.DOTALL)
SHORT = [text for long, text in BLOCK.findall(README) if not long]


def test_the_readme_has_blocks_to_run():
    assert len(SHORT) >= 3
    assert len(BLOCK.findall(README)) > len(SHORT)


@pytest.mark.parametrize("block", SHORT)
def test_a_block_of_the_readme_runs(block, tmp_path):
    (tmp_path / "studies").mkdir()
    for study in (ROOT / "studies").glob("*.toml"):
        shutil.copy(study, tmp_path / "studies")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_module_is_on_the_file_map():
    names = {path.name for path in (ROOT / "nasopt").glob("[a-z]*") if path.suffix in ("", ".py")}
    missing = [
        name for name in names if f"`nasopt/{name}" not in README and f"`{name}`" not in README
    ]
    assert not missing


def test_every_link_to_a_file_leads_somewhere():
    targets = [t.split("#")[0] for t in re.findall(r"\]\(([^):]+)\)", README)]
    assert "docs/howto.md" in targets
    for target in targets:
        assert (ROOT / target).exists(), target
