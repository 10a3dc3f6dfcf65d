"""Objects of an object store, as paths: ``s3://bucket/prefix/key`` and whatever else obstore offers.

An :class:`ObjectPath` answers the questions that code asks a ``pathlib.Path``. obstore is imported with the first one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from bsm_core.errors import StorageError, UsageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss", "http", "https")
_RETRIES = {"max_retries": 6}


class Status(NamedTuple):
    """What is known of an object, with the names of ``os.stat_result``.

    Attributes:
        st_size: Number of bytes.
        st_mtime_ns: Time of the last change, in nanoseconds.
        version: Entity tag: it is another one when the object was replaced.
        st_mode: That of a plain file.
    """

    st_size: int
    st_mtime_ns: int
    version: str
    st_mode: int = stat.S_IFREG


class ObjectPath(PurePosixPath):
    """Path of an object, or of the objects that begin with it and a slash: a folder.

    Attributes:
        known: Status that the object had when it was found; None if it was not looked up.
    """

    known: Status | None = None

    def __str__(self) -> str:
        scheme, *rest = self.parts or ("",)
        return f"{scheme}//{'/'.join(rest)}"

    def __fspath__(self) -> str:
        raise TypeError(f"{self} is no file of this machine")

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (str(self), self.known)

    def with_status(self, known: Status) -> ObjectPath:
        """Return the same path with a status that is known."""
        found = type(self)(*self.parts)
        found.known = known
        return found

    @property
    def key(self) -> str:
        """Name of the object in its bucket."""
        return "/".join(self.parts[2:])

    @property
    def bucket(self) -> str:
        """URL of the bucket."""
        return f"{self.parts[0]}//{self.parts[1]}"

    def lookup(self) -> Status:
        """Ask for the status of the object now.

        Raises:
            FileNotFoundError: There is no such object.
            StorageError: The store does not answer, or refuses.
        """
        import obstore

        with answering(self):
            return _status(obstore.head(store_of(self.bucket), self.key))

    def stat(self) -> Status:
        """Return the status that is known, or ask for it. See :meth:`lookup`."""
        return self.known or self.lookup()

    def is_file(self) -> bool:
        """Return whether there is such an object."""
        if self.known is not None:
            return True
        try:
            return bool(self.key) and bool(self.lookup())
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Return whether an object begins with this path and a slash."""
        return next(self.objects(), None) is not None

    def exists(self) -> bool:
        """Return whether there is such an object or folder."""
        return self.is_file() or self.is_dir()

    def objects(self) -> Iterator[ObjectPath]:
        """Yield the objects of this folder and of its sub-folders, with their status, in the order of their names.

        Raises:
            StorageError: The store does not answer, or refuses.
        """
        import obstore

        with answering(self):
            for chunk in obstore.list(store_of(self.bucket), f"{self.key}/" if self.key else None):
                for found in chunk:
                    if not found["path"].endswith("/"):  # a folder that a console has made
                        yield ObjectPath(f"{self.bucket}/{found['path']}").with_status(_status(found))

    def read_range(self, start: int, size: int) -> memoryview:
        """Return bytes of the object.

        Args:
            start: Position of the first byte.
            size: Number of bytes, which the object has.

        Raises:
            StorageError: The object was changed since its status is known, or cannot be read.
        """
        import obstore

        known = self.stat()
        with answering(self):
            options = {"range": (start, start + size), "if_match": known.version}
            return memoryview(obstore.get(store_of(self.bucket), self.key, options=options).bytes())

    def read_bytes(self) -> bytes:
        """Return the content of the object. See :meth:`lookup`."""
        import obstore

        with answering(self):
            return bytes(obstore.get(store_of(self.bucket), self.key).bytes())


def _unpickled(url: str, known: Status | None) -> ObjectPath:
    path = ObjectPath(url)
    return path if known is None else path.with_status(known)


def _status(meta: Mapping[str, Any]) -> Status:
    changed = int(meta["last_modified"].timestamp() * 1e9)
    return Status(meta["size"], changed, meta["e_tag"] or meta["version"] or str(changed))


def place(text: str | os.PathLike[str]) -> Path | ObjectPath:
    """Return the path that a text names: a URL of an object store, ``file://``, or a path of this machine.

    Raises:
        UsageError: The URL has a scheme that is not known, or no bucket.
    """
    if isinstance(text, ObjectPath):
        return text
    scheme, mark, _ = str(text).partition("://")
    if not mark:
        return Path(text)
    parts = urlsplit(str(text))
    if scheme == "file":
        return Path(parts.path)
    if scheme not in SCHEMES or not parts.netloc or parts.username or parts.password:
        fix = f"give a path, file://, or s3://BUCKET/PREFIX; the schemes are {', '.join(SCHEMES)}"
        raise UsageError("the URL cannot be used", where=str(text) if not parts.password else scheme, fix=fix)
    return ObjectPath(f"{scheme}://{parts.netloc}{parts.path}")


@cache
def store_of(bucket: str) -> ObjectStore:
    """Return the store of a bucket. Its credentials are those of the usual variables, files and instances.

    Raises:
        UsageError: obstore is not installed.
        StorageError: The variables contradict each other.
    """
    if find_spec("obstore") is None:
        raise UsageError(f"{bucket} needs obstore", fix="pip install 'bsm-core[s3]'")
    from obstore.store import from_url

    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    with answering(bucket):
        return from_url(bucket, client_options={"allow_http": plain, "timeout": "60s"}, retry_config=_RETRIES)


@contextmanager
def answering(path: object) -> Iterator[None]:
    """Turn errors of obstore into ours. What the store has said is left out: it may hold keys and signatures."""
    from obstore import exceptions as errors

    try:
        yield
    except (FileNotFoundError, errors.NotFoundError) as error:
        raise FileNotFoundError(2, "there is no such object", str(path)) from error
    except errors.PreconditionError:
        raise ObjectChangedError(
            "the object was changed while it was read",
            where=str(path),
            fix="run again when nothing writes to the object any more; the run begins anew then",
        ) from None
    except (errors.PermissionDeniedError, errors.UnauthenticatedError):
        what, fix = "the store refuses access", "check the credentials, and that they may read and write there"
        raise StorageError(what, where=str(path), fix=fix) from None
    except (errors.BaseError, OSError) as error:
        refused = any(sign in str(error) for sign in ("403", "401", "SignatureDoesNotMatch", "InvalidAccessKeyId"))
        what = "the store refuses access" if refused else f"the store does not answer: {type(error).__name__}"
        fix = "check the credentials" if refused else "check the network, the region and AWS_ENDPOINT_URL"
        raise StorageError(what, where=str(path), fix=fix) from None


class ObjectChangedError(StorageError):
    """An object is another one than it was when the run began."""
