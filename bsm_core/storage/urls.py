"""URLs of places: which of them can be used, and which of them messages may show."""

from __future__ import annotations

import re
from typing import NamedTuple

from bsm_core.errors import StorageError, UsageError

SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss")
_WITH_ACCOUNT = ("abfs", "abfss")
"""Schemes whose URLs may name an account after the container: ``abfss://container@account.dfs.core.windows.net``."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://([^/]*)(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9_$][A-Za-z0-9_$.-]*")
_SIGNED = re.compile(r"[?#](?:.*[&;])?[^=&;/]*(?:sig|token|cred|key|secret|pass|auth)[^=&;/]*=", re.DOTALL | re.I)
"""Query of a URL with a signature, such as that of a presigned URL or a SAS token."""
_UNUSABLE = re.compile(r"/\.\.(?:/|$)|[\x00-\x1f\x7f]")
"""Parts of names that obstore refuses: a folder ``..``, and control characters."""


class URL(NamedTuple):
    """The three parts of a URL.

    Attributes:
        scheme: Letters before ``://``.
        bucket: Text from there to the first slash, which may hold an account or a password.
        key: The rest, with this slash.
    """

    scheme: str
    bucket: str
    key: str

    @classmethod
    def of(cls, text: str) -> URL | None:
        """Return the URL that a text is; None if it is none."""
        match = _URL.fullmatch(text)
        return cls(*match.groups()) if match else None

    @property
    def may_hold_secret(self) -> bool:
        """Whether the URL has a user, a password, or a signature. A password may hold slashes."""
        user, at, host = self.bucket.rpartition("@")
        port = host.partition(":")[2] if ":" in host else "0"
        with_user = at and not (self.scheme in _WITH_ACCOUNT and _BUCKET.fullmatch(user))
        return bool(
            with_user
            or not port.isdecimal()
            or (":" in host and "@" in self.key)
            or _SIGNED.search(self.bucket + self.key)
        )

    def require_usable(self) -> None:
        """Check that the URL names an object, a folder or a bucket of an object store, and holds no secret.

        Raises:
            StorageError: The URL may hold a secret, which messages, logs and records would show.
            UsageError: The URL has a scheme that is not known, no bucket, or a name that no store takes.
        """
        if self.may_hold_secret:
            what = "the URL may hold a password, a key or a signature, which messages and records would show"
            fix = "give the URL without it, and the credentials in variables such as AWS_ACCESS_KEY_ID"
            raise StorageError(what, where=f"{self.scheme}://...", fix=fix)
        where = f"{self.scheme}://{self.bucket}{self.key}"
        bucket = self.bucket.rpartition("@")[0] if self.scheme in _WITH_ACCOUNT and "@" in self.bucket else self.bucket
        if self.scheme not in SCHEMES or not _BUCKET.fullmatch(bucket):
            fix = f"give a path, file:///PATH or s3://BUCKET/PATH; the schemes are {', '.join(SCHEMES)}"
            raise UsageError("the URL cannot be used", where=where, fix=fix)
        if _UNUSABLE.search(self.key):
            what = "the URL cannot be used: it has .. or a control character, such as a tab"
            raise UsageError(what, where=where, fix="write the whole name of the object or folder, or rename it")


def shown(text: str) -> str:
    """Return a text for a message, cut where it begins with a URL that may hold a secret."""
    for match in re.finditer(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        url = URL.of(text[match.start() :])
        if url and url.may_hold_secret:
            return f"{text[: match.end()]}..."
    return text
