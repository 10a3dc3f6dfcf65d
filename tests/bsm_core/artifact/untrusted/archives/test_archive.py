from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import logging
import lzma
import os
import stat
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import starmap
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsm_core.artifact.files import require_artifact
from bsm_core.artifact.untrusted.archives import archive as archives
from bsm_core.artifact.untrusted.archives.archive import LIMITS
from bsm_core.artifact.untrusted.archives.layout import is_kept, is_wanted
from bsm_core.artifact.untrusted.archives.limits import Limits
from bsm_core.artifact.untrusted.archives.plain_bytes import PlainBytes
from bsm_core.artifact.untrusted.archives.tar_members import Members
from bsm_core.artifact.untrusted.foreign_forms import foreign_weights
from bsm_core.errors import ArtifactError, CorruptArtifactError, MissingArtifactFilesError, UnsafeArtifactError

Member = tuple[tarfile.TarInfo, bytes]


@contextmanager
def unpacked(path: Path, limits: Limits = LIMITS) -> Iterator[Path]:
    """Extract every file as one that is read, but hidden ones, so that short names will do."""
    module = "bsm_core.artifact.untrusted.archives.extraction"
    with (
        mock.patch(f"{module}.is_wanted", lambda parts: is_wanted(parts) or is_kept(parts, ())),
        archives.unpacked(path, limits) as folder,
    ):
        yield folder


def member(name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, **attributes: object) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def archive(path: Path, *members: Member | str, tail: bytes = b"") -> Path:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for item in members:
            info, data = member(item) if isinstance(item, str) else item
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(gzip.compress(plain.getvalue() + tail))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def target(tmp_path):
    return tmp_path / "model.tar.gz"


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    return caplog


# What is to be unpacked


def test_a_plain_folder_is_used_where_it_is(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"x")
    with unpacked(tmp_path) as folder:
        assert folder == tmp_path


def test_an_archive_in_the_folder_wins_over_the_files_beside_it_with_a_warning(target, log):
    archive(target, member("model.pth", b"from the archive"))
    for name in ("notes.txt", "model.tar.gz.sha256.old"):
        (target.parent / name).touch()
    with unpacked(target.parent), unpacked(target):
        assert not log.text
    for name in ("model.pth", "impute_dict.pkl"):
        (target.parent / name).write_bytes(b"beside it")
    with unpacked(target):  # the archive itself was asked for
        assert not log.text
    with unpacked(target.parent) as folder:
        assert (folder / "model.pth").read_bytes() == b"from the archive"
    (said,) = [record.getMessage() for record in log.records]
    assert said == "model.tar.gz is read, and not the files beside it: impute_dict.pkl, model.pth; remove what is old"


@pytest.mark.parametrize("inner", [".", "model"])
@pytest.mark.parametrize("name", ["model.tgz", "model.tar"])
def test_an_archive_that_is_left_over_does_not_win_over_a_complete_artifact(tmp_path, name, inner):
    archive(tmp_path / name, *ARTIFACT)
    with unpacked(tmp_path) as folder:
        assert names(folder) == sorted(ARTIFACT)
    (tmp_path / inner).mkdir(exist_ok=True)
    for file in ("hyperparameters.json", "model_artifacts.pth"):
        (tmp_path / inner / file).touch()
        with unpacked(tmp_path) as folder:
            assert folder not in (tmp_path, tmp_path / inner)
    (tmp_path / inner / "model.safetensors").touch()
    with unpacked(tmp_path) as folder:
        assert folder == tmp_path / inner


@pytest.mark.parametrize("name", ["model.tar.gz", "other.tgz"])
def test_an_archive_may_be_named_itself(tmp_path, name):
    with unpacked(archive(tmp_path / name, "./a", "b/c")) as f:
        assert names(f) == ["a", "b/c"]


def test_a_single_top_level_folder_is_stepped_into(target):
    archive(target, member("artifact", b"", tarfile.DIRTYPE), "artifact/model.pth", "artifact/tokenizer/t.json", "._x")
    with unpacked(target) as folder:
        assert names(folder) == ["model.pth", "tokenizer/t.json"]


def test_hard_links_are_read_as_the_file_that_they_lead_to(target):
    link = member("model.pth", b"", tarfile.LNKTYPE, linkname="./a/last.ckpt")
    with unpacked(archive(target, member("a/last.ckpt", b"weights"), link)) as folder:
        assert (folder / "model.pth").read_bytes() == b"weights"
        assert names(folder) == ["a/last.ckpt", "model.pth"]


@pytest.mark.parametrize(
    ("to", "problem"), [("/etc/passwd", "outside"), ("../x", "outside"), ("nowhere", "not in the")]
)
def test_hard_links_lead_to_members_alone(target, to, problem):
    link = member("thing", b"", tarfile.LNKTYPE, linkname=to)
    with pytest.raises(UnsafeArtifactError, match=problem), unpacked(archive(target, "ok", link)):
        pass


def test_two_top_level_entries_are_left_as_they_are(target):
    with unpacked(archive(target, "tokenizer/t.json", "model.pth")) as folder:
        assert names(folder) == ["model.pth", "tokenizer/t.json"]


def test_the_dot_folder_and_folders_listed_late_or_twice_are_fine(target):
    dot, sub = member("./", b"", tarfile.DIRTYPE), member("./sub", b"", tarfile.DIRTYPE)
    with unpacked(archive(target, dot, "sub/a", sub, sub, "b")) as folder:
        assert names(folder) == ["b", "sub/a"]


def test_nothing_there_is_an_error_that_names_the_path(tmp_path):
    with pytest.raises(MissingArtifactFilesError, match="nowhere"), unpacked(tmp_path / "nowhere"):
        pass


def test_the_folder_is_private_and_goes_afterwards(target):
    executable = member("run", b"#!/bin/sh\n", mode=0o6777)
    with unpacked(archive(target, executable, "sub/a")) as folder:
        kept = folder
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "sub").stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "run").stat().st_mode) == 0o600
    assert not kept.exists()


def test_the_folder_goes_after_an_error_too(target, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with pytest.raises(UnsafeArtifactError), unpacked(archive(target, "ok", "../evil")):
        pass
    assert list(scratch.iterdir()) == []


def test_nothing_is_written_beside_the_archive(target):
    archive(target, "a")
    with unpacked(target.parent):
        assert names(target.parent) == ["model.tar.gz"]


def test_unpacking_needs_no_torch():
    package = "bsm_core.artifact.untrusted"
    code = f"import sys, {package}.archives.archive, {package}.safe_pickle; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


# Names that leave the folder or mean two things


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "//etc/passwd", "../evil", "a/../../evil", "a/..", "..", "./../evil"],
)
def test_absolute_and_climbing_names_are_refused(target, name):
    with (
        pytest.raises(UnsafeArtifactError, match="outside the artifact's folder") as caught,
        unpacked(archive(target, "ok", name)),
    ):
        pass
    assert repr(name) in str(caught.value)
    assert not (target.parent / "evil").exists()


