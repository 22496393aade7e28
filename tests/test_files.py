import errno
from pathlib import Path

import pytest

from nasopt.errors import OutputError
from nasopt.files import beside, read_rows, write_whole


def test_results_of_two_databases_in_one_folder_have_names_of_their_own():
    names = ("study.db", "study.sqlite", "study", "a.db", "a.sqlite")
    paths = [beside(Path("runs") / name, "report.html") for name in names]
    assert [str(path) for path in paths[:4]] == [
        "runs/report.html",
        "runs/study.sqlite-report.html",
        "runs/study-report.html",
        "runs/a-report.html",
    ]
    assert len(set(paths)) == len(paths)


def test_a_file_is_written_with_its_folder(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_file_that_cannot_be_written_is_an_error_with_advice_and_leaves_the_old_one(
    tmp_path, monkeypatch
):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OutputError, match=r"cannot write .*/file/inside \(.*\); free some space"):
        write_whole(tmp_path / "file" / "inside", b"new", "free some space")

    def fail(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    def interrupt(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr("nasopt.files.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    monkeypatch.setattr("nasopt.files.os.fsync", fail)
    with pytest.raises(OutputError, match=r"No space left on device\); mend the permissions"):
        write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_last_line_that_is_not_whole_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_rows(path) == []
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert read_rows(path) == [{"a": 1}, {"a": 2}]
