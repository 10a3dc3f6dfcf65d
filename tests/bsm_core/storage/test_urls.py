from __future__ import annotations

import pytest

from bsm_core.cli import main
from bsm_core.errors import StorageError, UsageError
from bsm_core.scoring import job
from bsm_core.storage.objects import place
from bsm_core.storage.urls import shown

SECRETS = [
    "s3://AKID:hid/den@bucket/key",
    "s3a://AKID:hidden@bucket/a",
    "s3://hidden@bucket/a",
    "s3://:hidden@bucket/a",
    "s3://AKID:12/hidden@bucket",
    "S3://AKID:hidden@bucket/a",
    "gs://bucket/a.csv?X-Goog-Credential=x&X-Goog-Signature=hidden",
    "az://box/a.csv?sv=2024-01-01&sp=r&sig=hidden",
    "abfss://box:hidden@account.dfs.core.windows.net/a",
    "abfss://box@account.dfs.core.windows.net/a?sig=hidden",
    "https://bucket.s3.amazonaws.com/k?X-Amz-Credential=AK&X-Amz-Signature=hidden",
    "https://host/a#access_token=hidden",
    "https://user:hid/den@host/a",
    "file://user:hidden@host/a",
    "hdfs://user:hidden@host:8020/a",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_url_that_may_hold_a_secret_is_refused_and_not_shown(text):
    with pytest.raises(StorageError, match="may hold a password") as caught:
        place(text)
    assert caught.value.where == f"{text.partition('://')[0]}://..."
    assert "hid" not in f"{caught.value} {caught.value.one_line()}"
    assert shown(f"unknown: --data={text}") == f"unknown: --data={caught.value.where}"


@pytest.mark.parametrize("text", ["a b", "s3://bucket/user@example.com/a:b.csv?c", "hdfs://host:8020/a", "gs://b/k=v"])
def test_any_other_text_is_shown(text):
    assert shown(text) == text


@pytest.mark.parametrize("url", SECRETS)
@pytest.mark.parametrize("flag", ["--data-dir", "--model-dir", "--output-dir", "--row-issues"])
def test_a_run_with_such_a_url_fails_without_showing_it(url, flag, tmp_path, capfd):
    (tmp_path / "_SUCCESS").touch()
    flags = {"--output-dir": str(tmp_path), "--data-dir": "none", "--model-dir": "none"} | {flag: url}
    assert main(["run", "--job_type", "inference", "--id-field=id", *(f"{k}={v}" for k, v in flags.items())]) == 1
    marked = flag != "--output-dir"
    assert (tmp_path / "_FAILURE").exists() == marked
    failure = (tmp_path / "_FAILURE").read_text() if marked else ""
    assert "hid" not in "".join(capfd.readouterr()) + failure
    assert (tmp_path / "_SUCCESS").exists() != marked


@pytest.mark.parametrize("command", [["inspect"], ["pack", "model"]])
def test_other_commands_do_not_show_it(command, capfd):
    assert main([*command, SECRETS[0]]) == 1
    assert "hid" not in "".join(capfd.readouterr())


def test_an_argument_that_is_not_known_does_not_show_it(capfd):
    with pytest.raises(SystemExit):
        main(["inspect", "model", SECRETS[0]])
    err = capfd.readouterr().err
    assert "unrecognized arguments: s3://..." in err
    assert "hid" not in err


@pytest.mark.parametrize(
    "text", ["s3://b/../a", "s3://b/a/..", "s3://b/a\tb", "s3://my bucket/a", "s3://b*/a", "s3://b?/"]
)
def test_a_url_that_no_store_takes_is_shown(text):
    with pytest.raises(UsageError, match="the URL cannot be used") as caught:
        place(text)
    assert caught.value.where == text


def test_an_output_on_this_machine_is_marked_if_the_store_of_the_data_does_not_answer(tmp_path, use_endpoint):
    use_endpoint("http://127.0.0.1:1")
    (tmp_path / "_SUCCESS").touch()
    places = {"data_dir": "s3://bucket/data", "model_dir": "s3://bucket/model", "output_dir": str(tmp_path)}
    with pytest.raises(StorageError, match="the store does not answer"):
        job.run({"job_type": "inference", "id_field": "id", **places}, {})
    assert "the store does not answer" in (tmp_path / "_FAILURE").read_text()
    assert not (tmp_path / "_SUCCESS").exists()