@pytest.mark.parametrize(
    "name", ["C:/evil", "c:evil", "a..\\..\\evil", "a\\b", "\\\\host\\share", "a\nb", "a\x1b[2Jb", "\udcff"]
)
def test_names_that_systems_read_differently_are_refused(target, name):
    with (
        pytest.raises(UnsafeArtifactError, match="not the same on every system") as caught,
        unpacked(archive(target, name)),
    ):
        pass
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", [".", "./."])
def test_a_file_without_a_name_is_refused(target, name):
    with pytest.raises(UnsafeArtifactError), unpacked(archive(target, member(name))):
        pass


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a", "a"),
        ("a", "./a"),
        ("a/b", "a//b"),
        ("model.pth", "MODEL.pth"),
        ("Sub/a", "sub/b"),
        ("straße", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("a", "a/b"),
        ("a/b", "a"),
    ],
)
def test_a_second_member_in_the_same_place_is_refused(target, first, second):
    with (
        pytest.raises(UnsafeArtifactError, match="has the same place as") as caught,
        unpacked(archive(target, first, second)),
    ):
        pass
    assert repr(second) in str(caught.value)


# Things that are no plain files


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.CHRTYPE, "character device"),
        (tarfile.BLKTYPE, "block device"),
        (tarfile.FIFOTYPE, "fifo"),
        (tarfile.CONTTYPE, "contiguous file"),
        (b"Z", "unknown type"),
    ],
)
def test_anything_but_files_and_folders_is_refused(target, kind, what):
    link = member("thing", b"", kind, linkname="/etc/passwd")
    with (
        pytest.raises(UnsafeArtifactError, match="neither a plain file nor a folder") as caught,
        unpacked(archive(target, link)),
    ):
        pass
    assert "'thing'" in str(caught.value), what


def test_a_file_is_not_written_through_a_link(target, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    link = member("sub", b"", tarfile.SYMTYPE, linkname=str(outside))
    with pytest.raises(UnsafeArtifactError, match="'sub'"), unpacked(archive(target, link, "sub/evil")):
        pass
    assert list(outside.iterdir()) == []


def test_sparse_files_are_refused(target):
    sparse = member("sparse", b"", pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40)})
    with pytest.raises(UnsafeArtifactError, match="neither a plain file"), unpacked(archive(target, sparse)):
        pass


# Archives that are too much


def test_too_many_members_are_refused(target):
    many = archive(target, *(f"f{i}" for i in range(6)))
    with pytest.raises(UnsafeArtifactError, match="more than 5 members"), unpacked(many, Limits(members=5)):
        pass
    with unpacked(many, Limits(members=6)) as folder:
        assert len(names(folder)) == 6


@pytest.mark.parametrize(
    "name", ["d/" * 21 + "x", "d/" * 3_000 + "x", "d/" * 100_000 + "x", "./" * 600 + "x", "x" * 1_001]
)
def test_deep_and_long_names_are_refused_at_once(target, tmp_path, monkeypatch, name):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    problem = r"lies in more than 20 folders|has a (?:name|path) of"
    with pytest.raises(UnsafeArtifactError, match=problem), unpacked(archive(target, name)):
        pass
    assert list((tmp_path / "temporary").iterdir()) == []


def test_folders_that_only_names_mention_count_too(target):
    many = [f"{'/'.join(str(i) * 9)}/x" for i in range(10)]
    with (
        pytest.raises(UnsafeArtifactError, match="more than 50 members"),
        unpacked(archive(target, *many), Limits(members=50)),
    ):
        pass


def test_too_large_a_whole_is_refused(target):
    big = archive(target, *(member(f"f{i}", os.urandom(60_000)) for i in range(4)))
    with pytest.raises(UnsafeArtifactError, match="more than 200,000 bytes"), unpacked(big, Limits(size=200_000)):
        pass


def test_too_large_a_member_is_refused_by_its_header_alone(target):
    lying = member("huge", b"", pax_headers={"size": str(1 << 50)})
    with pytest.raises(UnsafeArtifactError, match="'huge' claims"), unpacked(archive(target, lying)):
        pass


def test_a_bomb_is_refused_by_its_ratio(target):
    bomb = archive(target, member("zeros", bytes(2_000_000)))
    limits = Limits(ratio=50, free=100_000)
    with pytest.raises(UnsafeArtifactError, match="compressed more than 50 times"), unpacked(bomb, limits):
        pass
    with unpacked(bomb) as folder:  # small enough for its ratio not to matter
        assert (folder / "zeros").stat().st_size == 2_000_000


def links_to(name: str, count: int, kind: bytes = tarfile.LNKTYPE) -> list[Member]:
    """Links to a member, in places that are read."""
    return [member(f"d{number}/config.json", b"", kind, linkname=name) for number in range(count)]


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("name", ["config.json", "code/x.bin"])
@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (Limits(size=1_500_000), "holds more than 1,500,000 bytes"),
        (Limits(ratio=10, free=100_000), "compressed more than 10 times"),
    ],
)
def test_a_hard_link_counts_as_a_copy_of_the_file(target, tmp_path, monkeypatch, limits, problem, name, last):
    scratch, written = tmp_path / "scratch", []
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setattr("shutil.copyfile", lambda source, path: written.append(path.write_bytes(source.read_bytes())))
    saved, links = member(name, os.urandom(50_000)), links_to(name, 100)
    archive(target, *([*links, saved] if last else [saved, *links]))
    with pytest.raises(UnsafeArtifactError, match=problem), archives.unpacked(target, limits):
        pass
    assert sum(written) < 1_500_000
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "code/x.bin"])
def test_symbolic_links_are_no_copies(target, name):
    hostile = archive(target, member(name, os.urandom(50_000)), *links_to(name, 3, tarfile.SYMTYPE))
    with pytest.raises(UnsafeArtifactError, match="neither a plain file nor a folder"), archives.unpacked(hostile):
        pass


