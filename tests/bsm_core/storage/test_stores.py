from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from support.object_store import KEY, SECRET, refusing_server, uploads

from bsm_core.errors import StorageError, UsageError
from bsm_core.storage.objects import BLOCK_BYTES, place
from bsm_core.storage.stores import ask, store_of


def test_a_bucket_that_is_not_there_is_named(bucket):
    missing = place("s3://no-such-bucket/a")
    for act in (missing.read_bytes, lambda: list(missing.objects()), lambda: missing.put(b"")):
        with pytest.raises(StorageError, match=r"there is no such bucket \(NoSuchBucket\)") as caught:
            act()
        assert caught.value.where.startswith("s3://no-such-bucket")


def test_a_wrong_key_is_one_error_without_a_secret(use_endpoint):
    path = place("s3://bucket/a")
    with refusing_server() as url:
        use_endpoint(url)
        for act in (path.read_bytes, path.lookup, lambda: list(path.objects()), lambda: path.put(b""), path.unlink):
            with pytest.raises(StorageError, match="the store refuses access") as caught:
                act()
            text = f"{caught.value!r} {caught.value} {caught.value.__cause__} {caught.value.__suppress_context__}"
            assert text.endswith("None True")
            assert not any(secret in text for secret in (KEY, SECRET, "0123456789abcdef"))


def test_a_bucket_in_another_region_names_the_variable_of_the_region(use_endpoint):
    with refusing_server(
        400, "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-north-1</Region></Error>"
    ) as url:
        use_endpoint(url)
        with pytest.raises(StorageError, match="in another region") as caught:
            place("s3://bucket/a").read_bytes()
        assert "AWS_REGION" in caught.value.fix
        with pytest.raises(StorageError) as caught:  # the answer to HEAD has no text
            place("s3://bucket/a").lookup()
        assert "AWS_REGION" in caught.value.fix


def test_a_store_that_does_not_answer_is_an_error(use_endpoint):
    use_endpoint("http://127.0.0.1:1")
    with pytest.raises(StorageError, match="the store does not answer") as caught:
        place("s3://bucket/a").read_bytes()
    assert "AWS_ENDPOINT_URL" in caught.value.fix


