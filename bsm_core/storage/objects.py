"""Objects of an object store as paths, so that code reads ``s3://bucket/folder/data.csv`` as it reads a file.

obstore is imported with the first question to a store.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from bsm_core.errors import StorageError, UsageError
from bsm_core.storage.object_names import folders_of, matches
from bsm_core.storage.object_reader import BLOCK_BYTES, ObjectReader
from bsm_core.storage.stores import UnusableNameError, ask, store_of
from bsm_core.storage.urls import SCHEMES, URL

if TYPE_CHECKING:
    from obstore import GetOptions, PutMode, UpdateVersion
    from obstore.store import ObjectStore

_MOST_PARTS, _AT_ONCE = 9_000, 4
"""Of an upload: S3 takes 10,000 parts, and this many of them are in memory."""


class Status(NamedTuple):
    """State of an object, as the store tells it.

    Attributes:
        size: Number of bytes.
        changed: Time of the last change, in nanoseconds.
        version: Entity tag: a new object of the same name has another one. Empty if the store has none.
        generation: The store's own number of the version, as Google's has one; empty if it has none.
    """

    size: int
    changed: int
    version: str
    generation: str = ""

    @property
    def mode(self) -> UpdateVersion:
        """The mode of :meth:`ObjectPath.put` that writes only if the object still has this state."""
        mode: UpdateVersion = {"e_tag": self.version}
        return {**mode, "version": self.generation} if self.generation else mode


class ObjectPath(PosixPath):
    """Path of an object, or of a folder: of the objects whose names begin with the path and a slash.

    Methods that are not written here are those of a path of this machine: those that need no file system work, and the
    others raise ``TypeError``.

    Attributes:
        known: State that the object had when it was looked up; None if it was not.
    """

    known: Status | None = None

    def __str__(self) -> str:
        first, *others = self.parts or (".",)
        return f"{first}//{'/'.join(others)}" if first.endswith(":") else "/".join((first, *others))  # else relative

    def __fspath__(self) -> str:
        raise TypeError(f"{self} is no file of this machine")

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.parts, self.known)

    def with_status(self, known: Status | None) -> ObjectPath:
        """Return the same path with a state that is known; the object is then read only while it has this state."""
        return _unpickled(self.parts, known)

    @property
    def parent(self) -> ObjectPath:
        """Folder of this path; that of a bucket is the bucket, as ``/`` is its own parent."""
        return self if len(self.parts) == 2 and self.parts[0].endswith(":") else super().parent

    @property
    def key(self) -> str:
        """Name of the object in its bucket."""
        return "/".join(self.parts[2:])

    @property
    def store(self) -> ObjectStore:
        """Store of the bucket. See :func:`store_of`."""
        return store_of(f"{self.parts[0]}//{self.parts[1]}")

    def lookup(self) -> Status:
        """Ask the store for the state of the object.

        Raises:
            FileNotFoundError: There is no such object.
            StorageError: The store does not answer, or refuses.
        """
        return _status(ask(self, lambda obstore: obstore.head(self.store, self.key)))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return size and time of the last change: those that are known, or those that the store tells."""
        known = self.known or self.lookup()
        number = int.from_bytes(hashlib.sha256(str(self).encode()).digest()[:7])  # in place of that of an inode
        seconds = known.changed // 10**9
        fields = (stat.S_IFREG, number, 0, 1, 0, 0, known.size, seconds, seconds, seconds)
        return os.stat_result(fields, {"st_mtime_ns": known.changed})

    def is_file(self, *args: Any, **options: Any) -> bool:
        """Return whether there is such an object, other than an empty one that marks a folder."""
        size = self._size
        return self.known is not None or (size is not None and (size > 0 or not self._has_objects()))

    def is_dir(self, *args: Any, **options: Any) -> bool:
        """Return whether an object begins with this path and a slash. A path at which there are bytes is a file."""
        return self._has_objects() and not self._size

    @property
    def _size(self) -> int | None:
        """Number of bytes of the object; None if there is none."""
        try:
            return (self.known or self.lookup()).size if self.key else None
        except FileNotFoundError:
            return None

    def _has_objects(self) -> bool:
        def first(obstore: Any) -> list[Mapping[str, Any]]:
            return next(iter(obstore.list(self.store, self._prefix, chunk_size=2)), [])

        try:
            return any(meta["path"] != self.key for meta in ask(self, first))
        except UnusableNameError:
            return True

    @property
    def _prefix(self) -> str | None:
        return f"{self.key}/" if self.key else None

    def exists(self, *args: Any, **options: Any) -> bool:
        """Return whether there is such an object or folder."""
        return self.is_file() or self.is_dir()

    def is_symlink(self) -> bool:
        """Return False: stores have no links."""
        return False

    def resolve(self, strict: bool = False) -> ObjectPath:
        """Return the path itself: stores have no links."""
        return self

    def absolute(self) -> ObjectPath:
        """Return the path itself."""
        return self

    def mkdir(self, *args: Any, **options: Any) -> None:
        """Do nothing: a folder is there as long as it has objects."""

    def rmdir(self) -> None:
        """Do nothing. See :meth:`mkdir`."""

    def objects(self, after: str = "") -> Iterator[ObjectPath]:
        """Yield the objects of this folder and its sub-folders, with their state, in the order of their names.

        Empty objects with which a console marks a folder are left out.

        Args:
            after: Name in this folder. Only objects whose names follow it in the order of their bytes are listed.

        Raises:
            UnusableNameError: An object has a name that obstore cannot represent.
            StorageError: The store does not answer, or refuses; or two objects have the same path.
        """
        top = type(self)(*self.parts[:2])
        offset = f"{self._prefix or ''}{after}" if after else None
        chunks = ask(self, lambda obstore: list(obstore.list(self.store, self._prefix, offset=offset)))
        found = [meta for chunk in chunks for meta in chunk if meta["path"] != self.key]
        folders, seen = folders_of([meta["path"] for meta in found]), set()
        for meta in found:
            if meta["path"] in folders and not meta["size"]:
                continue
            path = top.joinpath(meta["path"]).with_status(_status(meta))
            if path in seen:  # obstore leaves out a slash at the end of a name, and at the beginning
                what = "two objects have names that differ only in a slash at the beginning or the end"
                raise StorageError(what, where=str(path), fix="rename the one with the slash")
            seen.add(path)
            yield path

    def walk_objects(self) -> Iterator[tuple[ObjectPath, list[str], list[ObjectPath]]]:
        """Yield this folder and its sub-folders, each with the names of its folders and its objects, as ``os.walk``.

        A folder whose name the caller removes from the list is left out.

        Raises:
            UnusableNameError: An object or a folder in one of these folders has a name that obstore cannot represent.
            StorageError: See :meth:`objects`.
        """
        try:
            found = list(self.objects())
        except UnusableNameError:  # folder by folder: the object may lie in one that is left out
            inside = list(self.iterdir())
            names = [path.name for path in inside if path.known is None]
            yield self, names, [path for path in inside if path.known is not None]
            for name in names:
                yield from (self / name).walk_objects()
        else:
            yield from self._walk(found)

    def _walk(self, found: Sequence[ObjectPath]) -> Iterator[tuple[ObjectPath, list[str], list[ObjectPath]]]:
        names: dict[Path, dict[str, None]] = defaultdict(dict)
        files: dict[Path, list[ObjectPath]] = defaultdict(list)
        for path in found:
            files[here := path.parent].append(path)
            while here != self and here.name not in names[here.parent]:
                names[here.parent][here.name] = None
                here = here.parent
        pending = [self]
        while pending:
            folder = pending.pop()
            inside = sorted(names[folder])
            yield folder, inside, files[folder]
            pending += [folder / name for name in reversed(inside)]

    def iterdir(self) -> Generator[ObjectPath, None, None]:
        """Yield the folders and the objects in this folder."""
        found = ask(self, lambda obstore: obstore.list_with_delimiter(self.store, self.key or None))
        yield from (self / name.rpartition("/")[2] for name in found["common_prefixes"])
        for meta in found["objects"]:
            if meta["path"] != self.key:
                yield (self / meta["path"].rpartition("/")[2]).with_status(_status(meta))

    def glob(self, pattern: str, *args: Any, **options: Any) -> Generator[ObjectPath, None, None]:
        """Yield the objects and folders below this one that match a pattern; ``**`` is any number of folders."""
        wanted = Path(pattern).parts
        for folder, _, files in self.walk_objects():
            if folder != self and matches(folder.parts[len(self.parts) :], wanted):
                yield folder
            yield from (file for file in files if matches(file.parts[len(self.parts) :], wanted))

    def open(self, mode: str = "r", buffering: int = -1, *args: Any, **options: Any) -> Any:
        """Open the object for reading, as bytes.

        Raises:
            io.UnsupportedOperation: The mode is another one than ``"rb"``.
            FileNotFoundError, StorageError: See :meth:`lookup`.
        """
        if mode != "rb":
            raise io.UnsupportedOperation(f"{self} can be opened for reading bytes only")
        reader = self.reader()
        return reader if buffering == 0 else io.BufferedReader(reader, 1 << 16)

    def reader(self, stop: int | None = None) -> ObjectReader:
        """Return a reader of the object as it is known, or as it is now.

        Args:
            stop: Position after which nothing is read ahead. None: the end.
        """
        known = self.known or self.lookup()
        return ObjectReader(self.with_status(known).read_range, known.size, stop)

    def read_range(self, start: int, end: int) -> memoryview:
        """Return the bytes from one position to another.

        Raises:
            ObjectChangedError: The object is no longer the one whose state is known.
            FileNotFoundError, StorageError: See :meth:`lookup`.
        """
        options: GetOptions = {"range": (start, end), "if_match": (self.known.version or None) if self.known else None}
        return memoryview(ask(self, lambda obstore: obstore.get(self.store, self.key, options=options).bytes()))

    def read_bytes(self) -> bytes:
        """Return the content of a small object, as it is now. See :meth:`lookup`."""
        return bytes(ask(self, lambda obstore: obstore.get(self.store, self.key).bytes()))

    def read_text(self, encoding: str | None = None, errors: str | None = None, *args: Any, **options: Any) -> str:
        """Return the content of a small object as text. See :meth:`lookup`."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def put(self, content: bytes | memoryview | Path, mode: PutMode = "overwrite") -> UpdateVersion:
        """Write the object, whole or not at all, and return its version.

        Args:
            content: The bytes, or the file that has them. A large file is sent in parts: the last request makes the
                object of them, and after an error they are thrown away.
            mode: ``"create"``: only if there is no such object. A version: only if the object has it.

        Raises:
            FileExistsError: There is such an object, and ``mode`` is ``"create"``.
            ObjectChangedError: The object does not have the version.
            StorageError: The store does not answer, or refuses.
        """
        body = content if isinstance(content, Path) else memoryview(content).cast("B")
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        options = {"mode": mode, "chunk_size": max(BLOCK_BYTES, -(-size // _MOST_PARTS)), "max_concurrency": _AT_ONCE}
        written = ask(self, lambda obstore: obstore.put(self.store, self.key, body, **options))
        version: Any = {name: value for name, value in written.items() if value is not None}
        return version  # type: ignore[no-any-return]

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object, if it is there."""
        self.remove([self])

    def remove_tree(self) -> None:
        """Remove the objects of this folder and its sub-folders, if there are any."""
        self.remove(list(self.objects()))

    def remove(self, paths: Sequence[ObjectPath]) -> None:
        """Remove objects of the bucket, those that are there.

        Raises:
            StorageError: The store does not answer, or refuses.
        """
        if keys := [path.key for path in paths]:
            try:
                ask(self, lambda obstore: obstore.delete(self.store, keys))
            except FileNotFoundError:  # of a store that removes one by one, and keeps those after the missing one
                for path in paths if len(paths) > 1 else ():
                    path.unlink()


