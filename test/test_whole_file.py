"""A file is there whole, or as it was."""

import errno
import os

import pytest

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.whole_file import check_can_write, keep_whole, write_whole


def test_a_file_is_replaced_and_readable_by_others(tmp_path):
    file = tmp_path / 'f.json'
    file.write_text('old')
    write_whole(file, b'new')
    assert file.read_bytes() == b'new'
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    'stop', [OSError(errno.ENOSPC, 'No space left on device'), KeyboardInterrupt()]
)
def test_a_full_disk_or_ctrl_c_leaves_the_old_file(tmp_path, monkeypatch, stop):
    file = tmp_path / 'f.json'
    file.write_text('old')

    def refuse(handle):
        raise stop

    monkeypatch.setattr(os, 'fsync', refuse)
    expected = ConfigurationError if isinstance(stop, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_whole(file, b'new')
    assert file.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_cache_keeps_is_for_its_owner_alone(tmp_path):
    file = tmp_path / 'cache' / ('x' * 200)
    keep_whole(file, [b'old'])
    keep_whole(file, [b'n', b'ew'])
    assert file.read_bytes() == b'new'
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert list(file.parent.iterdir()) == [file]


def test_a_folder_that_is_missing_is_made(tmp_path):
    file = tmp_path / 'a' / 'b' / 'f.json'
    check_can_write(file)
    write_whole(file, b'x')
    assert file.read_bytes() == b'x'


def test_what_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigurationError, match='choose another'):
        check_can_write(tmp_path / 'file' / 'f.json')
    with pytest.raises(ConfigurationError, match='name a file in it'):
        check_can_write(tmp_path)