def test_hard_links_to_hard_links_count_too(target):
    chain = [linked(f"d{number}/config.json", f"d{number - 1}/config.json", tarfile.LNKTYPE) for number in range(1, 50)]
    archive(target, member("d0/config.json", os.urandom(50_000)), *chain)
    with pytest.raises(UnsafeArtifactError, match="holds more than"), archives.unpacked(target, Limits(size=1_500_000)):
        pass
    assert len(found(target)) == 50


def test_a_header_is_not_a_way_into_memory(target):
    fat = member("a", pax_headers={"comment": "x" * 300_000})
    with pytest.raises(ArtifactError, match="header"), unpacked(archive(target, fat), Limits(header=100_000)):
        pass


def pax(body: bytes, kind: bytes = tarfile.XHDTYPE) -> Member:
    return member("pax", body, kind)


def record(key: bytes, value: bytes) -> bytes:
    """A record of an extended header; its length counts its own digits."""
    size = len(key) + len(value) + 3
    return b"%d %s=%s\n" % (size + len(str(size + len(str(size)))), key, value)


@pytest.mark.parametrize(
    "members",
    [
        [pax(b"1" * 900_000)],
        [pax(b"1 hdrcharset=" * 60_000)],
        [pax(b"1" * 8_000), "x"] * 30,
        [pax(b"2 " * 15_480 + "😀".encode() + b"=")],
        [pax(b"1 GNU.sparse.offset=" * 20_000)],
    ],
    ids=["digits", "charsets", "many", "overlapping", "offsets"],
)
def test_extended_headers_take_no_time_and_no_memory(target, members):
    with pytest.raises(CorruptArtifactError, match="a record has a wrong"), unpacked(archive(target, *members, "x")):
        pass


# The work of reading an archive

TOO_MUCH = "unpacks to far more than its size, or has very many members or long headers"


def work_of(path: Path, *, keep: bool = False) -> int:
    """The least work with which an archive is read."""
    with mock.patch.object(PlainBytes, "count", autospec=True) as count, archives.unpacked(path, keep=keep):
        return sum(call.args[1] for call in count.call_args_list)


def zeros(size: int) -> Member:
    return member("logs/zeros", bytes(size))


@pytest.mark.parametrize("keep", [False, True])
def test_an_archive_takes_no_more_work_than_its_limit(target, keep):
    archive(target, *ARTIFACT, "README.md", zeros(1_000_000))
    work = work_of(target, keep=keep)
    ratio = work // target.stat().st_size
    for enough in (Limits(work=work, work_ratio=0), Limits(work=0, work_ratio=ratio + 1)):
        with archives.unpacked(target, enough, keep=keep):
            pass
    for little in (Limits(work=work - 1, work_ratio=0), Limits(work=0, work_ratio=ratio)):
        with (
            pytest.raises(UnsafeArtifactError, match="unpacks to far more than its size, or has very") as caught,
            archives.unpacked(target, little, keep=keep),
        ):
            pass
        assert caught.value.where == str(target)
        assert "pack the files of the artifact alone, without logs and data" in caught.value.fix


def test_what_is_passed_over_is_work_as_large_as_it_is(target):
    small, large = (work_of(archive(target, *ARTIFACT, zeros(size))) for size in (512, 1_000_448))
    assert large - small == pytest.approx(999_936, abs=20_000)  # the end is padded
    assert (2 << 30) + small < Limits().work


def test_small_files_by_the_thousand_are_passed_over(target):
    """Each with a long name and a time that is no whole second, also where the archive is read three times."""

    def log(number: int) -> Member:
        return member(f"logs/{'d' * 110}/{number}", pax_headers={"mtime": "1600000000.5"})

    few, more = (work_of(archive(target, *ARTIFACT, *map(log, range(count)))) for count in (1, 101))
    assert 3 * 30_000 * (more - few) / 100 < Limits().work


def test_each_member_is_work(target):
    few = work_of(archive(target, *ARTIFACT, "logs/x"))
    many = work_of(archive(target, *ARTIFACT, *(f"logs/{number}" for number in range(101))))
    assert many - few == pytest.approx(100 * (512 * 16 + 1024), rel=0.02)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_each_byte_of_a_header_is_work(target, kind):
    body = record(b"comment", b"x" * 100_000) if kind in b"xg" else b"logs/y".ljust(100_000, b"\0")
    assert work_of(archive(target, *ARTIFACT, pax(body, kind), "logs/x")) > 100_000 * 16


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_each_record_is_work(target, kind):
    one = work_of(archive(target, pax(record(b"a", b"x" * 50_000), kind), "logs/x"))
    assert work_of(archive(target, pax(b"5 a=\n" * 10_000, kind), "logs/x")) - one > 0.8 * 10_000 * 512


def test_each_compressed_piece_is_work(target):
    archive(target, "logs/x")
    target.write_bytes(target.read_bytes() + gzip.compress(b"") * 3_000)
    assert work_of(target) > 3_000 * 2_048


def test_each_reading_is_work(target):
    link = linked("model.pth", "checkpoints/x", tarfile.LNKTYPE)
    once = work_of(archive(target, *ARTIFACT, zeros(1_000_000)))
    archive(target, *ARTIFACT[:2], member("checkpoints/x"), link, zeros(1_000_000))
    assert work_of(target) == pytest.approx(2 * once, rel=0.05)
    assert work_of(target, keep=True) == pytest.approx(3 * once, rel=0.05)


def test_each_copy_is_work(target):
    archive(target, member("config.json", bytes(1_000_000)), *links_to("config.json", 3))
    assert work_of(target) > 4_000_000


@pytest.mark.parametrize("name", ["\ufdfa" * 80, "\u0344" * 100], ids=["long", "many marks"])
def test_a_name_that_is_long_in_its_normal_form_is_work(target, name):
    """Each folder is normalized once, however many files lie in it."""
    plain = work_of(archive(target, *(f"a/{number}/config.json" for number in range(20))))
    folder = work_of(archive(target, *(f"{name}/{number}/config.json" for number in range(20)))) - plain
    assert 200_000 < folder < 2_500_000
    archive(target, *(f"a/{name}{number}/config.json" for number in range(20)))
    assert work_of(target) - plain > 5 * folder


def test_names_in_many_folders_take_little_memory(target):
    """The normal form of one of these paths has 16,000 characters."""
    around = "/".join(["\ufdfa" * 45] * 18)
    archive(target, *(f"{around}/{number}/config.json" for number in range(300)))
    tracemalloc.start()
    try:
        assert len(found(target)) == 300
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_zeros_after_a_compressed_piece_are_read_in_blocks(target):
    archive(target, *ARTIFACT)
    target.write_bytes(target.read_bytes() + bytes(1_000_000))
    reads = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            reads.append(size)
            return super().read(size)

    assert len([*Members(Counted(target.read_bytes()), LIMITS, "x")]) == len(ARTIFACT)
    assert len(reads) < 100


