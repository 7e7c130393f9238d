"""The command line: help, errors in one line, and what inspect and doctor print."""

import errno
import json
import subprocess
import sys

import pytest

from anytime_dnn_ros import cli
from anytime_dnn_ros.cli import doctor
from anytime_dnn_ros.demo import processes
from ladders import make_ladder


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(['--help'])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert name in printed
        assert command.summary in ' '.join(printed.split())


@pytest.mark.parametrize('name', ['demo', 'profile', 'inspect', 'doctor'])
def test_each_command_has_help_and_json(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([name, '--help'])
    assert end.value.code == 0
    assert '--json FILE' in capsys.readouterr().out


def test_a_command_must_be_given(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert end.value.code == 2
    assert 'COMMAND' in capsys.readouterr().err


def test_only_the_asked_command_is_imported():
    code = (
        'import sys; from anytime_dnn_ros import cli; cli._parser("inspect"); '
        'print([m for m in ("torch", "rclpy", "matplotlib", "skimage") if m in sys.modules])'
    )
    printed = subprocess.run([sys.executable, '-c', code], capture_output=True, check=True).stdout
    assert printed.decode().strip() == '[]'


@pytest.mark.parametrize(
    ('name', 'missing', 'mend'),
    [
        ('ensemble', 'torch', 'run `make forge`'),
        ('report', 'matplotlib', "pip install '.[forge]'"),
        ('demo', 'matplotlib', "pip install '.[demo]'"),
        ('demo', 'rclpy', 'setup.bash'),
    ],
)
def test_a_missing_package_is_named_with_its_mend(name, missing, mend, monkeypatch, capsys):
    def refuse(module):
        raise ModuleNotFoundError(f'No module named {missing!r}', name=missing)

    monkeypatch.setattr(cli, 'import_module', refuse)
    assert cli.main([name]) == 1
    said = capsys.readouterr().err
    assert repr(missing) in said
    assert mend in said
    assert said.count('\n') == 1


def test_a_package_that_is_missing_only_at_run_is_named_as_well(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'rich.progress', None)
    assert cli.main(['ensemble', 'lite', '--data', 'photos.zip']) == 1
    said = capsys.readouterr().err
    assert 'rich.progress' in said
    assert '`make forge`' in said
    assert said.count('\n') == 1


def test_an_error_in_our_own_code_is_not_taken_for_a_missing_package(monkeypatch):
    def refuse(module):
        raise ModuleNotFoundError('No module named', name='anytime_dnn_ros.nowhere')

    monkeypatch.setattr(cli, 'import_module', refuse)
    with pytest.raises(ModuleNotFoundError):
        cli.main(['demo'])


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (OSError(errno.ENOSPC, 'No space left on device'), 'No space left on device; make room'),
        (
            OSError(errno.ENOSPC, 'No space', '/spool/x'),
            '/spool/x: No space; make room, or set TMP',
        ),
        (PermissionError(errno.EACCES, 'Permission denied', '/x'), '/x: Permission denied; check'),
        (FileNotFoundError(errno.ENOENT, 'No usable temporary directory'), 'set TMPDIR'),
    ],
)
def test_what_the_system_refuses_is_told_in_one_line(error, said, monkeypatch, capsys):
    def refuse(module):
        raise error

    monkeypatch.setattr(cli, 'import_module', refuse)
    assert cli.main(['inspect', 'lite']) == 1
    told = capsys.readouterr().err
    assert told.startswith('anytime-dnn: ')
    assert said in told
    assert told.count('\n') == 1


def test_inspect_shows_and_writes_every_stage(tmp_path, capsys):
    bundle = make_ladder(tmp_path / 'colors')
    assert cli.main(['inspect', str(bundle.path), '--json', str(tmp_path / 'f.json')]) == 0
    printed = capsys.readouterr().out
    figures = json.loads((tmp_path / 'f.json').read_text())
    assert [s['name'] for s in figures['stages']] == ['exit1', 'exit2', 'exit3']
    for index, (shown, stage) in enumerate(
        zip(figures['stages'], bundle.manifest.stages, strict=True)
    ):
        assert shown['name'] in printed
        assert shown['macs'] == stage.macs
        assert shown['file_bytes'] == bundle.stage_file(index).stat().st_size
    assert '32x32x3' in printed


