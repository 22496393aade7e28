"""Files that are written whole or not at all, whenever the process or the disk gives up."""

from pathlib import Path

from nasopt.errors import OutputError


def write_whole(
    path: Path, content: bytes, advice: str = "mend the permissions or free some space"
) -> None:
    """Writes ``content`` to ``path``, making its folder where needed.

    Raises:
        OutputError: if that is not possible, ending in ``advice``.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}); {advice}") from error
