"""Folders and ZIP files of images: what is read, and what is refused with a mend."""

import os
import zipfile

import numpy as np
import pytest
from small_datasets import CLASSES, COLOURS, image_file, tree, write_folder, write_zip

from anytime_dnn_ros.datasets import Dataset, DatasetError, Images, image_tree, read_dataset
from anytime_dnn_ros.datasets.images import MEMORY_SHARE


@pytest.fixture(params=['folder', 'zip'])
def write(request, tmp_path):
    """Writes files as a folder or a ZIP file and gives its path."""
    if request.param == 'folder':
        return lambda files: write_folder(tmp_path / 'animals', files)
    return lambda files: write_zip(tmp_path / 'animals.zip', files)


def parts(dataset: Dataset) -> list[Images]:
    return [dataset.train, dataset.validation, dataset.require_test()]


def test_every_image_has_the_label_of_its_folder_in_rgb(write):
    dataset = read_dataset(write(tree()), validation_share=0.2)
    assert [len(part) for part in parts(dataset)] == [24, 6, 12]
    assert [part.name for part in parts(dataset)] == [
        'animals/train',
        'animals/validation',
        'animals/test',
    ]
    for part in parts(dataset):
        assert part.class_names == CLASSES
        assert np.bincount(part.labels).tolist() == [len(part) // 3] * 3
        assert part.pixels.shape[1:] == (8, 8, 3)
        for pixels, label in zip(part.pixels, part.labels, strict=True):
            assert tuple(pixels[4, 4]) == COLOURS[CLASSES[label]]
            assert pixels[0, 0].tolist() == [0, 0, 0]


def test_a_folder_and_a_zip_of_it_give_the_same_arrays(tmp_path):
    files = tree()
    # Noise tells one image of a class from another.
    for number, name in enumerate(files):
        files[name] = image_file(name.split('/')[1], (8, 8 + number % 2))
    folder = read_dataset(write_folder(tmp_path / 'animals', files), size=8, limit=9)
    archive = write_zip(tmp_path / 'animals.zip', dict(reversed(files.items())))
    zipped = read_dataset(archive, size=8, limit=9)
    for one, other in zip(parts(folder), parts(zipped), strict=True):
        assert one.name == other.name
        assert np.array_equal(one.pixels, other.pixels)
        assert np.array_equal(one.labels, other.labels)


def test_images_of_any_size_are_cropped_and_fitted_as_a_node_would(write):
    files = tree(size=(16, 24))
    dataset = read_dataset(write(files), size=4)
    assert dataset.train.pixels.shape == (27, 4, 4, 3)
    # The black corner is outside the square in the middle.
    assert dataset.train.pixels[0].min() == min(COLOURS['cat'])


def test_images_that_are_not_square_stay_so_without_a_size(write):
    assert read_dataset(write(tree(size=(6, 9)))).train.pixels.shape[1:] == (6, 9, 3)


def test_only_what_the_limit_needs_is_decoded(write, monkeypatch):
    decoded = []
    original = image_tree.cv2.imdecode
    monkeypatch.setattr(
        image_tree.cv2, 'imdecode', lambda *args: decoded.append(1) or original(*args)
    )
    dataset = read_dataset(write(tree(train=30, test=30)), limit=12)
    assert len(dataset.train) + len(dataset.validation) == 12
    assert len(dataset.require_test()) == 12
    assert len(decoded) <= 12 + 12 + 1


def test_files_of_other_kinds_hidden_files_and_deeper_folders_are_no_trouble(write):
    files = tree()
    files |= {
        'train/cat/boxes.txt': b'no image',
        'train/cat/._000.png': b'resource fork',
        'train/.cache/000.png': b'no class',
        'train/readme.md': b'beside the classes',
        'train/dog/more/000.JPEG': image_file('dog', suffix='.jpg'),
    }
    dataset = read_dataset(write(files), validation_share=0.2)
    assert dataset.class_names == CLASSES
    assert np.bincount(dataset.train.labels).tolist() == [8, 9, 8]


def test_a_zip_may_hold_everything_in_one_folder(tmp_path):
    files = {f'animals-1.0/{name}': content for name, content in tree().items()}
    files['__MACOSX/animals-1.0/train/cat/000.png'] = b''
    assert len(read_dataset(write_zip(tmp_path / 'a.zip', files)).train) == 27


def test_class_folders_may_be_links(tmp_path):
    root = write_folder(tmp_path / 'real', tree())
    for part in ('train', 'test'):
        linked = tmp_path / 'linked' / part
        linked.mkdir(parents=True)
        for name in CLASSES:
            (linked / name).symlink_to(root / part / name)
    assert len(read_dataset(tmp_path / 'linked').train) == 27


def test_without_a_test_folder_there_are_no_test_images(write):
    dataset = read_dataset(write(tree(test=0)))
    assert dataset.test is None


def test_all_broken_images_are_named_at_once(write):
    files = tree()
    whole = image_file('cat', (64, 64), '.jpg')
    files['train/cat/000.png'] = b''
    files['train/dog/003.png'] = b'not an image'
    files['test/newt/002.jpg'] = whole[: len(whole) // 2]
    with pytest.raises(DatasetError) as raised:
        read_dataset(write(files))
    message = str(raised.value)
    assert '3 of 43 image files cannot be read' in message
    for name in ('train/cat/000.png', 'train/dog/003.png', 'test/newt/002.jpg'):
        assert name in message
    assert message.endswith('replace or delete them')


def test_of_many_broken_images_some_are_named_and_the_rest_counted(write):
    files = dict.fromkeys(tree(), b'broken')
    with pytest.raises(DatasetError, match=r'42 of 42 .* and 37 more; replace'):
        read_dataset(write(files))


@pytest.mark.parametrize('compression', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_inside_a_zip_names_the_image(tmp_path, compression):
    path = write_zip(tmp_path / 'a.zip', tree(), compression)
    content = bytearray(path.read_bytes())
    # The first byte behind the first file's header: 0b110 there is no kind of deflate block.
    content[30 + len('train/cat/000.png')] |= 0b110
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r'1 of 42 .*train/cat/000.png; replace'):
        read_dataset(path)


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    path = write_folder(tmp_path, tree())
    original = os.scandir

    def scandir(folder):
        if str(folder).endswith('train/dog'):
            raise PermissionError(13, 'Permission denied', str(folder))
        return original(folder)

    monkeypatch.setattr(os, 'scandir', scandir)
    with pytest.raises(DatasetError, match=r'Permission denied: .*train/dog.*; make every'):
        read_dataset(path)


def test_sizes_that_differ_are_told_with_the_mend(write):
    files = tree()
    files['train/dog/004.png'] = image_file('dog', (8, 9))
    message = r'1 of 42 .*8x8 pixels: train/dog/004.png \(8x9\); give a size'
    with pytest.raises(DatasetError, match=message):
        read_dataset(write(files))


def test_an_empty_class_is_named(write, tmp_path):
    files = {name: content for name, content in tree().items() if 'train/dog/' not in name}
    files['train/dog/notes.txt'] = b'no image'
    with pytest.raises(DatasetError, match=r'no image \(.jpg, .*\) in train/dog; put images'):
        read_dataset(write(files))


def test_an_empty_class_folder_is_named(tmp_path):
    root = write_folder(tmp_path, tree())
    (root / 'train' / 'ant').mkdir()
    (root / 'test' / 'ant').mkdir()
    with pytest.raises(DatasetError, match='in train/ant; put images there or remove'):
        read_dataset(root)


def test_an_empty_class_folder_in_a_zip_is_named(tmp_path):
    files = tree() | {'train/ant/': b'', 'test/ant/': b''}
    with pytest.raises(DatasetError, match='in train/ant;'):
        read_dataset(write_zip(tmp_path / 'a.zip', files))


@pytest.mark.parametrize(
    ('missing', 'named'), [('train/newt/', 'newt'), ('test/cat/', 'cat')], ids=['train', 'test']
)
def test_classes_that_differ_between_train_and_test_are_named(write, missing, named):
    files = {name: content for name, content in tree().items() if missing not in name}
    with pytest.raises(DatasetError, match=f'train and test differ in the classes {named};'):
        read_dataset(write(files))


def test_a_tree_of_another_layout_is_told_which_one_is_read(write):
    files = {f'images/{number}.png': image_file('cat') for number in range(3)}
    with pytest.raises(DatasetError, match='0 class folders in train/; give train/<class>/'):
        read_dataset(write(files))


def test_one_class_is_nothing_to_learn(write):
    files = {name: content for name, content in tree().items() if '/cat/' in name}
    with pytest.raises(DatasetError, match=r'1 class folders in train/; .*two classes or more'):
        read_dataset(write(files))


def test_too_many_images_for_the_memory_are_refused(write, monkeypatch):
    path = write(tree())
    need = 42 * 8 * 8 * 3
    memory = type('Memory', (), {'total': int(need / MEMORY_SHARE) - 8})
    monkeypatch.setattr('psutil.virtual_memory', lambda: memory)
    with pytest.raises(DatasetError, match=r'42x8x8x3 needs .*limit'):
        read_dataset(path)
    assert len(read_dataset(path, limit=20).train) == 18


def test_a_zip_bomb_is_refused_by_the_size_it_claims(tmp_path, monkeypatch):
    monkeypatch.setattr(image_tree, 'MAX_FILE_BYTES', 10_000)
    files = tree() | {'train/cat/bomb.png': bytes(10_001)}
    with pytest.raises(DatasetError, match=r"'train/cat/bomb.png' claims .* take it out"):
        read_dataset(write_zip(tmp_path / 'a.zip', files))


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 but no more', b'text'])
def test_a_file_that_is_no_zip_is_told(tmp_path, content):
    path = tmp_path / 'a.zip'
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r'a.zip cannot be read .*; give a folder or ZIP'):
        read_dataset(path)