def test_a_path_of_many_folders_beside_the_artifact_is_not_looked_at_twice():
    """Patterns that could begin at each slash took 20 ms for each such path."""
    deep = "code/" + "a/" * 2_000 + "x.bin"
    assert foreign_weights([deep] * 10_000) is None


def test_a_name_that_the_locale_cannot_write_is_refused(target):
    archive(target, *ARTIFACT, "data/ü.txt", "tokenizer_ü/tokenizer.json")
    code = f"""
from pathlib import Path
from bsm_core.artifact.untrusted.archives.archive import unpacked
try:
    with unpacked(Path({str(target)!r})):
        pass
except Exception as error:
    print(type(error).__name__, ascii(str(error)))
"""
    environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert answer.startswith("UnsafeArtifactError")
    assert "cannot be written in this locale, whose encoding is ascii" in answer
    assert "PYTHONUTF8=1" in answer


@pytest.mark.parametrize("key", [b"path", b"linkpath", b"size", b"GNU.sparse.realsize"])
def test_a_global_header_says_nothing_about_content(target, key):
    hostile = archive(target, pax(record(key, b"0"), tarfile.XGLTYPE), "x")
    with pytest.raises(CorruptArtifactError, match="for all members"), unpacked(hostile):
        pass


@pytest.mark.parametrize(
    ("size", "problem"),
    [
        (b"0", "two sizes"),
        (b"512", "two sizes"),
        (b"junk", "a size that is no number"),
        (b"-1", "a size that is no number"),
        (b"9" * 5_000, "a size that is no number"),
    ],
)
def test_a_size_that_contradicts_the_header_is_corrupt(target, size, problem):
    members = pax(record(b"size", size)), member("model", b"content")
    with pytest.raises(CorruptArtifactError, match=f"'model' has {problem}"), unpacked(archive(target, *members)):
        pass


def test_a_size_that_is_said_twice_is_read(target):
    with unpacked(archive(target, pax(record(b"size", b"7")), member("model", b"content"))) as folder:
        assert (folder / "model").read_bytes() == b"content"


@pytest.mark.parametrize(
    "records",
    [
        {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"1"},
        {b"GNU.sparse.map": b"0,0", b"GNU.sparse.size": b"9"},
        {b"GNU.sparse.realsize": b"0"},
    ],
)
def test_a_sparse_file_hides_no_members(target, records):
    sparse = [pax(b"".join(starmap(record, records.items()))), member("logs/sparse", bytes(700))]
    assert found(archive(target, *ARTIFACT[:2], *sparse, *ARTIFACT[2:])) == sorted(ARTIFACT)


@pytest.mark.parametrize("body", [b"9 a=bcdef", b"11 a=bcde\n", b"9 a=bcde\n\0", b"4 =\n3 \n", b"6 abc\n"])
def test_a_record_that_is_cut_is_corrupt(target, body):
    with pytest.raises(CorruptArtifactError, match="a record has a wrong"), unpacked(archive(target, pax(body), "x")):
        pass


def test_an_error_in_an_archive_names_the_archive(target):
    archive(target, "model/a", "model/b")
    with pytest.raises(ArtifactError) as caught, unpacked(target) as folder:
        raise ArtifactError(f"{folder}/a: what", where=str(folder), fix=f"fix {folder}", details=[f"in {folder}/b"])
    assert str(caught.value) == f"{target}/a: what ({target})\n  in {target}/b\n  To fix: fix {target}"


def test_padding_behind_the_end_counts_too(target):
    padded = archive(target, "a", tail=bytes(2_000_000))
    with pytest.raises(UnsafeArtifactError, match="holds more than"), unpacked(padded, Limits(size=1_000_000)):
        pass


# Damage


def test_a_file_that_is_no_archive_is_corrupt(target):
    target.write_bytes(b"not an archive")
    with pytest.raises(CorruptArtifactError, match=r"model\.tar\.gz is damaged"), unpacked(target):
        pass


def test_an_empty_file_is_corrupt(target):
    target.write_bytes(b"")
    with pytest.raises(CorruptArtifactError), unpacked(target):
        pass


@settings(max_examples=40)
@given(part=st.floats(0, 0.999))
def test_an_archive_cut_short_anywhere_is_corrupt(tmp_path_factory, part):
    path = archive(tmp_path_factory.mktemp("cut") / "model.tar.gz", member("a", os.urandom(3000)), "b")
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(CorruptArtifactError), unpacked(path):
        pass


def test_a_wrong_checksum_in_gzip_is_corrupt(target):
    data = bytearray(archive(target, "a").read_bytes())
    data[-8] ^= 1  # the CRC
    target.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match="incorrect data check"), unpacked(target):
        pass


