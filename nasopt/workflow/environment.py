"""What a result was computed with: the machine, the versions, the engine."""

import os
import platform
from importlib.metadata import version

from nasopt.training.engines import choose_engine

PACKAGES = ("nasopt", "torch", "optuna", "numpy")


def describe_environment(engine: str) -> dict[str, str]:
    """The environment of this process, for trainings by the engine of that name.

    Raises:
        EngineError: if the engine cannot be used.
    """
    return {
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "engine": choose_engine(engine).name,
    }
