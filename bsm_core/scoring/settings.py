"""Settings of a scoring job: every flag, environment variable and default in one model.

A flag takes precedence over the file of ``--config``, the file over the environment variable, the variable over the
artifact's config, and the config over the default. The inference contract makes one exception: the ``batch_size`` of
the artifact's config takes precedence over the variable ``BATCH_SIZE``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bsm_core.errors import ConfigError, UsageError, nearest
from bsm_core.runtime.memory import DEFAULT_MAX_CELL_MB
from bsm_core.runtime.precision import Precision
from bsm_core.runtime.validation import Problem, check_values
from bsm_core.scoring import setting_values
from bsm_core.scoring.output.shard import Shard
from bsm_core.scoring.output.shard import parse as parse_shard
from bsm_core.storage.objects import place
from bsm_core.tables.formats import dialect as csv

_BATCH_SIZE = "BATCH_SIZE"
"""The one environment variable that yields to the artifact's config."""


@dataclass(frozen=True)
class Source:
    """Places, other than its default, that a setting can come from.

    Attributes:
        flag: Command-line flag.
        help: One line for ``--help``.
        env: Environment variable, if there is one.
        in_artifact: Whether the artifact's config may set the setting, under the setting's own name.
        metavar: Placeholder for the value in ``--help``.
    """

    flag: str
    help: str
    env: str | None = None
    in_artifact: bool = False
    metavar: str | None = None


def _place(value: Any) -> Any:
    if isinstance(value, str) and not value:
        raise UsageError("a path is empty", fix="look whether a variable in the command is not set")
    return place(value) if isinstance(value, str | Path) else value


Place = Annotated[Path, BeforeValidator(_place)]
Device = Annotated[Literal["auto", "cpu", "gpu"] | int | tuple[int, ...], BeforeValidator(setting_values.parse_device)]
CONTAINER = Path("/opt/ml/processing")
"""Folder of the inputs and outputs in a SageMaker-style processing container."""