def _plain_of(item: Member) -> bytes:
    """A member, without the end of an archive."""
    info, data = item
    return info.tobuf(tarfile.PAX_FORMAT) + data.ljust(-(-len(data) // 512) * 512, b"\0")


def _plain(*members: str) -> bytearray:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name in members:
            tar.addfile(member(name)[0], io.BytesIO(b"x"))
    return bytearray(plain.getvalue())


def test_a_damaged_second_header_is_not_the_end_of_the_archive(target):
    plain = _plain("a", "b")
    plain[1024 + 3] ^= 1
    target.write_bytes(gzip.compress(plain))
    with pytest.raises(CorruptArtifactError, match="bad checksum"), unpacked(target):
        pass


def sparse_header(extended: bytes) -> bytes:
    """The header of a sparse file in the old form of GNU tar, whose table goes on in the bytes that follow."""
    block = bytearray(member("sparse", b"", tarfile.GNUTYPE_SPARSE)[0].tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (0, 512)
    block[482] = 1
    block[483:495] = b"%011o\0" % 512
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + extended


@pytest.mark.parametrize("extended", [b"", b"\0" * 7, b"0" * 24 * 21, b"x" * 512])
def test_a_sparse_file_whose_table_does_not_end_is_corrupt(target, extended):
    target.write_bytes(gzip.compress(bytes(_plain("a")[:1024]) + sparse_header(extended)))
    with pytest.raises(CorruptArtifactError, match="unexpected end"), unpacked(target):
        pass


def test_a_sparse_file_beside_the_artifact_is_passed_over(target):
    rest = bytes(_plain("model/b"))
    target.write_bytes(gzip.compress(bytes(_plain("model/a")[:1024]) + sparse_header(bytes(512)) + rest))
    with archives.unpacked(target) as folder:
        assert names(folder) == []


@pytest.mark.parametrize("record", [b"9" * 30 + b" a=b\n", b"0 a=b\n"])
def test_a_record_whose_length_is_impossible_is_corrupt(target, record):
    with (
        pytest.raises(CorruptArtifactError, match="the header of a member cannot be read"),
        unpacked(archive(target, "a", pax(record), "b")),
    ):
        pass


@pytest.mark.parametrize(
    "records",
    [
        {"GNU.sparse.map": "a,b", "GNU.sparse.size": "1"},
        {"GNU.sparse.map": "1", "GNU.sparse.size": "x"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
        {"GNU.sparse.realsize": "many"},
    ],
)
def test_a_table_of_a_sparse_file_is_never_read(target, records):
    with (
        pytest.raises(UnsafeArtifactError, match="'a' is neither a plain file"),
        unpacked(archive(target, member("a", pax_headers=records), "b")),
    ):
        pass


def test_a_charset_changes_no_name(target):
    charset = pax(b"17 hdrcharset=\xff\xfe\n" + record(b"path", "ü".encode()))
    with unpacked(archive(target, charset, "b")) as folder:
        assert names(folder) == ["ü"]


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.REGTYPE])
def test_a_header_of_negative_size_hides_no_members(target, kind):
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, -512
    content = bytes(_plain("a")[:1024]) + info.tobuf(tarfile.GNU_FORMAT) + bytes(_plain("b"))
    target.write_bytes(gzip.compress(content))
    with pytest.raises(CorruptArtifactError, match="its size is negative"), unpacked(target):
        pass


def header(name: bytes, changes: dict[int, bytes], size: int = 0) -> bytes:
    """A header with other bytes at some places, and the right sum."""
    info = tarfile.TarInfo(name.decode())
    info.size = size
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    for place, content in (*changes.items(), (148, b" " * 8)):
        block[place : place + len(content)] = content
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("mark", [b"ustar  \0", bytes(8)], ids=["GNU", "V7"])
def test_bytes_that_are_no_prefix_are_no_folder(target, mark):
    """GNU tar has times where others have the first folders of a long path."""
    times = {257: mark, 345: b"14712345670\0" + b"14712345671\0"}
    target.write_bytes(gzip.compress(header(b"a", times, 1) + b"x".ljust(512, b"\0") + bytes(_plain("b"))))
    with unpacked(target) as folder:
        assert names(folder) == ["a", "b"]


@pytest.mark.parametrize("option", ["gnu", "oldgnu", "v7", "ustar", "posix"])
def test_archives_of_gnu_tar_are_read(tmp_path, option):
    """With times of access, which GNU tar writes for backups, and packed without compression."""
    for number, name in enumerate(ARTIFACT):
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, (1_600_000_000 + number, 1_600_000_000))
    packing = ["tar", f"--format={option}", *(["-G"] if option in ("gnu", "oldgnu") else [])]
    subprocess.run([*packing, "-C", tmp_path / "model", "-cf", tmp_path / "model.tar", *ARTIFACT], check=True)
    with archives.unpacked(tmp_path / "model.tar") as folder:
        assert {name: (folder / name).read_text() for name in names(folder)} == {name: name for name in ARTIFACT}


@pytest.mark.parametrize("digits", [b"\0" + b"00000001000", b"0_1000".ljust(12), b"+1000".ljust(12), b" " * 12])
def test_a_size_that_is_no_number_is_corrupt(target, digits):
    target.write_bytes(gzip.compress(header(b"a", {124: digits}) + bytes(_plain("b"))))
    with pytest.raises(CorruptArtifactError, match="its size is no number"), unpacked(target):
        pass


@pytest.mark.parametrize(
    "digits", [b"       1000 ", b"00000001000\0", b"000000001000", b"\x80".ljust(10, b"\0") + b"\2\0"]
)
def test_every_form_of_a_size_is_read(target, digits):
    target.write_bytes(gzip.compress(header(b"a", {124: digits}) + b"y" * 512 + bytes(_plain("b"))))
    with unpacked(target) as folder:
        assert (folder / "a").read_bytes() == b"y" * 512
        assert names(folder) == ["a", "b"]


@pytest.mark.parametrize("kind", [b"\0", b"0", b"7"])
def test_a_name_that_ends_with_a_slash_is_that_of_a_folder(target, kind):
    long = pax(record(b"path", b"model/"))
    empty, full = header(b"x", {156: kind}), header(b"x", {156: kind}, 512)
    target.write_bytes(gzip.compress(bytes(_plain_of(long)) + empty + bytes(_plain("model/a"))))
    with unpacked(target) as folder:
        assert names(folder) == ["model/a"]
    target.write_bytes(gzip.compress(bytes(_plain_of(long)) + full + bytes(_plain("logs/x"))))
    with pytest.raises(CorruptArtifactError, match="'model/' is a folder, and has content"), unpacked(target):
        pass


@pytest.mark.parametrize("name", [b"risk_table_map.json\0junk", b"\0"])
def test_a_path_that_is_cut_is_corrupt(target, name):
    with pytest.raises(CorruptArtifactError, match="the character NUL"):
        found(archive(target, pax(record(b"path", name)), "x"))


@pytest.mark.parametrize("key", [b"path", b"linkpath"])
def test_a_path_that_no_system_has_is_refused_wherever_it_leads(target, key):
    deep = pax(record(key, b"code/" + b"a/" * 500_000))
    with pytest.raises(UnsafeArtifactError, match="has a path of over 4,096 characters"):
        found(archive(target, *[deep, "code/x"], *ARTIFACT))


def test_a_member_has_one_extended_header_of_each_kind(target):
    twice = pax(record(b"path", b"a")), pax(record(b"path", b"b"))
    with (
        pytest.raises(CorruptArtifactError, match="two extended headers of one kind"),
        unpacked(archive(target, *twice, "x")),
    ):
        pass


def test_an_extended_header_at_the_end_belongs_to_no_member(target):
    with pytest.raises(CorruptArtifactError, match="belongs to no member"), unpacked(archive(target, "x", pax(b""))):
        pass
    with unpacked(archive(target, "x", pax(record(b"comment", b"x"), tarfile.XGLTYPE))) as folder:
        assert names(folder) == ["x"]


def test_python_packs_a_folder_without_a_name(target, tmp_path):
    for name in ARTIFACT:
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with tarfile.open(target, "w:gz") as tar:
        tar.add(tmp_path / "model", arcname="")
    assert found(target) == sorted(ARTIFACT)


@pytest.mark.parametrize("last", [[], [pax(record(b"path", b"model.pth"))]])
def test_the_label_of_an_archive_is_no_member(target, last):
    """The label may have an extended header of its own."""
    label = [pax(record(b"path", b"/the/label")), member("/backup", b"", b"V")]
    assert found(archive(target, *label, *last, member("model.pth"), *ARTIFACT[:2], ARTIFACT[3])) == sorted(ARTIFACT)


def test_a_folder_of_gnu_tar_with_a_listing_is_no_file(target, caplog):
    listing = member("data/", b"Ya\0Yb\0\0", b"D")
    assert kept(archive(target, listing, "data/a", *ARTIFACT)) == {"data/a"}
    assert caplog.text == ""


def test_a_file_that_is_packed_again_is_no_target_of_a_link(target):
    data = [member("data/epoch", b"old"), member("data/epoch", b"new")]
    members = [*(name for name in ARTIFACT if name != "model.pth"), *data]
    hostile = archive(target, *members, linked("model.pth", "data/epoch", tarfile.LNKTYPE))
    with pytest.raises(UnsafeArtifactError, match="'data/epoch' is in the archive twice, and a link leads to it"):
        found(hostile)


def test_zeros_after_the_end_have_a_limit(target, monkeypatch):
    monkeypatch.setattr("bsm_core.artifact.untrusted.archives.tar_members._MOST_AFTER_END", 1_000_000)
    with pytest.raises(UnsafeArtifactError, match="more than 1,000,000 bytes after its end"):
        found(archive(target, *ARTIFACT, tail=bytes(2_000_000)))


def test_an_archive_without_an_end_is_corrupt(target):
    target.write_bytes(gzip.compress(bytes(_plain("a")[:1024])))
    with pytest.raises(CorruptArtifactError), unpacked(target):
        pass


def test_data_behind_the_end_is_corrupt(target):
    archive(target, "a", tail=bytes(_plain("hidden")))
    with pytest.raises(CorruptArtifactError, match="after the end"), unpacked(target):
        pass


def test_a_negative_size_is_no_endless_loop(target):
    plain = _plain("a", "b")
    plain[124:136] = b"\xff" * 11 + b"\x00"  # base-256, negative
    plain[148:156] = b" " * 8
    plain[148:156] = b"%06o\0 " % sum(plain[:512])
    target.write_bytes(gzip.compress(plain))
    with pytest.raises(ArtifactError), unpacked(target):
        pass


def test_a_full_disk_says_so(target, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bsm_core.artifact.untrusted.archives.extraction.Extraction._write", full)
    with pytest.raises(ArtifactError, match="No space left on device") as caught, unpacked(archive(target, "a")):
        pass
    assert "TMPDIR" in str(caught.value)
    assert not isinstance(caught.value, CorruptArtifactError)


# The checksum beside it


@pytest.mark.parametrize("form", ["{}", "{}\n", "{}  model.tar.gz\n", "{} *model.tar.gz", "{}  /build/model.tar.gz"])
@pytest.mark.parametrize("upper", [False, True])
def test_a_matching_checksum_is_accepted(target, form, upper):
    archive(target, "a")
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    (target.parent / "model.tar.gz.sha256").write_text(form.format(digest.upper() if upper else digest))
    with unpacked(target) as folder:
        assert names(folder) == ["a"]


def test_another_checksum_is_refused_before_anything_is_read(target):
    target.write_bytes(b"no archive at all")
    (target.parent / "model.tar.gz.sha256").write_text("0" * 64)
    with pytest.raises(CorruptArtifactError, match="does not match") as caught, unpacked(target.parent):
        pass
    assert hashlib.sha256(b"no archive at all").hexdigest() in str(caught.value)


@pytest.mark.parametrize("text", ["", "abc", "0" * 64 + "  other.tar.gz", "0" * 64 + "\n" + "1" * 64])
def test_a_checksum_file_that_is_none_is_refused(target, text):
    archive(target, "a")
    (target.parent / "model.tar.gz.sha256").write_text(text)
    with pytest.raises(CorruptArtifactError, match="is not the SHA-256 of") as caught, unpacked(target):
        pass
    assert "from where the archive was packed" in caught.value.fix
    assert "sha256sum" not in caught.value.fix  # that would vouch for whatever is there


def test_an_archive_in_several_compressed_pieces_is_whole(target):
    content = os.urandom(3 << 20)
    plain = gzip.decompress(archive(target, member("model.pth", content)).read_bytes())
    pieces = (plain[at : at + 65_536] for at in range(0, len(plain), 65_536))
    target.write_bytes(b"".join(map(gzip.compress, pieces)))
    with unpacked(target) as folder:
        assert (folder / "model.pth").read_bytes() == content


# What other tools pack


ARTIFACT = ("hyperparameters.json", "model_artifacts.pth", "model.pth", "tokenizer/tokenizer.json")


def found(path: Path, limits: Limits = LIMITS) -> list[str]:
    """Names of the files that are extracted of an archive."""
    with archives.unpacked(path, limits) as folder:
        return names(folder)


def linked(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    return member(name, b"", kind, linkname=to)


@pytest.mark.parametrize("around", ["", "./", "model/", "./model/", "my model/"])
@pytest.mark.parametrize("name", ["model.tar.gz", "model.tgz", "model.tar"])
def test_what_is_beside_an_artifact_is_not_extracted(target, around, name):
    beside = [
        "code/inference.py",
        linked("code/lib", "/usr/lib"),
        "code/a\nb",
        f"logs/{'d/' * 30}x",
        member("logs/device", b"", tarfile.CHRTYPE),
        "logs/C:/x",
        *(f"logs/{number}" for number in range(60)),
        member("output/huge", bytes(3_000_000)),
        "._model.pth",
        ".DS_Store",
        f"{around}._hyperparameters.json",
        f"{around}.DS_Store",
        f"{around}tokenizer/.DS_Store",
        "__MACOSX/._model.pth",
        f"{around}README.md",
        f"{around}events.out.tfevents.1",
        f"{around}code/requirements.txt",
    ]
    path = target.with_name(name)
    archive(target, *beside[:5], *(f"{around}{name}" for name in ARTIFACT), *beside[5:])
    if name == "model.tar":
        path.write_bytes(gzip.decompress(target.read_bytes()))
        target.unlink()
    else:
        target.rename(path)
    small = Limits(members=12, size=20_000_000, ratio=50, free=100_000)
    assert found(path, small) == found(path.parent, small) == sorted(ARTIFACT)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_every_form_of_tar_is_read(target, form):
    long = f"{'tokenizer' * 7}/{'ü' * 40}/tokenizer.json"
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=form) as tar:
        for name in (*ARTIFACT, long):
            tar.addfile(member(name)[0], io.BytesIO(b"x"))
    target.write_bytes(gzip.compress(plain.getvalue()))
    assert found(target) == sorted([*ARTIFACT, long])


@pytest.mark.parametrize("around", ["", "model/"])
def test_a_hard_link_to_what_is_not_extracted_is_read(target, around):
    """``tar`` packs the second name of a file as a link to the first one, which may be the one that is not read."""
    saved = member("checkpoints/last.ckpt", b"weights")
    links = [linked(f"{around}model.pth", "checkpoints/last.ckpt", tarfile.LNKTYPE)]
    links.append(linked(f"{around}tokenizer/vocab.txt", "./checkpoints/last.ckpt", tarfile.LNKTYPE))
    archive(target, saved, *(f"{around}{name}" for name in ARTIFACT if name != "model.pth"), *links)
    with archives.unpacked(target) as folder:
        assert names(folder) == sorted([*ARTIFACT, "tokenizer/vocab.txt"])
        assert (folder / "model.pth").read_bytes() == (folder / "tokenizer/vocab.txt").read_bytes() == b"weights"


def test_a_symbolic_link_to_weights_says_how_to_pack_the_file(target):
    archive(target, *ARTIFACT[:2], linked("model.pth", "checkpoints/last.ckpt"), "checkpoints/last.ckpt")
    with pytest.raises(UnsafeArtifactError, match=r"'model\.pth' is neither") as caught, archives.unpacked(target):
        pass
    assert "tar --dereference --hard-dereference" in caught.value.fix


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_hard_link_to_a_link_that_is_not_read_says_how_to_pack_the_file(target, kind):
    between = linked("checkpoints/best.ckpt", "checkpoints/last.ckpt", kind)
    weights = linked("model.pth", "checkpoints/best.ckpt", tarfile.LNKTYPE)
    archive(target, *ARTIFACT[:2], "checkpoints/last.ckpt", between, weights)
    problem = r"'checkpoints/best\.ckpt' is what a link leads to, and no plain file"
    with pytest.raises(UnsafeArtifactError, match=problem) as caught, archives.unpacked(target):
        pass
    assert "tar --dereference --hard-dereference" in caught.value.fix


def test_the_advice_to_pack_again_is_to_pack_no_archive(target):
    """The reader may be someone who packs an archive: a folder is what has to be packed."""
    with pytest.raises(UnsafeArtifactError) as caught, archives.unpacked(archive(target, *ARTIFACT, "../x")):
        pass
    assert "the folder that training saved, not an archive: `bsm pack FOLDER model.tar.gz`" in caught.value.fix


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "d/" * 21 + "x", "x" * 1_001, "../code/x"])
def test_a_hostile_name_beside_the_artifact_is_refused(target, name):
    with pytest.raises(UnsafeArtifactError), archives.unpacked(archive(target, *ARTIFACT, name)):
        pass