def _unpickled(parts: Sequence[str], known: Status | None) -> ObjectPath:
    path = ObjectPath(*parts)
    if known is not None:
        path.known = known
    return path


def _status(meta: Mapping[str, Any]) -> Status:
    changed = int(meta["last_modified"].timestamp() * 10**9)
    return Status(meta["size"], changed, meta["e_tag"] or "", meta["version"] or "")


def place(text: str | os.PathLike[str]) -> Path:
    """Return the path that a text names: a path of this machine, a ``file://`` URL, or a URL of an object store.

    A URL in a ``pathlib.Path`` has lost one of its two slashes. It is understood if there is no such path here.

    Raises:
        StorageError, UsageError: See :meth:`~bsm_core.storage.urls.URL.require_usable`; or a character is NUL.
    """
    if "\0" in str(text):
        raise UsageError("no path has a NUL character", where=str(text), fix="check the path")
    if isinstance(text, Path):
        scheme = text.parts[0][:-1] if text.parts and text.parts[0].endswith(":") else ""
        if isinstance(text, ObjectPath) or scheme not in (*SCHEMES, "file") or text.exists():
            return text
        text = f"{scheme}://{'/' * (scheme == 'file')}{'/'.join(text.parts[1:])}"
    text = os.fspath(text)
    url = URL.of(text)
    if url is None or (url.scheme not in (*SCHEMES, "file") and Path(text).exists()):
        return Path(text)
    if url.scheme == "file" and url.bucket in ("", "localhost"):
        return Path(unquote(url.key))
    url.require_usable()
    return ObjectPath(f"{url.scheme}:", url.bucket, *filter(None, url.key.split("/")))


def pinned(path: Path) -> Path:
    """Return a path; that of an object with the state that it has now. See :meth:`ObjectPath.lookup`."""
    return path.with_status(path.lookup()) if isinstance(path, ObjectPath) else path


def walk(folder: Path) -> Iterator[tuple[Path, list[str], Sequence[Path]]]:
    """Yield a folder and its sub-folders, each with the names of its folders and its files. Links are followed.

    A folder whose name the caller removes from the list is left out.

    Raises:
        OSError: A folder cannot be listed.
    """
    if isinstance(folder, ObjectPath):
        yield from folder.walk_objects()
        return
    for here, names, files in os.walk(folder, followlinks=True, onerror=_raise):
        yield Path(here), names, [Path(here, name) for name in files]


def _raise(error: OSError) -> None:
    # Without this, os.walk ignores a folder that it cannot list, and the files in that folder would be lost.
    raise error


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in a folder; none if it cannot be listed."""
    if isinstance(folder, ObjectPath):
        with suppress(UnusableNameError):
            return [path.name for path in folder.iterdir() if path.known is None]
        return []
    return next(os.walk(folder), ("", [], []))[1]
