"""Making an artifact of a model that other tools trained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

from bsm_core.artifact import Artifact, unpacked
from bsm_core.artifact.check_rows import write_check_rows
from bsm_core.artifact.files import (
    HYPERPARAMETERS,
    MODEL_ARTIFACTS,
    find,
    is_pointer,
    read_json_object,
    refuse_pointers,
)
from bsm_core.artifact.save import publish_artifact, require_new
from bsm_core.errors import MissingArtifactFilesError, UnsafeArtifactError, UsageError
from bsm_core.plugins.hooks import without_hooks
from bsm_core.plugins.registry import Registry, default_registry
from bsm_core.predictor import Predictor
from bsm_core.runtime.durable import writing
from bsm_core.scoring.provenance import add_provenance
from bsm_core.scoring.self_check import make_of_files
from bsm_core.storage.objects import ObjectPath, place
from bsm_core.storage.temporary import download, temporary_folder
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.read import TableSource
from bsm_core.training.importing.checkpoint_file import fill_from_checkpoint
from bsm_core.training.importing.job_folder import fill_from_job_folder
from bsm_core.training.importing.transformers_folder import fill_from_transformers, is_transformers_folder

_FIRST_BYTES = (b"PK\3\4", b"\x80")
"""First bytes of files of ``torch.save``: a zip file since version 1.6, a pickle before."""
_OTHER_ARCHIVES = (".tgz", ".zip", ".tar", ".gz")
_UNPACK = "unpack it, and give the folder"
_OPTIONS = {"config": "the file with the artifact's config", "text_column": "the column of the text"}
"""Arguments that a kind of source needs, in words."""


def import_model(
    source: str | Path,
    destination: str | Path,
    *,
    text_column: str | None = None,
    max_sen_len: int | None = None,
    config: str | Path | None = None,
    data: str | Path | None = None,
    registry: Registry | None = None,
) -> Path:
    """Make an artifact of a model that other tools trained. No code of the model is run, and nothing is downloaded.

    Args:
        source: One of three, which is recognized by its content: a folder with a sequence classifier of transformers
            and its tokenizer, as ``save_pretrained`` writes it; a checkpoint of Lightning or another file with a state
            dict; or a folder of a training job that lacks files of an artifact. A folder may be packed.
        destination: A new folder; or a new archive whose name ends in ``.tar.gz``.
        text_column: Column of the text, for a sequence classifier.
        max_sen_len: Tokens of a text that are read, with special tokens, for a sequence classifier. None: 512, or
            fewer if the encoder has fewer positions, or the tokenizer a smaller ``model_max_length``.
        config: JSON or TOML file with the artifact's config, for a checkpoint; see :doc:`how-to/import-a-model`.
        data: Table whose first rows are scored and stored as check rows.
        registry: Registry in which names are looked up; the default registry of the process if None.

    Returns:
        The destination.

    Raises:
        UsageError: The destination is there already or lies in the source, or an argument is missing or belongs to
            another kind of source.
        MissingArtifactFilesError: Files are missing; the error lists all of them.
        WeightsMismatchError: The weights do not fit the model; the error lists all differences.
        BSMError: A file cannot be used, a config key is wrong, or the model cannot score ``data``.

    Example:
        Import a model, and score rows with it. A classifier of transformers also needs ``text_column="review"``::

            artifact = bsm_core.import_model("model.tar.gz", "imported")
            frame = bsm_core.Predictor.from_artifact(artifact).predict(rows)  # rows: a table
    """
    source, destination = place(source), place(destination)
    _check_destination(destination, source)
    registry = without_hooks(registry or default_registry())
    if max_sen_len is not None and max_sen_len < 1:
        raise UsageError(f"max_sen_len={max_sen_len!r} cannot be used", fix="give a number of tokens, 1 or more")
    options = {"text_column": text_column, "max_sen_len": max_sen_len, "config": config}
    with _files(source) as files, writing(destination):
        publish_artifact(
            destination,
            _filler(files, options, registry),
            safe_only=True,
            before_publishing=partial(_finish, data=data, registry=registry),
        )
    return destination


def _check_destination(destination: Path, source: Path) -> None:
    """Check that an artifact can be written to a place.

    Raises:
        UsageError: It is there already, lies in the source, or has the name of an archive that is not written.
    """
    require_new(destination, source)
    if source.resolve() in destination.resolve().parents:
        raise UsageError("the destination lies in the source", where=str(destination), fix="name a place outside of it")
    if destination.suffix in _OTHER_ARCHIVES and not destination.name.endswith(".tar.gz"):
        what = f"no archive of the form {destination.suffix} is written"
        raise UsageError(what, where=str(destination), fix="name a folder, or an archive that ends in .tar.gz")


def _refuse_links(folder: Path) -> None:
    """Check that no file of a folder is a link to a place outside, but for the blobs of a Hugging Face cache.

    Raises:
        UnsafeArtifactError: There are such links; the error lists all of them.
    """
    if isinstance(folder, ObjectPath):
        return
    own = folder.resolve()
    blobs = own.parent.parent / "blobs"
    outside = [
        f"{path.relative_to(folder)} -> {target}"
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() and not (target := path.resolve()).is_relative_to(own) and target.parent != blobs
    ]
    if outside:
        raise UnsafeArtifactError(
            f"{len(outside)} file(s) are links to places outside of the folder",
            where=str(folder),
            details=outside,
            fix="if you trust the folder, put a copy of the files in the place of the links, with `cp -rL`",
        )


def _filler(files: Path, options: Mapping[str, Any], registry: Registry) -> Callable[[Path], None]:
    """Return the function that writes the artifact of a source, whose content says of which kind it is.

    Raises:
        UsageError: An option is missing or belongs to another kind of source.
    """
    if files.is_file():
        _check_options("a checkpoint", options, needs="config")
        return partial(fill_from_checkpoint, source=files, config=place(options["config"]), registry=registry)
    _refuse_links(files)
    if not _has_config(files) and is_transformers_folder(files):
        _check_options("a sequence classifier", options, needs="text_column", takes=["max_sen_len"])
        given = {key: options[key] for key in ("text_column", "max_sen_len")}
        return partial(fill_from_transformers, source=files, registry=registry, **given)
    _check_options("the folder of a training job, which has a config of its own", options)
    return partial(fill_from_job_folder, source=files, registry=registry)


def _has_config(folder: Path) -> bool:
    """Return whether a folder has the config of an artifact; other tools also write a ``hyperparameters.json``."""
    path = folder / HYPERPARAMETERS
    return find(folder, (MODEL_ARTIFACTS,)) is not None or (path.is_file() and "model_class" in read_json_object(path))


def _check_options(
    kind: str, options: Mapping[str, Any], needs: str | None = None, takes: Collection[str] = ()
) -> None:
    if needs is not None and not options[needs]:
        flag = f"--{needs.replace('_', '-')}"
        raise UsageError(f"{needs} is missing: the source is {kind}", fix=f"give {_OPTIONS[needs]}: {flag}")
    for key, value in options.items():
        if value is not None and key != needs and key not in takes:
            raise UsageError(f"{key} cannot be used: the source is {kind}", fix=f"leave {key} out")


@contextmanager
def _files(source: Path) -> Iterator[Path]:
    """Provide the source's folder, or the file of a checkpoint."""
    if not source.is_file() or not _is_checkpoint(source):
        try:
            with unpacked(source, keep=True) as folder:
                yield folder
        except MissingArtifactFilesError as error:
            if source.is_file():  # of an archive, only the files of an artifact are extracted
                error.fix = "if the archive has them, unpack it, and give the folder"
            raise
    elif isinstance(source, ObjectPath):
        with temporary_folder() as folder:
            download({source.name: source}, folder)
            yield folder / source.name
    else:
        refuse_pointers(source.parent, [source])
        yield source


def _is_checkpoint(file: Path) -> bool:
    if file.suffix == ".safetensors" or is_pointer(file):
        return True
    with file.open("rb") as opened:
        found = opened.read(4).startswith(_FIRST_BYTES)
        if found and file.suffix == ".zip" and not _is_of_torch(opened):
            raise UsageError("the source is a .zip archive, which is not read", where=str(file), fix=_UNPACK)
        return found


def _is_of_torch(opened: IO[bytes]) -> bool:
    try:
        names = ZipFile(opened).namelist()
    except BadZipFile:
        return True  # which reading it tells
    return any(name.rpartition("/")[2] == "data.pkl" for name in names)


def _finish(artifact: Artifact, data: str | Path | None, registry: Registry) -> None:
    """Build the model and the pipelines of the new artifact, and store check rows and what made it."""
    dialect = Dialect.of_config(artifact.config.as_mapping())
    table = None if data is None else TableSource.open(place(data), dialect=dialect)
    predictor = Predictor.load(artifact, source=table, registry=registry)
    if table is not None:
        write_check_rows(artifact.folder, make_of_files(predictor, table))
    add_provenance(artifact.folder, predictor)
