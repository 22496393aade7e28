"""Fashion-MNIST, wherever this machine has it or can get it from.

The four files are read from the folder that the user names; without one they are looked for in nasopt's cache and in
the folder of Debian's package, and then fetched: by torchvision's own download, or from Debian's package, which needs no
root. What is found is checked, unpacked into the cache, and read by torchvision.

References:
    Xiao, Rasul and Vollgraf (2017), Fashion-MNIST.
"""

import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import numpy as np
import platformdirs
from torchvision.datasets import FashionMNIST

from nasopt.data.arrays import Split
from nasopt.errors import DataError
from nasopt.files import write_whole

CACHE_VARIABLE = "NASOPT_CACHE"
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
TIMEOUT_S = 30
CACHE_ADVICE = f"set {CACHE_VARIABLE} to a folder that you may write to and that has 60 MB free"

# SHA-256 of the unpacked files: archives of the same content differ from mirror to mirror.
CHECKSUMS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def cache_folder() -> Path:
    """Where nasopt keeps data: ``$NASOPT_CACHE``, or the user's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("nasopt"))


def read_fashion_mnist(folder: Path | None = None) -> tuple[Split, Split]:
    """The 60,000 training and 10,000 test images.

    Args:
        folder: where the user keeps the files; nothing else is tried then.

    Raises:
        DataError: if no complete, intact copy can be found or fetched, listing what was tried.
    """
    root = cache_folder()
    if folder is not None:
        _install(folder, root)
    else:
        _find(root)
    return _read(root, train=True), _read(root, train=False)


def _read(root: Path, *, train: bool) -> Split:
    data = FashionMNIST(str(root), train=train)
    return Split(data.data.numpy()[:, None], data.targets.numpy().astype(np.int64))


def _raw_folder(root: Path) -> Path:
    return root / "FashionMNIST" / "raw"  # where torchvision looks


def _find(root: Path) -> None:
    sources: tuple[tuple[str, Callable[[], None]], ...] = (
        (f"the cache {root}", lambda: _check_cache(root)),
        (f"the folder {SYSTEM_FOLDER}", lambda: _install(SYSTEM_FOLDER, root)),
        ("torchvision's download", lambda: _download(root)),
        (f"Debian's package {DEBIAN_PACKAGE}", lambda: _fetch_from_debian(root)),
    )
    tried = []
    for name, attempt in sources:
        try:
            attempt()
        except DataError as error:
            tried.append(f"  - {name}: {error}")
        else:
            return
    raise DataError(
        "Fashion-MNIST was not found and could not be fetched. Tried:\n"
        + "\n".join(tried)
        + "\nName a folder that holds its four idx files with --data or NASOPT_DATA, connect to the network, "
        f"or install the package {DEBIAN_PACKAGE}."
    )


def _check_cache(root: Path) -> None:
    for name in CHECKSUMS:
        path = _raw_folder(root) / name
        if not path.is_file():
            raise DataError("not there yet")
        _verify(name, path.read_bytes(), path)


def _install(folder: Path, root: Path) -> None:
    """Checks the four files of ``folder`` and unpacks them into the cache at ``root``."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    target = _raw_folder(root)
    for name in CHECKSUMS:
        path = _locate(folder, name)
        content = _unpack(path)
        _verify(name, content, path)
        if not _holds(target / name, content):
            write_whole(target / name, content, CACHE_ADVICE)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _locate(folder: Path, name: str) -> Path:
    for place in (folder, folder / "raw", _raw_folder(folder)):
        for path in (place / f"{name}.gz", place / name):
            if path.is_file():
                return path
    raise DataError(
        f"{folder} does not hold {name} or {name}.gz; name the folder with Fashion-MNIST's four idx files"
    )


def _unpack(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is truncated or unreadable ({error}); replace it with an intact copy"
        ) from error


def _verify(name: str, content: bytes, path: Path) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != CHECKSUMS[name]:
        raise DataError(
            f"{path} is not the original: its content has SHA-256 {found[:12]}…, expected "
            f"{CHECKSUMS[name][:12]}… ({len(content)} bytes read); replace it with an intact copy"
        )


def _download(root: Path) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        with tempfile.TemporaryDirectory() as folder:
            FashionMNIST(folder, download=True)
            _install(Path(folder), root)
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataError(" ".join(str(error).split())) from error
    finally:
        socket.setdefaulttimeout(before)


def _fetch_from_debian(root: Path) -> None:
    """Fetches and unpacks the package in a folder of its own, with package lists of its own."""
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise DataError(f"{' and '.join(missing)} not on this machine")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for sub in ("lists/partial", "archives/partial", "content"):
            (folder / sub).mkdir(parents=True)
        options = [
            "-o",
            f"Dir::State::lists={folder}/lists",
            "-o",
            f"Dir::Cache={folder}",
            "-o",
            "APT::Sandbox::User=",
        ]
        _run(["apt-get", "-qq", *options, "update"], folder)
        _run(["apt-get", "-qq", *options, "download", DEBIAN_PACKAGE], folder)
        (package,) = folder.glob(f"{DEBIAN_PACKAGE}_*.deb")
        _run(["dpkg-deb", "-x", str(package), str(folder / "content")], folder)
        _install(folder / "content" / SYSTEM_FOLDER.relative_to("/"), root)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=10 * TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{command[0]} did not finish in {10 * TIMEOUT_S} s") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["no message"]
        raise DataError(f"{command[0]} failed: {lines[-1]}") from error