class Settings(BaseModel):
    """All settings of a job; frozen.

    Build it with :meth:`resolve`, then add the artifact's config with :meth:`with_artifact`.

    Example:
        Read flags and variables, as a run does::

            settings = Settings.resolve({"id_field": "order_id"}, {"DEVICE": "cpu"})
            print(settings.id_field, settings.device, settings.window_rows)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    """Flag, variable or config key that each setting came from; settings that have their default are absent."""

    job_type: Annotated[
        Literal["inference", "validation", "testing"], Source("--job_type", "name of the kind of job; changes nothing")
    ] = "inference"
    id_field: Annotated[
        str | None, Source("--id-field", "id column of the data (required)", "ID_FIELD", metavar="COLUMN")
    ] = None
    model_dir: Annotated[Place, Source("--model-dir", "artifact: a folder or a model.tar.gz", metavar="PATH")] = (
        CONTAINER / "input/model"
    )
    data_dir: Annotated[Place, Source("--data-dir", "input data: a folder, a file or a pattern", metavar="PATH")] = (
        CONTAINER / "input/inference_data"
    )
    limit: Annotated[
        PositiveInt | None, Source("--limit", "score the first N rows alone (of each shard), for a trial", metavar="N")
    ] = None
    output_dir: Annotated[Place, Source("--output-dir", "folder for the predictions", metavar="PATH")] = (
        CONTAINER / "output/predictions"
    )
    output_format: Annotated[
        Literal["csv", "tsv", "parquet"] | None,
        BeforeValidator(setting_values.lower),
        Source("--output-format", "format of the predictions (default: format of the data)", "OUTPUT_FORMAT", True),
    ] = None
    keep_columns: Annotated[
        tuple[str, ...],
        BeforeValidator(csv.parse_kept),
        Source(
            "--keep-columns", "columns to copy to the output: names such as a,\"b, c\"; or 'all'", metavar="COLUMNS"
        ),
    ] = ()
    predicted_class: Annotated[
        bool,
        Source(
            "--predicted-class",
            "add a column predicted_class with the name of the class that is most probable",
            "PREDICTED_CLASS",
        ),
    ] = False
    emit: Annotated[
        Literal["embeddings"] | None,
        BeforeValidator(setting_values.lower),
        Source("--emit", "embeddings: write the vectors of each row to inference_embeddings.parquet, too", "EMIT"),
    ] = None
    device: Annotated[
        Device,
        Source("--device", "auto, cpu, gpu, a number of GPUs, or GPU ids such as [0,2,3]", "DEVICE", True, "DEVICE"),
    ] = "auto"
    devices: Annotated[
        PositiveInt | None,
        Source("--devices", "number of processes (default: one for each GPU, one on the CPU)", metavar="N"),
    ] = None
    accelerator: Annotated[
        Literal["auto", "cpu", "gpu"],
        BeforeValidator(setting_values.lower),
        Source("--accelerator", "accelerator; cpu takes precedence over --device", "ACCELERATOR", True),
    ] = "auto"
    engine: Annotated[
        Literal["local", "ray"],
        BeforeValidator(setting_values.lower),
        Source("--engine", "local: processes of this machine; ray: actors of a cluster"),
    ] = "local"
    ray_address: Annotated[
        str | None,
        Source("--ray-address", "cluster of Ray (default: this machine alone)", "RAY_ADDRESS", metavar="ADDRESS"),
    ] = None
    num_actors: Annotated[
        PositiveInt | None,
        Source("--num-actors", "number of actors (default: one for each GPU of the cluster, one on CPUs)", metavar="N"),
    ] = None
    shard: Annotated[
        Shard | None,
        BeforeValidator(parse_shard),
        Source(
            "--shard", "share of this host: I/N scores every N-th file, beginning with I, from 0", "SHARD", False, "I/N"
        ),
    ] = None
    batch_size: Annotated[
        PositiveInt,
        # A token budget: so many chunks of max_sen_len tokens. Shorter chunks share the budget in larger numbers.
        Source("--batch-size", "chunks of full length to encode at once; limits memory", _BATCH_SIZE, True, "N"),
    ] = 32
    precision: Annotated[
        Literal["auto"] | Precision,
        BeforeValidator(setting_values.parse_precision),
        Source("--precision", "precision of the text encoders; auto means fp32 on the CPU", "PRECISION"),
    ] = "auto"
    backend: Annotated[
        str,
        BeforeValidator(setting_values.lower),
        Source("--backend", "backend of the text encoders: auto, eager, onnx or one of a plugin", metavar="NAME"),
    ] = "auto"
    num_workers: Annotated[
        Annotated[NonNegativeInt, Field(le=1_000)] | None,
        Source("--num-workers", "loader workers (default: none on the CPU, a few on a GPU)", "NUM_WORKERS", True, "N"),
    ] = None
    window_rows: Annotated[PositiveInt, Source("--window-rows", "rows to score at a time", metavar="N")] = 4096
    row_issues: Annotated[
        Place | None,
        BeforeValidator(setting_values.parse_table_name),
        Source(
            "--row-issues", "file for all that was wrong with rows: .csv, .tsv, .parquet", "ROW_ISSUES", False, "FILE"
        ),
    ] = None
    max_cell_mb: Annotated[
        Annotated[PositiveInt, Field(le=1_000_000)],
        Source("--max-cell-mb", "largest text to read, in MB; a longer text is cut there", "MAX_CELL_MB", False, "N"),
    ] = DEFAULT_MAX_CELL_MB
    max_bad_rows: Annotated[
        int | str,
        BeforeValidator(setting_values.parse_limit),
        Source("--max-bad-rows", "stop if more rows have an issue: a number, or a share of the rows", metavar="N"),
    ] = "50%"
    on_bad_row: Annotated[
        Literal["fail", "null"],
        BeforeValidator(setting_values.lower),
        Source("--on-bad-row", "a row for which the model fails stops the run, or has empty probabilities"),
    ] = "fail"
    on_bad_line: Annotated[
        Literal["fail", "skip"],
        BeforeValidator(setting_values.lower),
        Source("--on-bad-line", "a line of CSV, TSV or JSON lines that cannot be read stops the run, or is left out"),
    ] = "fail"
    csv_delimiter: Annotated[
        str | None,
        BeforeValidator(csv.parse_character),
        Source("--csv-delimiter", "character between two cells of CSV or TSV", None, True, "CHARACTER"),
    ] = None
    csv_escape: Annotated[
        str | None,
        BeforeValidator(csv.parse_escape),
        Source(
            "--csv-escape",
            "character before a quote in a quoted cell, such as the backslash of Spark",
            None,
            True,
            "CHARACTER",
        ),
    ] = None
    csv_encoding: Annotated[
        str | None,
        BeforeValidator(csv.parse_encoding),
        Source("--csv-encoding", "encoding of CSV or TSV (default: utf-8)", None, True, "NAME"),
    ] = None
    csv_header: Annotated[
        Literal["first", "none"],
        BeforeValidator(csv.parse_header),
        Source("--csv-header", "none if the first row of CSV or TSV is data", None, True),
    ] = "first"
    csv_columns: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(csv.parse_columns),
        Source("--csv-columns", "names of the columns, with --csv-header none", None, True, "COLUMNS"),
    ] = None
    csv_decimal: Annotated[
        str | None,
        BeforeValidator(csv.parse_decimal),
        Source("--csv-decimal", "decimal point of numbers in text", None, True, "CHARACTER"),
    ] = None
    csv_thousands: Annotated[
        str | None,
        BeforeValidator(csv.parse_thousands),
        Source("--csv-thousands", "character between groups of digits in text", None, True, "CHARACTER"),
    ] = None
    resume: Annotated[
        Literal["auto", "require", "never"],
        BeforeValidator(setting_values.lower),
        Source(
            "--resume",
            "what to do with the finished parts of a run that was killed: auto keeps those of the same run, require "
            "fails without them, never begins anew",
            "RESUME",
        ),
    ] = "auto"
    run_record: Annotated[bool, Source("--run-record", "write run.json next to the predictions")] = False
    report: Annotated[
        Place | None,
        BeforeValidator(setting_values.parse_report),
        Source("--report", "write a report of the run, an HTML file", "REPORT", False, "FILE"),
    ] = None
    profile: Annotated[bool, Source("--profile", "log at the end how the time was spent")] = False
    self_check: Annotated[bool, Source("--no-self-check", "skip the check rows of the artifact")] = True
    allow_downloads: Annotated[
        bool, Source("--allow-downloads", "ask the Hugging Face hub for a tokenizer that is nowhere else")
    ] = False
    strict: Annotated[
        bool, Source("--strict", "stop if plugins, libraries or files differ from those that the artifact recorded")
    ] = False

    @field_validator("*", mode="before")
    @classmethod
    def _tell_truth_from_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what pydantic, as Python does, would take for a number or for a truth value."""
        is_flag = cls.model_fields[str(info.field_name)].annotation is bool
        if is_flag and isinstance(value, int | float) and not isinstance(value, bool):
            raise ValueError("should be true or false")
        if not is_flag and isinstance(value, bool):
            raise ValueError("needs a value, not true or false")
        return value

    @model_validator(mode="after")
    def _check_process_count(self) -> Self:
        gpus = len(self.device) if isinstance(self.device, tuple) else self.device
        if self.devices and isinstance(gpus, int) and gpus != self.devices and self.accelerator != "cpu":
            raise ValueError(f"{self.devices} process(es) contradict {gpus} GPU(s)")
        return self

    @classmethod
    def resolve(
        cls, flags: Mapping[str, Any], env: Mapping[str, str], file: Mapping[str, tuple[Any, str]] | None = None
    ) -> Settings:
        """Read and check flags, the values of a file, and environment variables.

        Args:
            flags: Values from the command line or a caller, by setting name; None means not set.
            env: Environment variables; an empty one counts as not set.
            file: Values of the file of ``--config``, by setting name, each with its place.

        Raises:
            UsageError: A flag or variable has an invalid value, or ``flags`` has a name that is no setting.
        """
        if unknown := [name for name in flags if name not in cls.model_fields]:
            near = {name: nearest(name, cls.model_fields) for name in unknown}
            details = [f"{name!r}" + (f"; did you mean {other!r}?" if other else "") for name, other in near.items()]
            raise UsageError("no such setting", details=details, fix=f"the settings are {', '.join(cls.model_fields)}")
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for name, source in sources().items():
            if flags.get(name) is not None:
                values[name], origins[name] = flags[name], source.flag
            elif file and name in file:
                values[name], origins[name] = file[name]
            elif source.env and env.get(source.env):
                values[name], origins[name] = env[source.env], source.env
        return cls._checked(values, origins)

    def with_artifact(self, config: Mapping[str, Any]) -> Settings:
        """Return the settings, completed by the artifact's config where no flag or variable sets a value.

        Args:
            config: The artifact's config; keys that are no settings, or that an artifact may not set, are ignored.

        Raises:
            ConfigError: The config has an invalid value.
            UsageError: ``--devices`` contradicts the config's ``device``.
        """
        fixed = {name for name in self.model_fields_set if self._origins.get(name) != _BATCH_SIZE}
        added = {
            name: config[name]
            for name, source in sources().items()
            if source.in_artifact and config.get(name) is not None and name not in fixed
        }
        if "csv_header" in fixed and self.csv_header == "first":
            added.pop("csv_columns", None)  # names for files without a header
        values = {name: getattr(self, name) for name in self.model_fields_set} | added
        return self._checked(values, self._origins | {name: f"config.{name}" for name in added})

    @property
    def dialect(self) -> csv.Dialect:
        """The dialect of CSV and TSV files.

        Raises:
            ConfigError, UsageError: The settings ``csv_*`` contradict each other.
        """
        return csv.Dialect.of({name: getattr(self, name) for name in csv.PARSERS}, self._origins)

    @classmethod
    def _checked(cls, values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
        settings, problems = check_values(cls, values)
        if settings is None:
            raise _readable(problems, origins)
        settings._origins.update(origins)
        return settings


def sources() -> dict[str, Source]:
    """Return the :class:`Source` of every setting, by name."""
    return {
        name: next(m for m in field.metadata if isinstance(m, Source)) for name, field in Settings.model_fields.items()
    }


def _readable(found: Sequence[Problem], origins: Mapping[str, str]) -> UsageError | ConfigError:
    problems: dict[str, str] = {}
    for problem in found:
        # A problem without a key comes from the only check that reads several settings: _check_process_count.
        names = [problem.key.partition(".")[0]] if problem.key else ["devices", "device"]
        where = " and ".join(origins.get(name, sources()[name].flag) for name in names)
        problems.setdefault(where, str(replace(problem, key=where, value=problem.value if problem.key else "")))
    details = list(problems.values())
    if any(where.startswith("config.") for where in problems):
        fix = "correct these keys in the config and pack the artifact again, or set the flags instead"
        return ConfigError("the artifact's config holds settings that cannot be used", details=details, fix=fix)
    return UsageError("settings that cannot be used", details=details, fix="see bsm run --help")
