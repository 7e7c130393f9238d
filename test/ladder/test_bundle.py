import json
from dataclasses import replace
from pathlib import Path

import pytest

from anytime_dnn_ros.errors import BundleError
from anytime_dnn_ros.ladder.bundle import (
    check_can_write_bundle,
    find_bundle,
    read_bundle,
    write_bundle,
)
from ladders import LABELS, make_ladder, stage_model


@pytest.fixture
def bundle(tmp_path):
    return make_ladder(tmp_path / 'colours')


def edit_manifest(bundle, change):
    """Rewrites the manifest on disk as `change` alters its document."""
    file = bundle.path / 'manifest.json'
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def stage_files(count=3):
    return {f'exit{i + 1}': stage_model(first=i == 0, last=i == count - 1) for i in range(count)}


def test_a_bundle_read_back_is_the_bundle_written(bundle):
    again = read_bundle(bundle.path)
    assert again == bundle
    assert again.labels == LABELS
    assert again.stage_file(1) == bundle.path / 'stages' / 'exit2.onnx'
    assert again.manifest.num_classes == 3


def test_a_bundle_without_quality_declares_none(tmp_path):
    assert make_ladder(tmp_path / 'plain', with_quality=False).quality is None


def test_a_flipped_byte_in_a_stage_is_found(bundle):
    file = bundle.stage_file(1)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match=r'exit2.*damaged.*copy'):
        read_bundle(bundle.path)


@pytest.mark.parametrize('name', ['manifest.json', 'labels.txt', 'stages/exit3.onnx'])
def test_a_missing_file_is_named(bundle, name):
    (bundle.path / name).unlink()
    with pytest.raises(BundleError, match=rf'{name}.*cannot be read'):
        read_bundle(bundle.path)


@pytest.mark.parametrize('name', ['../elsewhere/exit1.onnx', '/elsewhere/exit1.onnx'])
def test_a_path_that_points_outside_is_refused(bundle, name):
    outside = bundle.path.parent / 'elsewhere' / 'exit1.onnx'
    outside.parent.mkdir()
    outside.write_bytes(bundle.stage_file(0).read_bytes())
    name = str(outside) if name.startswith('/') else name
    edit_manifest(bundle, lambda doc: doc['stages'][0].update(file=name))
    with pytest.raises(BundleError, match='points outside the bundle'):
        read_bundle(bundle.path)


def test_a_linked_stage_file_is_fine(bundle):
    file = bundle.stage_file(0)
    target = file.rename(bundle.path.parent / 'elsewhere.onnx')
    file.symlink_to(target)
    assert read_bundle(bundle.path) == bundle


def test_too_few_labels_are_refused(bundle):
    (bundle.path / 'labels.txt').write_text('red\n')
    with pytest.raises(BundleError, match=r'1 lines.*3 classes'):
        read_bundle(bundle.path)


def test_labels_that_are_no_text_are_refused(bundle):
    (bundle.path / 'labels.txt').write_bytes(b'\xff\xfe\n\xff\n\xff\n')
    with pytest.raises(BundleError, match='not UTF-8'):
        read_bundle(bundle.path)


@pytest.mark.parametrize(
    ('text', 'match'),
    [
        ('{', 'not valid JSON'),
        ('{"schema_version": 1}', 'does not fit its schema'),
    ],
)
def test_a_damaged_quality_file_is_refused(bundle, text, match):
    (bundle.path / 'quality.json').write_text(text)
    with pytest.raises(BundleError, match=match):
        read_bundle(bundle.path)


def test_quality_of_another_number_of_stages_is_refused(bundle):
    file = bundle.path / 'quality.json'
    document = json.loads(file.read_text())
    document['stages'].pop()
    file.write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r'describes 2 stages.*calibrate'):
        read_bundle(bundle.path)


def test_writing_replaces_a_bundle_whole(bundle):
    stale = bundle.path / 'stages' / 'stale.onnx'
    stale.write_bytes(b'')
    write_bundle(bundle.path, bundle.manifest, stage_files(), LABELS, None)
    assert not stale.exists()
    assert read_bundle(bundle.path).quality is None


def test_an_interrupt_while_replacing_leaves_the_old_bundle(bundle, monkeypatch):
    rename = Path.rename

    def interrupted(path, target):
        if target == bundle.path and not path.name.endswith('-old'):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, 'rename', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(bundle.path, bundle.manifest, stage_files(), LABELS, None)
    assert read_bundle(bundle.path) == bundle
    assert [p.name for p in bundle.path.parent.iterdir()] == ['colours']


def test_a_bundle_that_does_not_fit_together_leaves_the_old_one_alone(bundle):
    with pytest.raises(BundleError, match='1 lines'):
        write_bundle(bundle.path, bundle.manifest, stage_files(), ('red',), None)
    assert read_bundle(bundle.path) == bundle
    assert [p.name for p in bundle.path.parent.iterdir()] == ['colours']


def test_a_stage_file_written_outside_the_bundle_is_refused(bundle):
    first = replace(bundle.manifest.stages[0], file='../out.onnx')
    manifest = replace(bundle.manifest, stages=(first, *bundle.manifest.stages[1:]))
    with pytest.raises(BundleError, match='points outside'):
        write_bundle(bundle.path.parent / 'new', manifest, stage_files(), LABELS, None)
    assert [p.name for p in bundle.path.parent.iterdir()] == ['colours']


def test_a_folder_that_is_no_bundle_is_never_replaced(bundle, tmp_path):
    precious = tmp_path / 'home' / 'thesis.tex'
    precious.parent.mkdir()
    precious.write_text('x')
    with pytest.raises(BundleError, match='is no bundle'):
        write_bundle(precious.parent, bundle.manifest, stage_files(), LABELS, None)
    assert precious.read_text() == 'x'


def test_what_cannot_be_written_can_be_known_before(bundle, tmp_path):
    (tmp_path / 'notes.txt').write_text('x')
    with pytest.raises(BundleError, match='is no bundle'):
        check_can_write_bundle(tmp_path)
    with pytest.raises(BundleError, match='cannot write beside'):
        check_can_write_bundle(tmp_path / 'notes.txt' / 'new')
    before = sorted(bundle.path.parent.rglob('*'))
    check_can_write_bundle(bundle.path)
    check_can_write_bundle(bundle.path.parent / 'new')
    assert sorted(bundle.path.parent.rglob('*')) == before


def test_a_bundle_is_found_by_its_path(bundle):
    assert find_bundle(str(bundle.path)) == bundle.path


@pytest.mark.parametrize('model', ['', 'no-such-bundle', '/no/such/folder'])
def test_an_unknown_model_is_named_with_what_would_do(model):
    with pytest.raises(BundleError, match=rf'{model!r}.*give one of'):
        find_bundle(model)
