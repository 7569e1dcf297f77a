"""Schemas of the verbs that work on stored records: free of every engine, so that these verbs start fast."""

from dataclasses import dataclass, field

from optimize.bundles.gates import GateSpec
from optimize.database import DatabaseSpec
from optimize.errors import LARGEST_COUNT, BadInputError, require, require_count

FORMATS = ("table", "csv", "json")
TO_FILE = "parquet"
QUERY_PARAMETERS = ("min_sharpe", "min_windows", "last_windows", "min_trades")


@dataclass(frozen=True)
class MovedConfig:
    """Where the file of a trial or bundle lies now."""

    path: str | None = None


@dataclass(frozen=True)
class StoredStudyConfig:
    """A study in its database."""

    name: str = ""
    output_dir: str = "studies"
    database: DatabaseSpec = field(default_factory=DatabaseSpec)


@dataclass(frozen=True)
class RecordsConfig(StoredStudyConfig):
    """A study in its database, and the format of its rows."""

    format: str = "table"

    def __post_init__(self) -> None:
        require(self.format in FORMATS, "format", self.format, f"one of {', '.join(FORMATS)}", FORMATS)


@dataclass(frozen=True)
class TableConfig(StoredStudyConfig):
    """A study in its database, and the format of its rows, Parquet among them."""

    format: str = "table"
    file: str | None = None  # to write for format=parquet

    def __post_init__(self) -> None:
        formats = (*FORMATS, TO_FILE)
        require(self.format in formats, "format", self.format, f"one of {', '.join(formats)}", formats)
        if self.format == TO_FILE:
            require(bool(self.file), "file", self.file, "the path of a file to write, such as file=a.parquet")
        else:
            require(self.file is None, "file", self.file, "null unless format=parquet, as others are printed")


@dataclass(frozen=True)
class LeaderboardConfig(TableConfig):
    """`walkforge leaderboard`."""

    top_n: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("top_n", self.top_n)


@dataclass(frozen=True)
class StatusConfig(RecordsConfig):
    """`walkforge status`."""

    watch: bool = False  # print again every two seconds until Ctrl-C
    failures: bool = False  # list failures with their handling, and whether they look random or systematic


@dataclass(frozen=True)
class QueryConfig(TableConfig):
    """`walkforge query`."""

    sql: str | None = None  # a file of databases/queries; none lists them
    min_sharpe: float | None = None  # parameters of the queries that take them
    min_windows: int | None = None
    last_windows: int | None = None
    min_trades: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in QUERY_PARAMETERS[1:]:
            value = getattr(self, key)
            require(value is None or 0 <= value <= LARGEST_COUNT, key, value, f"from 0 to {LARGEST_COUNT}")


@dataclass(frozen=True)
class ExplainConfig:
    """`walkforge explain`."""

    key: str | None = None  # a key or a group; None: all keys
    extensions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ExportConfig(GateSpec, RecordsConfig):
    """`walkforge export`."""

    top_n: int = 3
    accept: str | None = None  # "implausible": export flagged trials as well
    extensions: list[str] | None = None  # where the study's lie now; None: where its launch had them
    ensemble: int | None = None  # one bundle of the mean target of so many trials; None: one bundle a trial
    ensemble_of: str = "finalists"  # or "seeds": of the best finalist
    refit: bool = False  # train each deployable policy on every session before the holdout
    holdout: bool = False  # open the holdout of each bundle: logged, counted and spent

    def __post_init__(self) -> None:
        GateSpec.__post_init__(self)
        size = self.ensemble
        require(size is None or 2 <= size <= LARGEST_COUNT, "ensemble", size, "at least 2, or null")
        kinds = ("finalists", "seeds")
        require(self.ensemble_of in kinds, "ensemble_of", self.ensemble_of, " or ".join(kinds), kinds)
        require(size is None or not self.refit, "refit", self.refit, "false where ensemble is given")
        RecordsConfig.__post_init__(self)
        require_count("top_n", self.top_n)
        require(
            self.accept in (None, "implausible"),
            "accept",
            self.accept,
            "null or implausible",
            ["implausible"],
        )


@dataclass(frozen=True)
class PruneConfig(RecordsConfig):
    """`walkforge prune`."""

    keep: int = 10  # parameter sets of each phase whose files stay
    confirm: bool = False  # false: list alone

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.keep <= LARGEST_COUNT, "keep", self.keep, f"from 0 to {LARGEST_COUNT}")


@dataclass(frozen=True)
class DeleteConfig(RecordsConfig):
    """`walkforge delete`."""

    exports: bool = False  # remove the bundles as well
    confirm: bool = False  # false: list alone


@dataclass(frozen=True)
class ReplayConfig(RecordsConfig):
    """`walkforge replay`."""

    bundle: str | None = None  # the folder of a bundle; no database is opened
    trial: int | None = None  # or a trial of study `name`, trained anew
    data: MovedConfig = field(default_factory=MovedConfig)
    data_path: str | None = None  # the older name of data.path
    extensions: list[str] | None = None  # where those of the trial or bundle lie; None: as stored
    trust: bool = False  # run the code that a bundle carries

    def __post_init__(self) -> None:
        super().__post_init__()
        trial = self.trial
        require(trial is None or 0 <= trial <= LARGEST_COUNT, "trial", trial, f"from 0 to {LARGEST_COUNT}")


@dataclass(frozen=True)
class ReportConfig(StoredStudyConfig):
    """`walkforge report`."""

    trial: int | None = None  # of study `name`; None: the study
    bundle: str | None = None  # the folder of a bundle; no database is opened
    file: str | None = None  # to write; None: in the folder of the study, or beside the bundle
    open: bool = False
    shuffles: int = 20  # of each feature
    data: MovedConfig = field(default_factory=MovedConfig)
    extensions: list[str] = field(default_factory=list)
    trust: bool = False  # run the code that a bundle carries

    def __post_init__(self) -> None:
        named = bool(self.name.strip("?"))
        if self.bundle is not None and (named or self.trial is not None):
            raise BadInputError(
                f"bundle={self.bundle!r}: a report shows one bundle or one study: give bundle=FOLDER, or "
                "name=STUDY (with trial=NUMBER for one trial), not both"
            )
        trial = self.trial
        require(trial is None or 0 <= trial <= LARGEST_COUNT, "trial", trial, f"from 0 to {LARGEST_COUNT}")
        require(0 <= self.shuffles <= 10_000, "shuffles", self.shuffles, "from 0 to 10000")


@dataclass(frozen=True)
class DashboardConfig(StoredStudyConfig):
    """`walkforge dashboard`."""

    host: str = "127.0.0.1"
    port: int = 8080
    write: bool = False
    hosts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        require(1 <= self.port <= 65535, "port", self.port, "from 1 to 65535")


@dataclass(frozen=True)
class DoctorConfig:
    """`walkforge doctor`."""

    name: str = ""
    output_dir: str = "studies"
    format: str = "table"
    repair: bool = False
    database: DatabaseSpec = field(default_factory=DatabaseSpec)

    def __post_init__(self) -> None:
        formats = ("table", "json")
        require(self.format in formats, "format", self.format, " or ".join(formats), formats)