@pytest.mark.parametrize("size", [1 << 50, 1 << 35])
def test_a_size_that_is_claimed_beside_the_artifact_takes_no_time(target, size):
    with pytest.raises(ArtifactError):
        found(archive(target, *ARTIFACT, member("logs/huge", b"", pax_headers={"size": str(size)})))


def test_a_folder_that_holds_the_artifacts_folder_is_looked_through(tmp_path):
    for name in ARTIFACT:
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_bytes(b"x")
    (tmp_path / "code").mkdir()
    (tmp_path / "code/model.pth").touch()
    with archives.unpacked(tmp_path) as folder:
        assert folder == tmp_path / "model"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/model.pth").touch()
    with archives.unpacked(tmp_path) as folder:
        assert folder == tmp_path  # which of the two is meant nobody knows
    (tmp_path / "model.pth").touch()
    with archives.unpacked(tmp_path) as folder:
        assert folder == tmp_path


@pytest.mark.parametrize("places", [("a", "b"), ("model", ".")], ids=["two folders", "a folder and the top"])
@pytest.mark.parametrize("packed", [True, False])
def test_an_artifact_that_lies_in_two_folders_is_said(tmp_path, packed, places):
    files = [f"{places[0]}/{name}" for name in ARTIFACT] + [f"{places[1]}/hyperparameters.json"]
    path = tmp_path
    if packed:
        path = archive(tmp_path / "model.tar.gz", *files)
    else:
        for name in files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    with pytest.raises(MissingArtifactFilesError) as caught, archives.unpacked(path) as folder:
        require_artifact(folder)
    other = "the top: hyperparameters.json" if places[1] == "." else "b/: hyperparameters.json"
    whole = f"{places[0]}/: hyperparameters.json, model.pth, model_artifacts.pth"
    assert {f"found in {whole}", f"found in {other}"} <= {*caught.value.details}
    assert "one folder" in caught.value.fix
    assert "mv " not in caught.value.fix


