"""Examination of an installation, for ``bsm doctor``: versions, devices, memory, backends and plugins."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bsm_core.backends.choose import choose_backends, encoders_of
from bsm_core.backends.export import export
from bsm_core.backends.onnx_runtime import ONNX, PACKAGES
from bsm_core.errors import BSMError, PluginError, printable
from bsm_core.models.base import ModelBase
from bsm_core.models.encoder import EAGER
from bsm_core.plugins.listing import loaded_components
from bsm_core.plugins.registry import Registry, default_registry
from bsm_core.preprocess.steps import TextStep
from bsm_core.runtime.cpus import cores
from bsm_core.runtime.memory import limit_in_words
from bsm_core.runtime.precision import Precision
from bsm_core.runtime.versions import installed
from bsm_core.testing.model_checks import ModelSubject

_EXTRAS = {
    "baselines": "scikit-learn",
    "lora": "peft",
    "mlflow": "mlflow-skinny",
    "onnx": "onnxruntime",
    "ray": "ray",
    "s3": "obstore",
    "tensorboard": "tensorboardx",
}
"""Package of each extra."""
_AVAILABLE = re.compile(r"MemAvailable:\s*(\d+) kB")


@dataclass(frozen=True)
class Installation:
    """State of an installation.

    Attributes:
        versions: Versions of Python, bsm and the libraries that probabilities depend on.
        extras: Version of the package of each extra, by the extra's name; None if it is not installed.
        platform: Operating system and processor.
        cores: Number of cores that a run uses.
        threads: Number of threads of PyTorch.
        kernels: Instruction set of PyTorch's kernels, and whether oneDNN is there.
        gpus: Name of each GPU, with its free and its whole memory in bytes.
        free_memory: Free memory of this machine in bytes; None if unknown.
        memory_limit: Sentence about the memory that a process may use; None if there is no limit.
        free_temporary: Free bytes of the folder for temporary files.
        encoders: For each kind of text encoder, by its class: for each backend, the precisions in which it works here.
            The backend ``"onnx"`` is there if the packages of its extra are.
        plugins: Name and version of each distribution with plugins.
        problems: Sentences, one for each plugin or backend that does not work.
    """

    versions: dict[str, str]
    extras: dict[str, str | None]
    platform: str
    cores: int
    threads: int
    kernels: dict[str, str]
    gpus: list[dict[str, Any]]
    free_memory: int | None
    memory_limit: str | None
    free_temporary: int
    encoders: dict[str, dict[str, list[str]]]
    plugins: list[str]
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return what was found as JSON values."""
        return asdict(self)

    def to_text(self) -> str:
        """Return what was found as text for people."""
        free = "unknown" if self.free_memory is None else _gigabytes(self.free_memory)
        gpus = [f"{g['name']}: {_gigabytes(g['free'])} of {_gigabytes(g['memory'])} free" for g in self.gpus]
        memory = [f"{free} free", f"{_gigabytes(self.free_temporary)} free in {tempfile.gettempdir()}"]
        sections = [
            ("versions", [f"{name} {version}" for name, version in self.versions.items()]),
            ("extras", [f"{name}: {version or 'not installed'}" for name, version in self.extras.items()]),
            ("machine", [self.platform, f"{self.cores} core(s), {self.threads} thread(s) of PyTorch"]),
            ("GPUs", gpus or ["none that PyTorch can use"]),
            ("kernels", [f"{name}: {value}" for name, value in self.kernels.items()]),
            ("memory", [*memory, *([self.memory_limit] if self.memory_limit else [])]),
            *((f"backends of {name}", _backend_lines(works)) for name, works in self.encoders.items()),
            ("plugins", self.plugins or ["none"]),
            ("problems", self.problems or ["none"]),
        ]
        return "\n".join("\n  ".join([title, *map(printable, lines)]) for title, lines in sections)


