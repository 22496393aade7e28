"""Every error that nasopt raises on purpose.

NasoptError                  base class; its message says what was expected, what came, what to do
├── GenomeError              an architecture that is malformed or does not fit its input
├── SettingsError            a study file or an option that is wrong
├── DataError                a data set that is missing, corrupt or unusable
├── TrainingError            one training that gave no result; the search records it and goes on
│   ├── DivergedError        the loss became NaN or infinite
│   ├── TooLargeError        the network would not fit in memory
│   └── WorkerDiedError      the process that trained it died
├── EngineError              a training engine that cannot be used here
├── WorkerLostError          a cluster that lost a training; nothing is wrong with that
├── OutputError              a file that cannot be written
├── ExportError              a network that cannot be exported as asked
│   └── UncheckedError       an export that cannot be compared with PyTorch on this machine
├── StudyError               a study's database that cannot be read, written or continued
│   └── StudyLockedError     another process is driving the study
└── SearchStoppedError       a search that cannot usefully go on
"""


class NasoptError(Exception):
    """Base of all errors that nasopt raises on purpose."""


class GenomeError(NasoptError):
    """An architecture is malformed, breaks a rule of the space, or does not fit its input."""


class SettingsError(NasoptError):
    """A study file or a command-line option is wrong."""


class DataError(NasoptError):
    """A data set is missing, corrupt or unusable."""


class TrainingError(NasoptError):
    """One training gave no result; a search records the reason and goes on."""


class DivergedError(TrainingError):
    """The loss of a training became NaN or infinite."""


class TooLargeError(TrainingError):
    """A network is too large to train in the memory of this machine."""


class WorkerDiedError(TrainingError):
    """The worker process died during the training."""


class EngineError(NasoptError):
    """The training engine that was asked for cannot be used on this machine."""


class WorkerLostError(NasoptError):
    """The cluster that a training ran on is gone, or the machine; it says nothing of the training."""


class OutputError(NasoptError):
    """A file cannot be written."""


class ExportError(NasoptError):
    """A network cannot be exported as asked, or its export does not compute what PyTorch does."""


class UncheckedError(ExportError):
    """An export cannot be compared with PyTorch, since this machine lacks what runs it."""


class StudyError(NasoptError):
    """A study's database cannot be read, written or continued."""


class StudyLockedError(StudyError):
    """Another process is driving the study."""


class SearchStoppedError(NasoptError):
    """The search cannot usefully go on, for the reason given."""
