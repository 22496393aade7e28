"""Data sets, split once: a search sees a :class:`TrainVal`, the final verification a :class:`Test`."""

import hashlib
import os
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from nasopt.data.arrays import Split, Test, TrainVal, split_train_val
from nasopt.data.npz import read_npz
from nasopt.errors import DataError
from nasopt.genome import ImageShape

__all__ = [
    "DATA_VARIABLE",
    "FASHION_MNIST",
    "FASHION_MNIST_NAMES",
    "DataSource",
    "Split",
    "Test",
    "TrainVal",
    "class_names",
    "load_test",
    "load_train_val",
]

FASHION_MNIST = "fashion-mnist"
FASHION_MNIST_SHAPE = ImageShape(1, 28, 28)
FASHION_MNIST_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FASHION_MNIST_CLASSES = len(FASHION_MNIST_NAMES)
DATA_VARIABLE = "NASOPT_DATA"
_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where data come from: Fashion-MNIST (``path`` may name its folder), or an ``.npz`` at ``path``.

    ``digest`` is what the ``.npz`` has to hold, as a hash of its bytes; None accepts any content.
    """

    path: Path | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> "DataSource":
        """The source that ``text`` names: ``fashion-mnist``, a folder with its files, or an ``.npz`` file.

        For ``fashion-mnist`` the environment variable ``NASOPT_DATA`` may name the folder.

        Raises:
            DataError: if it names none of these.
        """
        if text == FASHION_MNIST:
            folder = os.environ.get(DATA_VARIABLE)
            if folder and not Path(folder).is_dir():
                raise DataError(
                    f"there is no folder {folder}, which {DATA_VARIABLE} names; correct it, or unset it"
                )
            return cls(Path(folder).resolve()) if folder else cls()
        path = Path(text)
        if text and (path.suffix == ".npz" or path.is_dir()):
            return cls(path)
        raise DataError(
            f"unknown data source {text!r}; give {FASHION_MNIST!r}, a folder with Fashion-MNIST's files, or an .npz file"
        )

    def pinned(self) -> "DataSource":
        """The source with the content that it has now, wherever it will be read; as it is where there is no file to read."""
        if not self.is_npz or self.path is None or not self.path.is_file():
            return self
        return replace(self, digest=_digest(self.path))

    @property
    def is_npz(self) -> bool:
        """Whether the data are the user's own file."""
        return self.path is not None and self.path.suffix == ".npz"

    def describe(self) -> tuple[ImageShape, int]:
        """The shape of an image and the number of classes.

        Raises:
            DataError: if the data have to be read for that, and cannot.
        """
        if self.is_npz:
            data = load_train_val(self)
            return data.shape, data.n_classes
        return FASHION_MNIST_SHAPE, FASHION_MNIST_CLASSES

    def identity(self) -> str:
        """A name that changes with the content and the file's name, but not with the place, of the data."""
        if self.is_npz and self.path is not None:
            load_train_val(self)  # so that a file that is missing or broken is reported as such
            return f"{self.path.name} {self.digest or _digest(self.path)}"
        return FASHION_MNIST

    def __str__(self) -> str:
        return FASHION_MNIST if self.path is None else str(self.path)


def content_of(identity: str) -> str:
    """What :meth:`DataSource.identity` says of the content alone, whatever the file is called."""
    return identity.rpartition(" ")[2]


def class_names(identity: str, n_classes: int) -> tuple[str, ...]:
    """The names of ``n_classes`` classes of the data of that identity: those of Fashion-MNIST, or numbers."""
    if identity == FASHION_MNIST and n_classes == FASHION_MNIST_CLASSES:
        return FASHION_MNIST_NAMES
    return tuple(str(i) for i in range(n_classes))


def load_train_val(source: DataSource) -> TrainVal:
    """The training and validation images of ``source``; loaded once a process.

    Raises:
        DataError: if the data are missing, corrupt or unusable.
    """
    return _loaded(source)[0]


def load_test(source: DataSource) -> Test:
    """The test images of ``source``; loaded once a process.

    Raises:
        DataError: if the data are missing, corrupt or unusable.
    """
    return _loaded(source)[1]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _loaded(source: DataSource) -> tuple[TrainVal, Test]:
    with _LOCK:  # or every thread would load them
        return _load(source)


@lru_cache(maxsize=2)
def _load(source: DataSource) -> tuple[TrainVal, Test]:
    if source.is_npz and source.path is not None:
        train, test = read_npz(source.path)
        if source.digest is not None and _digest(source.path) != source.digest:
            raise DataError(
                f"{source.path} holds other data here than where the study is driven, or has changed since; bring the same "
                "file to all machines, and give new data a study of their own"
            )
    else:
        from nasopt.data.fashion_mnist import read_fashion_mnist

        train, test = read_fashion_mnist(source.path)
    n_classes = int(train.labels.max()) + 1
    return split_train_val(train, n_classes), Test(test)
