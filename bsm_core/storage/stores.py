"""The stores of buckets, and their errors in words that show no secret."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from bsm_core.errors import ObjectChangedError, StorageError, UsageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RETRIES: Mapping[str, Any] = {"max_retries": 8}
"""The pauses double, from 0.1 s: a store that does not answer is an error after half a minute."""
PAUSES_S = (0.1, 1.0, 5.0)
"""Seconds between requests whose answers were cut off."""
_REPEATED = re.compile(r"after \d+ retries")
_REASONS = (
    (r"NoSuchBucket", "there is no such bucket", "look at the URL, and at AWS_ENDPOINT_URL if it is set"),
    (r"PermanentRedirect|Moved Permanently", "the bucket is in another region", "set AWS_REGION to its region"),
    (
        r"169\.254\.|metadata\.google\.internal|[Mm]issing credentials",
        "no credentials were found",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where the platform provides them",
    ),
    (
        r"\b40[13] |AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Expired",
        "the store refuses access",
        "look whether the credentials are right, and may read (for an output, also write, list and remove) there",
    ),
    (r"error sending request|HTTP error", "the store does not answer", "look at the network and AWS_ENDPOINT_URL"),
    (r"", "the store reports an error", "look at the URL, the network and AWS_ENDPOINT_URL"),
)
"""Expressions in texts of obstore, each with the problem in words and with advice."""


@cache
def store_of(bucket: str) -> ObjectStore:
    """Return the store of a bucket, such as ``s3://bucket``.

    The credentials are those of the usual variables, or those that the platform provides to an instance or a container.

    Raises:
        UsageError: obstore is not installed.
        StorageError: The variables contradict each other.
    """
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    options: Any = {"client_options": {"allow_http": plain, "timeout": "60s"}, "retry_config": dict(RETRIES)}
    with answering(bucket):
        from obstore.store import from_url

        return from_url(bucket, **options)


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
        StorageError: The store does not answer, or refuses.
        UsageError: obstore is not installed.
    """
    try:
        from obstore import exceptions as errors
    except ImportError as error:
        what, fix = "a URL of an object store needs the package obstore", "pip install 'bsm-core[s3]'"
        raise UsageError(what, where=str(path), fix=fix) from error
    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise _explained(path, error) from None
        raise FileNotFoundError(2, "there is no such object", str(path)) from None
    except errors.AlreadyExistsError:
        raise FileExistsError(17, "there is such an object already", str(path)) from None
    except errors.PreconditionError:
        what, fix = "the object was changed while the run used it", "run again when nothing writes to it any more"
        raise ObjectChangedError(what, where=str(path), fix=fix) from None
    except errors.BaseError as error:
        raise _explained(path, error) from None


def _explained(path: object, error: Exception) -> StorageError:
    text = str(error)
    what, fix = next((what, fix) for sign, what, fix in _REASONS if re.search(sign, text))
    code = re.search(r"<Code>(\w+)</Code>", text)
    return StorageError(f"{what} ({code[1]})" if code else what, where=str(path), fix=fix)