def examine(registry: Registry | None = None) -> Installation:
    """Examine this installation: import every plugin, and try the backends of every kind of text encoder.

    Args:
        registry: The plugins; the default registry where None.
    """
    registry = registry or default_registry()
    problems = [f"{failure.provider}: {failure.reason}" for failure in registry.failures]
    subjects: list[ModelSubject] = []
    for component, found in loaded_components(registry, {"step": TextStep, "model_class": ModelBase}):
        if isinstance(found, PluginError):
            problems.append(f"{component.provider}: {found.one_line()}")
        elif component.kind == "model_class" and isinstance(found, type):
            subjects.append(ModelSubject(component, found))
    return Installation(
        versions=installed(),
        extras={name: _version(package) for name, package in _EXTRAS.items()},
        platform=f"{platform.system()} {platform.release()}, {platform.machine()}",
        cores=cores(),
        threads=torch.get_num_threads(),
        kernels=_kernels(),
        gpus=[_gpu(number) for number in range(torch.cuda.device_count())],
        free_memory=_free_memory(),
        memory_limit=limit_in_words(),
        free_temporary=shutil.disk_usage(tempfile.gettempdir()).free,
        encoders=_encoders(subjects, problems),
        plugins=sorted(map(str, registry.providers)),
        problems=problems,
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _kernels() -> dict[str, str]:
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "oneDNN": "available" if onednn else "not available: the backend of the CPU is slower without it",
        "CUDA": torch.version.cuda or "not in this build of PyTorch",
    }


def _gpu(number: int) -> dict[str, Any]:
    free, memory = torch.cuda.mem_get_info(number)
    return {"name": torch.cuda.get_device_name(number), "free": free, "memory": memory}


def _free_memory() -> int | None:
    try:
        found = _AVAILABLE.search(Path("/proc/meminfo").read_text())
    except OSError:  # not Linux
        return None
    return int(found[1]) << 10 if found else None


def _encoders(subjects: list[ModelSubject], problems: list[str]) -> dict[str, dict[str, list[str]]]:
    """Try each backend of each kind of encoder in each precision, on the CPU, with small models."""
    works: dict[str, dict[str, list[str]]] = {}
    for subject in subjects:
        try:
            model = subject.build()
            kinds = {type(encoder).__name__: encoder for encoder in encoders_of(model).values()}
            for name, encoder in kinds.items():
                if name not in works:
                    offered = [EAGER, *encoder.backends()]
                    works[name] = {backend: _precisions(model, backend, subject) for backend in offered}
                    if all(map(importlib.util.find_spec, PACKAGES)):
                        works[name][ONNX] = _exported(model, name, problems)
        except Exception as error:  # noqa: BLE001 - a model class of a plugin may raise anything
            problems.append(f"{subject.component.provider}: model class {subject.component.name!r}: {_in_words(error)}")
    return works


def _exported(model: ModelBase, kind: str, problems: list[str]) -> list[str]:
    """Export the encoders of a model, and return the precisions in which ONNX Runtime computes them: fp32, or none."""
    with tempfile.TemporaryDirectory(prefix="bsm-doctor-") as folder, _without_log():
        try:
            export(model, Path(folder))
        except Exception as error:  # noqa: BLE001 - the code of a plugin may raise anything, and so may the exporter
            problems.append(f"backend {ONNX!r} of {kind}: {_in_words(error)}")
            return []
    return [str(Precision.FP32)]


def _in_words(error: Exception) -> str:
    return error.one_line() if isinstance(error, BSMError) else f"{type(error).__name__}: {error}"


def _precisions(model: ModelBase, backend: str, subject: ModelSubject) -> list[str]:
    """Return the precisions in which a backend computes the vectors of the encoders of a model."""
    found: list[str] = []
    for precision in Precision:
        with _without_log():
            try:
                choose_backends(model, precision=precision, backend=backend, sample=subject.batch(range(8)))
                found.append(str(precision))
            except (BSMError, RuntimeError, NotImplementedError):  # the processor, or the backend, does not have it
                continue
    return found


@contextmanager
def _without_log() -> Iterator[None]:
    log = logging.getLogger("bsm")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _backend_lines(works: dict[str, list[str]]) -> list[str]:
    return [f"{backend}: {', '.join(found) or 'does not work here'}" for backend, found in works.items()]


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