def test_an_artifact_that_lies_too_deep_is_found_by_its_error(target):
    archive(target, *(f"opt/ml/model/{name}" for name in ARTIFACT))
    with pytest.raises(MissingArtifactFilesError) as caught, archives.unpacked(target) as folder:
        require_artifact(folder)
    assert "the archive has opt/ml/model/model.pth" in caught.value.details
    assert caught.value.where == str(target)
    assert "tar -C FOLDER -czf model.tar.gz ." in caught.value.fix


@pytest.mark.parametrize("folder", ["", "model\\", ".\\model\\"])
def test_names_with_backslashes_are_named(target, folder):
    archive(target, *(member(f"{folder}{name}") for name in ("model.pth", "hyperparameters.json")), "code/a\\b.py")
    if not folder:
        archive(target, "model\\model.pth", *ARTIFACT[:1])
    with pytest.raises(MissingArtifactFilesError) as caught, archives.unpacked(target) as unpacked_folder:
        require_artifact(unpacked_folder)
    assert any("model\\\\model.pth" in line for line in caught.value.details)
    assert "no backslash" in caught.value.fix


@pytest.mark.parametrize("keep", [False, True])
def test_names_with_backslashes_are_named_where_they_match_a_pattern_too(target, keep):
    archive(target, *("model\\" + name.replace("/", "\\") for name in ARTIFACT))
    with pytest.raises(UnsafeArtifactError, match="tokenizer") as caught, archives.unpacked(target, keep=keep):
        pass
    assert "no backslash: `tar -C FOLDER" in caught.value.fix