WRONG = {
    "AWS_ENDPOINT_URL": [
        "localhost:9000",
        "garbage",
        "",
        "ftp://host",
        "http://",
        "http://host:x",
        "http://host ",
        "http://u:hidden@h",
    ],
    "AWS_ENDPOINT_URL_S3": ["localhost:9000"],
    "AWS_ENDPOINT": ["localhost:9000"],
    "AWS_ACCESS_KEY_ID": ["hidden\n", " hidden", "hidden\u00e9", "hidden\udce9"],
    "AWS_SECRET_ACCESS_KEY": ["hidden\n"],
    "AWS_SESSION_TOKEN": ["hidden\r\n"],
    "AWS_REGION": ["us-east-1\n"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_variable_that_cannot_be_used_is_named_and_not_shown(bucket, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    store_of.cache_clear()
    with pytest.raises(UsageError, match="the variable has") as caught:
        (bucket / "a").read_bytes()
    assert caught.value.where == name
    assert name in caught.value.fix
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_PROFILE", "my profile\n"), ("AZURE_CREDENTIALS", "{\n}"), ("AZURE_STORAGE_ENDPOINT", "garbage")],
)
def test_variables_that_the_store_does_not_need_may_have_any_value(bucket, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    store_of.cache_clear()
    (bucket / "a").put(b"x")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"])
def test_each_variable_of_an_endpoint_is_honored(bucket, monkeypatch, name, s3_endpoint):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv(name, s3_endpoint.replace("http", "HTTP"))
    store_of.cache_clear()
    (bucket / "a").put(b"x")


class PanicException(BaseException):
    """Stands for the one of pyo3."""


@pytest.mark.parametrize("kind", [ValueError, PanicException])
def test_any_other_failure_of_obstore_is_an_error(kind):
    def request(obstore):
        raise kind("hidden")

    with pytest.raises(StorageError, match="the store reports an error") as caught:
        ask(place("s3://bucket/a"), request)
    assert caught.value.where == "s3://bucket/a"
    assert "AWS_" in caught.value.fix
    assert "hidden" not in f"{caught.value} {caught.value.__cause__} {caught.value.__suppress_context__ is False}"


def test_a_signal_is_no_failure_of_obstore():
    def request(obstore):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(place("s3://bucket/a"), request)


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("s3://bucket/a", "AWS_ACCESS_KEY_ID"),
        ("gs://bucket/a", "GOOGLE_SERVICE_ACCOUNT"),
        ("abfss://box@account.dfs.core.windows.net/a", "AZURE_STORAGE_ACCOUNT_KEY"),
    ],
)
def test_the_advice_is_that_of_the_provider(url, variable):
    def request(obstore):
        raise obstore.exceptions.GenericError(
            "Error performing token request: Error performing GET http://169.254.169.254/a"
        )

    with pytest.raises(StorageError, match="no credentials were found") as caught:
        ask(place(url), request)
    assert variable in caught.value.fix
    others = {"AWS_", "GOOGLE_", "AZURE_"} - {variable.partition("_")[0] + "_"}
    assert not any(other in caught.value.fix for other in others)


def test_a_container_without_an_account_is_named(monkeypatch):
    pytest.importorskip("obstore")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(StorageError, match="names no account") as caught:
        place("az://box/a").read_bytes()
    assert "AZURE_STORAGE_ACCOUNT_NAME" in caught.value.fix


def test_without_obstore_the_error_names_the_extra():
    code = """
import sys
sys.modules["obstore"] = None
from bsm_core.errors import UsageError
from bsm_core.storage.objects import place
try:
    place("s3://bucket/a").read_bytes()
except UsageError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "bsm-core[s3]" in found.stdout


def test_a_read_that_is_cut_goes_on(bucket, proxy):
    content = os.urandom(3 * BLOCK_BYTES)
    (bucket / "a").put(content)
    for after in (0, 100_000, BLOCK_BYTES // 2):
        proxy.cut_once("down", after)
        with (bucket / "a").open("rb") as file:
            assert file.read() == content
    assert proxy.cuts == 3


def test_an_answer_that_is_cut_after_it_has_begun_is_asked_for_again(bucket, proxy):
    (bucket / "folder/a").put(b"content")
    acts = [
        (bucket / "folder").is_dir,
        lambda: [path.name for path in bucket.objects()],
        lambda: [path.name for path in bucket.iterdir()],
        (bucket / "folder/a").read_bytes,
        (bucket / "folder/a").lookup,
        lambda: (bucket / "b").put(b"content"),
        lambda: (bucket / "c").put(bytes(2 * BLOCK_BYTES)),
        (bucket / "b").unlink,
    ]
    for act in acts:
        expected = act()
        proxy.cut_once("down", 0)
        assert act() == expected
    assert proxy.cuts == len(acts)


def test_an_upload_that_is_cut_goes_on(bucket, proxy, tmp_path, s3_endpoint):
    content = os.urandom(3 * BLOCK_BYTES)
    (tmp_path / "a").write_bytes(content)
    proxy.cut_once("up", BLOCK_BYTES // 2)
    (bucket / "a").put(tmp_path / "a")
    assert proxy.cuts == 1
    assert (bucket / "a").read_bytes() == content
    assert uploads(s3_endpoint, bucket) == 0


def test_an_upload_that_fails_leaves_no_object(bucket, proxy, tmp_path, s3_endpoint):
    (tmp_path / "a").write_bytes(os.urandom(3 * BLOCK_BYTES))
    proxy.cut = lambda direction, sent, more: direction == "up" and b"partNumber=2" in more
    with pytest.raises(StorageError, match="the store does not answer"):
        (bucket / "a").put(tmp_path / "a")
    assert proxy.cuts > 1
    assert not (bucket / "a").exists()
    assert uploads(s3_endpoint, bucket) == 0


def test_a_process_that_is_terminated_while_it_sends_leaves_no_upload(bucket, proxy, tmp_path, s3_endpoint):
    (tmp_path / "a").write_bytes(os.urandom(3 * BLOCK_BYTES))
    code = f"""
import signal, sys
from pathlib import Path
from bsm_core.storage.objects import place
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
place("{bucket}/a").put(Path({str(tmp_path / "a")!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    terminated = []

    def terminate(direction, sent, more):
        if direction == "up" and b"partNumber=2" in more:
            terminated.append(process.send_signal(signal.SIGTERM))
        return False

    proxy.cut = terminate
    try:
        assert process.wait(60) == 9
    finally:
        process.kill()
    assert terminated
    assert uploads(s3_endpoint, bucket) == 0