@pytest.mark.parametrize('damage', ['missing', 'flipped', 'no bundle'])
def test_inspect_refuses_a_bad_bundle_in_one_line(damage, tmp_path, capsys):
    bundle = make_ladder(tmp_path / 'colors')
    file = bundle.stage_file(1)
    if damage == 'missing':
        file.unlink()
    elif damage == 'flipped':
        data = bytearray(file.read_bytes())
        data[100] ^= 1
        file.write_bytes(data)
    path = tmp_path / 'nowhere' if damage == 'no bundle' else bundle.path
    assert cli.main(['inspect', str(path)]) == 1
    said = capsys.readouterr()
    assert said.out == ''
    assert said.err.startswith('anytime-dnn: ')
    assert said.err.count('\n') == 1
    assert (path.name if damage == 'no bundle' else file.name) in said.err


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--duration-s', '1'], '--duration-s 1'),
        (['--duration-s', 'nan'], '--duration-s nan'),
        (['--model', 'no-such-model'], 'no-such-model'),
    ],
)
def test_demo_refuses_what_it_cannot_do(arguments, said, tmp_path, capsys):
    assert cli.main(['demo', '--out', str(tmp_path / 'out'), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def finding(**changes):
    usual = {'name': 'rclpy', 'ok': True, 'required': True, 'detail': 'here', 'mend': ''}
    return doctor.Finding(**{**usual, **changes})


@pytest.mark.parametrize(
    ('findings', 'code', 'line'),
    [
        ([finding()], 0, 'ok       rclpy: here'),
        ([finding(ok=False, required=False, mend='get it')], 0, 'missing  rclpy: here'),
        ([finding(), finding(ok=False, mend='get it')], 1, 'MISSING  rclpy: here'),
    ],
)
def test_doctor_fails_only_for_what_the_node_needs(
    findings, code, line, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(doctor, 'examine', lambda: findings)
    assert cli.main(['doctor', '--json', str(tmp_path / 'd.json')]) == code
    printed = capsys.readouterr().out.splitlines()
    assert line in printed
    assert ('         mend: get it' in printed) == any(not f.ok for f in findings)
    assert len(json.loads((tmp_path / 'd.json').read_text())) == len(findings)


def test_doctor_gives_a_mend_for_everything_missing(monkeypatch):
    def refuse(module):
        raise ImportError(f'no {module}')

    monkeypatch.setattr(doctor, 'import_module', refuse)
    broken = [f for f in doctor.examine() if not f.ok]
    assert {'rclpy', 'onnxruntime', 'messages of anytime_dnn_ros'} <= {f.name for f in broken}
    assert all(f.mend and f.detail for f in broken)


def test_doctor_finds_the_nodes_needs_here():
    found = {f.name: f for f in doctor.examine()}
    needs = ('rclpy', 'messages of anytime_dnn_ros', 'middleware', 'onnxruntime')
    assert [found[name].detail for name in needs if not found[name].ok] == []


def test_a_folder_called_launch_is_not_taken_for_ros_launch(tmp_path, monkeypatch):
    (tmp_path / 'launch').mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, 'launch', raising=False)
    with pytest.raises(AttributeError):
        doctor._present('launch', 'LaunchDescription')


@pytest.mark.parametrize('present', [True, False])
def test_doctor_asks_for_a_profile_that_exists(present, tmp_path, monkeypatch):
    profile = tmp_path / 'profile.xml'
    if present:
        profile.write_text('<profiles/>')
    monkeypatch.setattr(doctor, '_middleware', lambda: 'rmw_fastrtps_cpp')
    for variable in processes.PROFILE_VARIABLES:
        monkeypatch.setenv(variable, str(profile))
    found = {f.name: f for f in doctor.examine()}
    assert found['shared memory for camera frames'].ok is present