# What is kept beside what is read


def kept(path: Path, limits: Limits = LIMITS) -> set[str]:
    """Names of the files that are extracted of a whole artifact because they are kept."""
    with archives.unpacked(path, limits, keep=True) as folder:
        assert {*ARTIFACT} <= {*names(folder)}
        return {*names(folder)} - {*ARTIFACT}


OTHERS = ("README.md", "eval/code/table.txt", "code2/x")


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("around", ["", "./", "model/"])
def test_other_files_of_the_artifacts_folder_are_kept(target, caplog, around, last):
    others = [f"{around}{name}" for name in (*OTHERS, "code/x.py", "logs/x", ".hidden", "eval/.DS_Store")]
    own = [f"{around}{name}" for name in ARTIFACT]
    beside = ["LICENSE", "other/x"] if around == "model/" else []
    archive(target, *(own + others if last else others + own), *beside)
    assert kept(target) == {*OTHERS}
    assert caplog.text == ""


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (linked("extras/latest", "README.md"), "neither a plain file nor a folder"),
        (linked("extras/passwd", "/etc/passwd", tarfile.LNKTYPE), "outside the artifact's folder"),
        (linked("extras/nowhere", "nowhere", tarfile.LNKTYPE), "not kept"),
        (linked("extras/code", "code/x", tarfile.LNKTYPE), "not kept"),
        (member("extras/device", b"", tarfile.CHRTYPE), "neither a plain file nor a folder"),
        (member("extras/sparse", b"", pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": "9"}), "neither a"),
        ("notes/a\nb.txt", "not the same on every system"),
        ("notes\\a.txt", "not the same on every system"),
        ("C:/x", "not the same on every system"),
        ("ü" * 300, "too long for the file system"),
        ("readme.MD", "has the same place as"),
        ("MODEL.pth", "has the same place as"),
        ("tokenizer", "has the same place as"),
        ("model.pth/x", "has the same place as"),
        (member("zeros", bytes(2_000_000)), "compressed more than 50 times"),
    ],
)
def test_a_file_that_cannot_be_kept_is_left_out_with_a_warning(target, caplog, other, problem, last):
    around = ["README.md", "code/x", other] if last else [other, "README.md", "code/x"]
    archive(target, *(around if last else ()), *ARTIFACT, *(() if last else around))
    limits = Limits(ratio=50, free=100_000)
    assert found(target, limits) == sorted(ARTIFACT)
    left = kept(target, limits)
    assert left == ({"readme.MD"} if "readme.MD" in left else {"README.md"})
    [message] = caplog.messages
    assert f"{target}: 1 file(s) that bsm does not read are left out: " in message
    assert problem in message
    assert message.isprintable()


def test_files_that_are_kept_do_not_use_up_the_number_of_members(target, caplog):
    archive(target, *(f"samples/{number}" for number in range(50)), *ARTIFACT)
    assert kept(target, Limits(members=11)) == {f"samples/{number}" for number in range(5)}
    assert caplog.messages[0].endswith(
        "45 file(s) that bsm does not read are left out: the archive holds more than 11 members"
    )


def test_a_link_to_a_file_that_is_kept_counts_as_a_copy(target, caplog):
    links = [linked(f"big{number}", "big", tarfile.LNKTYPE) for number in range(50)]
    links.append(linked("more", "big0", tarfile.LNKTYPE))
    archive(target, member("big", os.urandom(300_000)), *links, member("small", b"1"), *ARTIFACT)
    assert kept(target, Limits(size=1_000_000)) == {"big", "big0", "big1", "small"}
    [message] = caplog.messages
    assert message.endswith(
        "49 file(s) that bsm does not read are left out: the archive holds more than 1,000,000 bytes"
    )


def test_hard_links_to_files_that_are_kept_are_kept(target, caplog):
    saved = member("checkpoints/last.ckpt", b"weights")
    links = [linked(name, "checkpoints/last.ckpt", tarfile.LNKTYPE) for name in ("model.pth", "best.ckpt")]
    archive(target, saved, *(name for name in ARTIFACT if name != "model.pth"), *links)
    assert kept(target) == {"checkpoints/last.ckpt", "best.ckpt"}
    with archives.unpacked(target, keep=True) as folder:
        assert {(folder / name).read_bytes() for name in ("model.pth", "best.ckpt")} == {b"weights"}
    assert caplog.text == ""
    with pytest.raises(UnsafeArtifactError, match="holds more than"):
        found(target, Limits(size=4))


def test_nothing_is_kept_where_the_artifact_is_not_whole(target):
    archive(target, *ARTIFACT[1:], "README.md")
    with archives.unpacked(target, keep=True) as folder:
        assert names(folder) == sorted(ARTIFACT[1:])


def test_the_ratio_of_an_archive_that_is_read_twice_is_that_of_the_whole(target):
    """The first pass extracts what takes up the most, and the second one begins with a small file."""
    link = linked("tokenizer/config.json", "blobs/1", tarfile.LNKTYPE)
    archive(target, member("blobs/1", b"{}"), *ARTIFACT[:2], link, member("model.pth", os.urandom(3_000_000)))
    assert len(found(target, Limits(ratio=2, free=1_000))) == 4


def test_weights_in_another_form_are_named_in_an_archive(target):
    archive(target, *ARTIFACT[:2], "global_step1/zero_pp_rank_0_mp_rank_00_optim_states.pt", "pytorch_model.bin")
    with pytest.raises(MissingArtifactFilesError) as caught, archives.unpacked(target) as folder:
        require_artifact(folder)
    assert "DeepSpeed" in caught.value.details[-1]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PK\3\4abc", "a zip file"),
        (bz2.compress(b"x"), "bzip2"),
        (lzma.compress(b"x"), "xz"),
        (b"\x28\xb5\x2f\xfdabc", "zstd"),
    ],
)
def test_an_archive_of_another_kind_is_named(target, data, what):
    target.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match=what) as caught:
        found(target)
    assert "unpack it, and pack the files again" in caught.value.fix


def test_an_archive_that_is_a_pointer_of_git_lfs_is_named(target):
    target.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 466062\n")
    with pytest.raises(CorruptArtifactError, match="pointers of Git LFS"):
        found(target)
