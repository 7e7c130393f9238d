import errno
import hashlib
import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip('torch')

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge import checkpoint  # noqa: E402
from anytime_dnn_ros.forge.checkpoint import Checkpoint, CheckpointError  # noqa: E402

IDENTITY = {'network': 'msdnet', 'shape': (3, 32, 32), 'augmentation': {'pad': 4}}
STATE = {
    'epoch': 3,
    'net': {'weight': torch.arange(40.0)},
    'best': None,
    'history': [{'a': (1, 2)}],
}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / 'checkpoint.pt'
    checkpoint.save(path, IDENTITY, STATE)
    return path


def test_what_is_saved_is_loaded(saved):
    state = checkpoint.load(saved, IDENTITY)
    assert torch.equal(state['net'].pop('weight'), STATE['net']['weight'])
    assert state == {**STATE, 'net': {}}


def test_the_options_of_its_command_are_kept(saved):
    assert checkpoint.read(saved).options is None
    options = {'network': 'msdnet', 'rule_option': ['gamma=0.1'], 'mmac': None, 'width': 0.5}
    checkpoint.save(saved, IDENTITY, STATE, options)
    found = checkpoint.read(saved)
    assert (found.options, found.identity) == (options, IDENTITY)
    assert found.state_of(IDENTITY)['epoch'] == 3


@pytest.mark.parametrize('kept', ['best', 'average', 'net'])
def test_what_a_training_came_to_is_the_best_it_kept(tmp_path, kept):
    names = ('net', 'average', 'best')
    better = names[names.index(kept) + 1 :]
    state = {name: None if name in better else {'weight': name} for name in names}
    assert Checkpoint(tmp_path, {}, None, state).weights == {'weight': kept}


def test_a_digest_of_weights_sees_every_value():
    weights = {'mask': torch.tensor([True]), 'count': torch.tensor(3), 'w': torch.ones(2, 2)}
    known = checkpoint.weights_digest(weights)
    # Another layout in memory is the same network.
    assert checkpoint.weights_digest({**weights, 'w': torch.ones(2, 2).t()}) == known
    for name, tensor in weights.items():
        changed = tensor.clone()
        changed.view(-1)[-1] = 0
        assert checkpoint.weights_digest({**weights, name: changed}) != known


def test_another_training_is_told_by_each_difference(saved):
    other = {**IDENTITY, 'network': 'fractalnet', 'augmentation': {'pad': 2}}
    with pytest.raises(ConfigurationError) as told:
        checkpoint.load(saved, other)
    assert 'network: msdnet there, fractalnet here' in str(told.value)
    assert "augmentation: {'pad': 4} there, {'pad': 2} here" in str(told.value)
    assert 'shape' not in str(told.value)
    assert '--resume' in str(told.value)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_wrong_bit_anywhere_is_damage(tmp_path_factory, share, bit):
    path = tmp_path_factory.mktemp('damage') / 'checkpoint.pt'
    checkpoint.save(path, IDENTITY, STATE)
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match='damaged'):
        checkpoint.load(path, IDENTITY)


@pytest.mark.parametrize('size', [0, 10, 500])
def test_a_cut_file_is_damage(saved, size):
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(CheckpointError, match='damaged'):
        checkpoint.load(saved, IDENTITY)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(CheckpointError, match='without --resume'):
        checkpoint.load(tmp_path / 'checkpoint.pt', IDENTITY)


def test_no_code_is_loaded(saved):
    buffer = io.BytesIO()
    torch.save({'format': checkpoint.FORMAT, 'identity': IDENTITY, 'state': Path('x')}, buffer)
    data = buffer.getvalue()
    saved.write_bytes(data + hashlib.sha256(data).digest())
    with pytest.raises(CheckpointError, match=r'tensors and plain values.*give one'):
        checkpoint.load(saved, IDENTITY)


@pytest.mark.parametrize('damage', ['missing', 'cut', 'format', 'other'])
def test_only_who_goes_on_is_told_to_leave_out_resume(saved, monkeypatch, damage):
    if damage == 'missing':
        saved.unlink()
    elif damage == 'cut':
        saved.write_bytes(b'')
    elif damage == 'format':
        monkeypatch.setattr(checkpoint, 'FORMAT', checkpoint.FORMAT + 1)
    with pytest.raises((CheckpointError, ConfigurationError)) as told:
        checkpoint.read(saved).state_of({'network': 'fractalnet'})
    assert '--resume' not in str(told.value)
    with pytest.raises(type(told.value), match='starts without --resume'):
        checkpoint.load(saved, {'network': 'fractalnet'})


def test_another_format_is_told(saved, monkeypatch):
    monkeypatch.setattr(checkpoint, 'FORMAT', checkpoint.FORMAT + 1)
    with pytest.raises(CheckpointError, match='format'):
        checkpoint.load(saved, IDENTITY)


def test_a_full_disk_leaves_the_old_checkpoint(saved, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, 'fsync', full)
        with pytest.raises(ConfigurationError, match='No space left'):
            checkpoint.save(saved, IDENTITY, {'epoch': 4})
    assert checkpoint.load(saved, IDENTITY)['epoch'] == 3
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]
