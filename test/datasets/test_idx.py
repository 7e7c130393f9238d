"""IDX files: MNIST and Fashion-MNIST, raw and gzipped, whole and damaged."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from small_datasets import idx, idx_images, idx_labels, write_folder

from anytime_dnn_ros.datasets import DatasetError, read_dataset
from anytime_dnn_ros.datasets import idx as idx_module

IMAGES, LABELS = 'train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz'


@pytest.fixture
def mnist(tmp_path) -> Path:
    return write_folder(tmp_path / 'mnist', idx())


def raw(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name.removesuffix('.gz'): gzip.decompress(data) for name, data in files.items()}


def test_images_keep_their_labels_through_the_split(mnist):
    dataset = read_dataset(mnist, validation_share=0.25)
    parts = [dataset.train, dataset.validation, dataset.require_test()]
    assert [len(part) for part in parts] == [30, 10, 20]
    assert [part.name for part in parts] == ['mnist/train', 'mnist/validation', 'mnist/test']
    for part in parts:
        assert part.pixels.shape[1:] == (6, 6, 1)
        assert np.array_equal(part.pixels[:, 0, 0, 0] // 10, part.labels)
        assert part.class_names == tuple('0123456789')
        assert np.bincount(part.labels).tolist() == [len(part) // 10] * 10


def test_raw_files_and_dotted_names_are_the_same_data(mnist, tmp_path):
    files = {n.replace('-idx', '.idx'): data for n, data in raw(idx()).items()}
    plain = read_dataset(write_folder(tmp_path / 'raw', files))
    assert np.array_equal(plain.train.pixels, read_dataset(mnist).train.pixels)


def test_a_limit_takes_so_many_of_both_files(mnist):
    dataset = read_dataset(mnist, limit=20, validation_share=0.5)
    assert (len(dataset.train), len(dataset.validation)) == (10, 10)
    assert len(read_dataset(mnist, limit=10, validation_share=0).require_test()) == 10


def test_test_images_under_a_limit_are_the_same_for_every_seed(mnist):
    tests = [read_dataset(mnist, limit=12, validation_share=0, seed=s).test for s in (0, 1)]
    assert np.array_equal(tests[0].pixels, tests[1].pixels)


def test_a_size_fits_every_image(mnist):
    dataset = read_dataset(mnist, size=3, validation_share=0.25)
    assert dataset.train.pixels.shape == (30, 3, 3, 1)
    assert np.array_equal(dataset.train.pixels[:, 0, 0, 0] // 10, dataset.train.labels)


def test_a_folder_of_fashion_has_its_class_names(tmp_path):
    folder = write_folder(tmp_path / 'FashionMNIST' / 'raw', idx())
    dataset = read_dataset(folder, validation_share=0.25)
    assert dataset.class_names[0] == 'T-shirt/top'
    assert dataset.class_names[9] == 'Ankle boot'
    assert dataset.train.name == 'fashion-mnist/train'


def test_fashion_is_told_by_its_labels_in_a_folder_of_any_name(mnist, monkeypatch):
    labels = gzip.decompress((mnist / LABELS).read_bytes())[8:]
    monkeypatch.setattr(idx_module, 'FASHION_LABELS_CRC', zlib.crc32(labels))
    assert read_dataset(mnist, validation_share=0).class_names[9] == 'Ankle boot'


def test_the_word_finds_the_data_in_the_usual_places(tmp_path, monkeypatch):
    monkeypatch.setattr(idx_module, 'DEBIAN_FOLDER', tmp_path / 'debian')
    monkeypatch.setattr(Path, 'home', lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(idx_module.DATA_VARIABLE, raising=False)
    word = Path('fashion-mnist')
    with pytest.raises(DatasetError, match='apt install dataset-fashion-mnist; else set ANYTIME'):
        read_dataset(word)
    write_folder(tmp_path / 'debian', idx(train=50))
    assert len(read_dataset(word, validation_share=0).train) == 50
    write_folder(tmp_path / 'own' / 'fashion-mnist', idx(train=30))
    monkeypatch.setenv(idx_module.DATA_VARIABLE, str(tmp_path / 'own'))
    assert len(read_dataset(word, validation_share=0).train) == 30
    write_folder(tmp_path / 'fashion-mnist', idx(train=20))
    assert len(read_dataset(word, validation_share=0).train) == 20


def test_the_real_fashion_mnist_where_it_is_installed():
    if not idx_module.is_idx_folder(idx_module.DEBIAN_FOLDER):
        pytest.skip('apt install dataset-fashion-mnist')
    labels = idx_module.DEBIAN_FOLDER / LABELS
    content = gzip.decompress(labels.read_bytes())[8:]
    assert zlib.crc32(content) == idx_module.FASHION_LABELS_CRC
    dataset = read_dataset(idx_module.DEBIAN_FOLDER, limit=1000)
    assert (len(dataset.train), len(dataset.validation)) == (900, 100)
    assert dataset.train.pixels.shape[1:] == (28, 28, 1)


def test_without_test_files_there_are_no_test_images(mnist):
    for path in mnist.glob('t10k-*'):
        path.unlink()
    assert read_dataset(mnist).test is None


@pytest.mark.parametrize('missing', [IMAGES, LABELS, 't10k-labels-idx1-ubyte.gz'])
def test_a_missing_file_is_named(mnist, missing):
    (mnist / missing).unlink()
    with pytest.raises(DatasetError, match=f'lacks {missing.removesuffix(".gz")} or .*; add'):
        read_dataset(mnist)


PIXELS = np.zeros((40, 6, 6), np.uint8)
GIVEN = np.arange(40) % 10


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        (LABELS, idx_labels(GIVEN[:30]), 'train has 40 images and 30 labels; take both'),
        (LABELS, idx_labels(np.where(GIVEN == 7, 11, GIVEN)), r'label 11 of image 7 is no class'),
        (LABELS, idx_labels(np.where(GIVEN == 7, 1, GIVEN)), r'no image of class 7; give'),
        (LABELS, idx_images(PIXELS), 'no IDX file of magic number 00000801 .*with 00000803'),
        (IMAGES, b'', 'no IDX file of magic number 00000803 .*nothing'),
        (IMAGES, idx_images(PIXELS)[:9], r'gives the sizes \[40\], not 3 above 0'),
        (IMAGES, struct.pack('>4I', 0x803, 40, 0, 6), r'gives the sizes \[40, 0, 6\]'),
        (IMAGES, idx_images(PIXELS)[:-1], 'promises 1440 bytes, it has only 1439; get the file'),
        (IMAGES, idx_images(PIXELS) + b'x', 'promises 1440 bytes, it has more'),
        (IMAGES, struct.pack('>4I', 0x803, *[2**31] * 3), 'needs .* and this machine spares'),
    ],
)
def test_damage_is_told_with_the_file(mnist, name, content, message):
    (mnist / name).write_bytes(gzip.compress(content))
    with pytest.raises(DatasetError, match=message):
        read_dataset(mnist)


def test_a_class_that_the_test_files_lack_is_named(mnist):
    content = idx_labels(np.arange(20) % 9)
    (mnist / 't10k-labels-idx1-ubyte.gz').write_bytes(gzip.compress(content))
    with pytest.raises(DatasetError, match=r'mnist \(test\): no image of class 9; give'):
        read_dataset(mnist)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[:-6] + bytes([data[-6] ^ 1]) + data[-5:]


@pytest.mark.parametrize('damage', [cut, flipped, lambda data: b'text' + data])
def test_a_damaged_gz_is_told(mnist, damage):
    path = mnist / IMAGES
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=rf'{IMAGES} cannot be read .*; get the file again'):
        read_dataset(mnist)


def test_test_images_of_another_size_need_a_size(mnist):
    content = idx_images(np.zeros((20, 5, 5), np.uint8))
    (mnist / 't10k-images-idx3-ubyte.gz').write_bytes(gzip.compress(content))
    with pytest.raises(DatasetError, match=r'test images are .*5, 5.*6, 6.*give a size'):
        read_dataset(mnist)
    assert read_dataset(mnist, size=4).require_test().pixels.shape == (20, 4, 4, 1)
