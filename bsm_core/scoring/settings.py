"""A job's settings: every flag, environment variable and default in one model.

Precedence is flag, environment variable, artifact config, default; except that ``BATCH_SIZE`` yields to the artifact
config's ``batch_size``, as the inference contract has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from bsm_core.errors import ConfigError, UsageError, nearest
from bsm_core.runtime.precision import Precision


@dataclass(frozen=True)
class Source:
    """Where a setting can come from, beside its default.

    Attributes:
        flag: The command-line flag.
        help: One line for ``--help``.
        env: The environment variable, if any.
        in_artifact: Whether the artifact's config may set it, under the setting's own name.
        metavar: What ``--help`` shows in place of the value.
    """

    flag: str
    help: str
    env: str | None = None
    in_artifact: bool = False
    metavar: str | None = None


def _parse_device(value: Any) -> Any:
    """``"auto"``, ``"cpu"``, ``"gpu"``; a number of GPUs; or a tuple of GPU ids."""
    text = _lower(value)
    if text == "cuda":
        return "gpu"
    if text in ("auto", "cpu", "gpu"):
        return text
    try:
        parsed = json.loads(text) if isinstance(text, str) else text
    except ValueError:  # not JSON, or a number of thousands of digits
        parsed = None
    if _is_int(parsed) and parsed > 0:
        return parsed
    if isinstance(parsed, list | tuple) and parsed and all(_is_int(i) and i >= 0 for i in parsed):
        if len(set(parsed)) < len(parsed):
            raise ValueError("names a GPU twice")
        return tuple(parsed)
    raise ValueError("should be auto, cpu, gpu, cuda, a number of GPUs such as 4, or GPU ids such as [0,2,3]")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _parse_precision(value: Any) -> Any:
    if (text := _lower(value)) in ("auto", *Precision):
        return text
    raise ValueError(f"should be one of auto, {', '.join(Precision)}")


def _parse_columns(value: Any) -> Any:
    return tuple(name for name in value.split(",") if name) if isinstance(value, str) else value


Device = Annotated[Literal["auto", "cpu", "gpu"] | int | tuple[int, ...], BeforeValidator(_parse_device)]
CONTAINER = Path("/opt/ml/processing")


class Settings(BaseModel):
    """All settings of a job; frozen. Build it with :meth:`resolve`."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    job_type: Annotated[
        Literal["inference", "validation", "testing"], Source("--job_type", "type of the inference job")
    ]
    id_field: Annotated[
        str | None, Source("--id-field", "name of the id column (required)", "ID_FIELD", metavar="COLUMN")
    ] = None
    model_dir: Annotated[Path, Source("--model-dir", "artifact: a folder or a model.tar.gz", metavar="PATH")] = (
        CONTAINER / "input/model"
    )
    data_dir: Annotated[Path, Source("--data-dir", "input data: a folder or a file", metavar="PATH")] = (
        CONTAINER / "input/inference_data"
    )
    output_dir: Annotated[Path, Source("--output-dir", "folder of the predictions", metavar="PATH")] = (
        CONTAINER / "output/predictions"
    )
    output_format: Annotated[
        Literal["csv", "tsv", "parquet"] | None,
        BeforeValidator(_lower),
        Source("--output-format", "format of the predictions (default: that of the input)", "OUTPUT_FORMAT", True),
    ] = None
    keep_columns: Annotated[
        tuple[str, ...],
        BeforeValidator(_parse_columns),
        Source("--keep-columns", "input columns to keep, comma-separated, or 'all'", metavar="COLUMNS"),
    ] = ()
    device: Annotated[
        Device,
        Source("--device", "auto, cpu, gpu, a number of GPUs, or GPU ids such as [0,2,3]", "DEVICE", True, "DEVICE"),
    ] = "auto"
    devices: Annotated[
        PositiveInt | None,
        Source("--devices", "number of processes, on the CPU too (default: one a GPU, one on the CPU)", metavar="N"),
    ] = None
    accelerator: Annotated[
        Literal["auto", "cpu", "gpu"],
        BeforeValidator(_lower),
        Source("--accelerator", "accelerator; cpu beats --device", "ACCELERATOR", True),
    ] = "auto"
    batch_size: Annotated[
        PositiveInt,
        Source("--batch-size", "chunks of full length the model sees at once; bounds memory", "BATCH_SIZE", True, "N"),
    ] = 32
    precision: Annotated[
        Literal["auto"] | Precision,
        BeforeValidator(_parse_precision),
        Source("--precision", "precision of the text encoders; auto is fp32 on the CPU", "PRECISION"),
    ] = "auto"
    backend: Annotated[
        str,
        BeforeValidator(_lower),
        Source("--backend", "what computes the text encoders: auto, eager, tuned or onnx", metavar="NAME"),
    ] = "auto"
    num_workers: Annotated[
        NonNegativeInt | None,
        Source(
            "--num-workers",
            "processes that prepare windows (default: none on the CPU, a few on a GPU)",
            "NUM_WORKERS",
            True,
            "N",
        ),
    ] = None
    window_rows: Annotated[PositiveInt, Source("--window-rows", "rows of a window", metavar="N")] = 4096
    run_record: Annotated[bool, Source("--run-record", "write run.json beside the predictions")] = False
    profile: Annotated[bool, Source("--profile", "say at the end where the time went")] = False
    self_check: Annotated[bool, Source("--no-self-check", "run without comparing the artifact's check rows")] = True
    strict: Annotated[
        bool, Source("--strict", "refuse to run where plugins, libraries or files are not those the artifact recorded")
    ] = False

    @model_validator(mode="after")
    def _known_count(self) -> Self:
        asked = len(self.device) if isinstance(self.device, tuple) else self.device
        if self.devices and isinstance(asked, int) and asked != self.devices and self.accelerator != "cpu":
            raise ValueError(f"{self.devices} process(es) contradict {asked} GPU(s)")
        return self

    @classmethod
    def resolve(
        cls, flags: Mapping[str, Any], env: Mapping[str, str], artifact: Mapping[str, Any] | None = None
    ) -> Settings:
        """Merge the layers, by field name.

        Args:
            flags: Values given on the command line or by a caller; None means not given.
            env: Environment variables; an empty one counts as not set.
            artifact: The artifact's config; only its keys that are settings count.

        Raises:
            UsageError: A flag or variable cannot be used, or ``flags`` has a name that is no setting.
            ConfigError: A value of the artifact's config cannot be used.
        """
        if unknown := [name for name in flags if name not in cls.model_fields]:
            near = {name: nearest(name, cls.model_fields) for name in unknown}
            details = [f"{name!r}" + (f"; did you mean {other!r}?" if other else "") for name, other in near.items()]
            raise UsageError("no such setting", details=details, fix=f"the settings are {', '.join(cls.model_fields)}")
        values: dict[str, Any] = {}
        origin: dict[str, str] = {}
        for name, source in sources().items():
            config = (artifact or {}).get(name) if source.in_artifact else None
            layers = [(config, f"config.{name}"), ((env.get(source.env) or None) if source.env else None, source.env)]
            if name == "batch_size":
                layers.reverse()
            for value, where in [*layers, (flags.get(name), source.flag)]:
                if value is not None:
                    values[name], origin[name] = value, str(where)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _readable(error, origin) from None


def sources() -> dict[str, Source]:
    """Every setting's :class:`Source`, by field name."""
    return {
        name: next(m for m in field.metadata if isinstance(m, Source)) for name, field in Settings.model_fields.items()
    }


def _readable(error: ValidationError, origin: Mapping[str, str]) -> UsageError | ConfigError:
    problems: dict[str, str] = {}
    for problem in error.errors():
        name = str(problem["loc"][0]) if problem["loc"] else ""
        # The one check of several settings is that of how many processes.
        names = [name] if name else ["devices", "device"]
        where = " and ".join(origin.get(n, sources()[n].flag) for n in names)
        message = problem["msg"].removeprefix("Value error, ")
        given = f", not {problem['input']!r}" if name in origin else ""
        problems.setdefault(where, f"{where}: {message}{given}")
    details = list(problems.values())
    if any(where.startswith("config.") for where in problems):
        return ConfigError("the artifact's config holds settings that cannot be used", details=details)
    return UsageError("settings that cannot be used", details=details, fix="see python -m bsm_core.run --help")
