"""The stores of buckets, and their errors in words that show no secret."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from bsm_core.errors import BSMError, ObjectChangedError, StorageError, UsageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RETRIES: Mapping[str, Any] = {"max_retries": 8}
"""The pauses double, from 0.1 s: a store that does not answer is an error after half a minute."""
PAUSES_S = (0.1, 1.0, 5.0)
"""Seconds between requests whose answers were cut off."""
_REPEATED = re.compile(r"after \d+ retries")
_ADDRESS = re.compile(r"_ENDPOINT(?:_URL(?:_S3)?)?$|_BASE_URL$")
"""End of the name of a variable that has the URL of a server."""
_SENT = re.compile(
    r"(?:AWS|AZURE)_(?:\w+_)?(?:ID|KEY|TOKEN|SECRET|REGION|(?:ACCOUNT|SESSION)_NAME)|GOOGLE_BEARER_TOKEN"
)
"""Name of a variable that is sent with a request, or signs it."""


class _Provider(NamedTuple):
    """Variables with which obstore finds the stores of a scheme.

    Attributes:
        prefix: First letters of the names of the variables that obstore reads for the scheme.
        credentials: Variables with credentials, in words.
        address: Variable with the URL of the server, or of the account.
        usual: Variables to look at first.
    """

    prefix: str
    credentials: str
    address: str
    usual: str


_AWS = _Provider(
    "AWS_", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION and AWS_ENDPOINT_URL"
)
_GOOGLE = _Provider("GOOGLE_", "GOOGLE_SERVICE_ACCOUNT to the path of a key file", "GOOGLE_BASE_URL", "GOOGLE_BASE_URL")
_AZURE = _Provider(
    "AZURE_",
    "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT",
)
_PROVIDERS = {"s3": _AWS, "s3a": _AWS, "gs": _GOOGLE, "az": _AZURE, "abfs": _AZURE, "abfss": _AZURE}
_REASONS = (
    (r"NoSuchBucket", "there is no such bucket", "look at the URL, and at {address} if it is set"),
    (
        r"PermanentRedirect|Moved Permanently|AuthorizationHeaderMalformed|IllegalLocationConstraint",
        "the bucket is in another region",
        "set AWS_REGION to its region",
    ),
    (r"Account must be specified", "the URL names no account", "set AZURE_STORAGE_ACCOUNT_NAME"),
    (
        r"169\.254\.|metadata\.google\.internal|[Mm]issing credentials|Missing \w*(?:Key|Secret)",
        "no credentials were found",
        "set {credentials}, or run where the platform provides them",
    ),
    (
        r"\b40[13] |AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Expired",
        "the store refuses access",
        "look whether the credentials are right, and may read (for an output, also write, list and remove) there",
    ),
    (r"error sending request|HTTP error", "the store does not answer", "look at the network and {address}"),
    (
        r"^(?:InvalidHeader|Invalid(?:Uri|Port)|called `Result|request valid)|builder error|Config error",
        "a variable of the store has a value that cannot be used",
        "look at the variables whose names begin with {prefix}",
    ),
    (r"", "the store reports an error", "look at the URL, the network and the variables {prefix}*, such as {usual}"),
)
"""Expressions in texts of obstore, each with the problem in words and with advice for the provider of the store."""


class UnusableNameError(StorageError):
    """Object whose name obstore cannot represent."""


@cache
def store_of(bucket: str) -> ObjectStore:
    """Return the store of a bucket, such as ``s3://bucket``.

    The credentials are those of the usual variables, or those that the platform provides to an instance or a container.

    Raises:
        UsageError: obstore is not installed, or a variable cannot be used.
        StorageError: The variables contradict each other.
    """
    prefix = _PROVIDERS[bucket.partition(":")[0]].prefix
    variables = {name: value for name, value in os.environ.items() if name.startswith(prefix)}
    for name, value in variables.items():
        _require_usable(name, value)
    plain = any(_ADDRESS.search(name) and value.lower().startswith("http:") for name, value in variables.items())
    options: Any = {"client_options": {"allow_http": plain, "timeout": "60s"}, "retry_config": dict(RETRIES)}
    with answering(bucket):
        from obstore.store import from_url

        return from_url(bucket, **options)


def _require_usable(name: str, value: str) -> None:
    """Check a variable with which obstore would panic, or send a request that is refused. The value may be a secret.

    Raises:
        UsageError: The variable cannot be used.
    """
    if _ADDRESS.search(name):
        what = "the variable has no URL of a server, or one with a password"
        fix = f"set {name} to a URL such as http://localhost:9000 or https://HOST, or unset it"
        if not _is_address(value):
            raise UsageError(what, where=name, fix=fix)
    elif _SENT.fullmatch(name) and re.search(r"[^\x21-\x7e]", value):
        what = "the variable has a space, a line break or another character that is in no credential and no region"
        raise UsageError(what, where=name, fix=f"set {name} again; a value read from a file may end with a line break")


def _is_address(value: str) -> bool:
    try:
        url = urlsplit(value)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0  # a wrong port raises
    except ValueError:
        return False
    return usable and url.username is None and url.query == "" and not re.search(r"[^\x21-\x7e]", value)


def ask(path: object, request: Callable[[Any], Any]) -> Any:
    """Return the answer of a store.

    obstore repeats requests by itself, but not those whose answer was cut off after it had begun.

    Args:
        path: The object or folder, for errors.
        request: Function of the module ``obstore`` that makes the request. It may be called again.

    Raises:
        OSError: See :func:`answering`.
    """
    with answering(path):
        import obstore

        for pause in PAUSES_S:
            try:
                return request(obstore)
            except obstore.exceptions.GenericError as error:
                if "HTTP error" not in str(error) or _REPEATED.search(str(error)):
                    raise
                time.sleep(pause)
        return request(obstore)


@contextmanager
def answering(path: object) -> Iterator[None]:
    """Turn errors of obstore into ours. Of what the store has said, only a code is shown: the rest may hold keys.

    Raises:
        FileNotFoundError: There is no such object.
        FileExistsError: There is such an object already.
        ObjectChangedError: The object does not have the expected version.
        UnusableNameError: obstore cannot represent the name of an object.
        StorageError: The store does not answer, or refuses; or obstore fails for another reason.
        UsageError: obstore is not installed.
    """
    try:
        from obstore import exceptions as errors
    except ImportError as error:
        what, fix = "a URL of an object store needs the package obstore", "pip install 'bsm-core[s3]'"
        raise UsageError(what, where=str(path), fix=fix) from error
    try:
        yield
    except BSMError:
        raise
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise _explained(path, error) from None
        raise FileNotFoundError(2, "there is no such object", str(path)) from None
    except errors.AlreadyExistsError:
        raise FileExistsError(17, "there is such an object already", str(path)) from None
    except errors.PreconditionError:
        what, fix = "the object was changed while the run used it", "run again when nothing writes to it any more"
        raise ObjectChangedError(what, where=str(path), fix=fix) from None
    except errors.InvalidPathError as error:
        raise _unusable_name(path, error) from None
    except BaseException as error:
        # A panic in Rust is a BaseException, whose class cannot be imported.
        if isinstance(error, errors.BaseError | ValueError) or type(error).__name__ == "PanicException":
            raise _explained(path, error) from None
        raise


def _explained(path: object, error: BaseException) -> StorageError:
    text, provider = str(error), _PROVIDERS[str(path).partition(":")[0]]
    what, fix = next((what, fix) for sign, what, fix in _REASONS if re.search(sign, text))
    code = re.search(r"<Code>(\w+)</Code>", text)
    fix = fix.format(**provider._asdict())
    return StorageError(f"{what} ({code[1]})" if code else what, where=str(path), fix=fix)


def _unusable_name(path: object, error: Exception) -> UnusableNameError:
    name = re.search(r'Path "(.*?)"(?: contained|: Encountered)', str(error), re.DOTALL)
    bucket = "/".join(str(path).split("/")[:3])
    what = "the name of an object has an empty folder (//), a folder . or .., or a control character such as a tab"
    fix = "rename or remove the object, or give a folder, a pattern or a file for which its folder need not be listed"
    return UnusableNameError(what, where=f"{bucket}/{name[1]}" if name else str(path), fix=fix)
