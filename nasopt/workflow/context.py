"""A study file, what it means on its data, where its results go, and who works on it."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nasopt.data import FASHION_MNIST, DataSource
from nasopt.errors import SettingsError
from nasopt.executors import make_executor
from nasopt.files import beside
from nasopt.records import TrialRecord
from nasopt.search.plan import SearchPlan
from nasopt.search.storage import database_errors, driver_lock, silence_optuna, storage_url
from nasopt.search.study import Study, open_study, read_database
from nasopt.settings import WEIGHTS_NAME, StudyFile, default_workers, read_study_file, run_folder
from nasopt.training.engines import choose_engine


@dataclass(frozen=True, slots=True)
class StudyContext:
    """A study file, what it means on its data, and where its results go.

    ``data`` is the source that was named instead of the study file's, if one was.
    """

    study_file: Path
    settings: StudyFile
    source: DataSource
    plan: SearchPlan
    database: Path
    data: str | None = None

    @property
    def words(self) -> list[str]:
        """What names this study on a command line: the file, and the database and the data where they are not the usual ones."""
        words = [str(self.study_file)]
        if self.database != _usual_database(self.study_file, self.settings):
            words += ["--database", str(self.database)]
        if self.data is not None:
            words += ["--data", self.data]
        return words

    @property
    def figures(self) -> Path:
        """The folder of the report's figures as files."""
        return beside(self.database, "figures")

    @property
    def storage_url(self) -> str:
        """The database as Optuna and its dashboard name it."""
        return storage_url(self.database)

    @property
    def report(self) -> Path:
        """The HTML report."""
        return beside(self.database, "report.html")

    @property
    def weights(self) -> Path:
        """The weights of the chosen network."""
        return beside(self.database, WEIGHTS_NAME)

    @property
    def selection(self) -> Path:
        """The numbers of the chosen network."""
        return beside(self.database, "selection.json")

    @property
    def engine(self) -> str:
        """The engine that trains, by its name: ``auto`` is decided here, for all machines that take part.

        Raises:
            EngineError: if it cannot be used here.
        """
        return choose_engine(self.settings.training.engine).name

    def records(self) -> list[TrialRecord]:
        """All trials so far.

        Raises:
            StudyError: if there is no such study, or its database cannot be read.
        """
        self.open(create=False)  # refuses what is not this study
        with database_errors(self.database):
            return read_database(self.database, self.plan.space)

    def open(self, *, create: bool) -> Study:
        """The Optuna study."""
        silence_optuna()
        return open_study(self.plan, self.database, create=create)


def open_context(
    study_file: Path, *, database: Path | None = None, data: str | None = None
) -> StudyContext:
    """The study of ``study_file``.

    Args:
        study_file: its TOML file.
        database: another place for the SQLite file than ``runs/<name>/study.db`` beside the study file.
        data: another data source than the study file's.

    Raises:
        SettingsError: if the study file is wrong.
        DataError: if the data source is.
    """
    settings = read_study_file(study_file)
    text = settings.data if data is None else data
    if data is None and text != FASHION_MNIST:
        text = str(study_file.parent / text)  # relative to the study file
    if text and text != FASHION_MNIST and Path(text).exists():
        text = str(Path(text).resolve())  # workers may live in another folder
    source = DataSource.parse(text).pinned()  # workers may be elsewhere
    database = database or _usual_database(study_file, settings)
    try:
        plan = settings.plan(source)
    except SettingsError as error:
        raise SettingsError(f"{study_file}: {error}") from error
    return StudyContext(study_file, settings, source, plan, database, data)


@contextmanager
def driving(context: StudyContext) -> Iterator[Study]:
    """The open study, locked against other drivers, with database errors made clear."""
    with driver_lock(context.database), database_errors(context.database):
        yield context.open(create=True)


@dataclass(frozen=True, slots=True)
class Pool:
    """Who trains: ``n_workers`` cores, of this machine or of the Ray cluster at ``ray``; all of them if None."""

    n_workers: int | None = None
    ray: str | None = None


@contextmanager
def workers(engine: str, pool: Pool) -> Iterator[tuple[Executor, int]]:
    """The workers for an engine, and how many; ended at once if the block is left by an error or a second Ctrl-C.

    Raises:
        SettingsError: if there is no Ray cluster where one was named.
    """
    executor: Executor
    if pool.ray is None:
        n_workers = pool.n_workers or default_workers()
        executor = make_executor(n_workers, in_threads=choose_engine(engine).releases_gil)
    else:
        from nasopt.cluster import RayExecutor  # Ray takes a second to import

        executor = cluster = RayExecutor(pool.ray, pool.n_workers)
        n_workers = cluster.n_workers
    try:
        yield executor, n_workers
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown(wait=True)


def _usual_database(study_file: Path, settings: StudyFile) -> Path:
    return run_folder(study_file, settings) / "study.db"
