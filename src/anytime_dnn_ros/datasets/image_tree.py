"""Image files in `train/<class>/` and `test/<class>/`, in a folder or a ZIP file."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.datasets.images import (
    Dataset,
    DatasetError,
    Images,
    PartName,
    check_memory,
    image_spec,
)
from anytime_dnn_ros.datasets.split import stratified_choice, training_split
from anytime_dnn_ros.ladder.frame_fit import fit_frame

SUFFIXES = ('jpg', 'jpeg', 'png', 'bmp', 'webp', 'tif', 'tiff', 'ppm', 'pgm', 'pnm')
LAYOUT = 'train/<class>/<image> and test/<class>/<image>'
# A photo of 100 megapixels is smaller; what claims more inside a ZIP is a bomb.
MAX_FILE_BYTES = 256 * 2**20
# What macOS packs beside the files.
MACOS_FOLDER = '__MACOSX'
# Work for one thread at a time: small enough that Ctrl-C is quick.
BLOCK = 64
NAMES_IN_A_MESSAGE = 5


@dataclass(frozen=True)
class _Tree:
    """A folder or ZIP file: what is in it, and how to read it.

    Attributes:
        names: POSIX paths of all files and folders below the root, sorted; a folder's ends in /.
        read: Content of one of the files.
    """

    where: str
    names: tuple[str, ...]
    read: Callable[[str], bytes]

    def has(self, part: str) -> bool:
        """Whether there is a folder of that name."""
        return any(name.startswith(f'{part}/') for name in self.names)


@dataclass(frozen=True)
class _Part:
    """One of train and test: files [N] with their labels [N]."""

    files: tuple[str, ...]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]


def read(
    path: Path,
    *,
    size: int | None,
    limit: int,
    validation_share: float,
    seed: int,
    parts: Collection[PartName],
) -> Dataset:
    """Reads a folder or ZIP file of images; see `read_dataset`."""
    with _open_folder(path) if path.is_dir() else _open_zip(path) as tree:
        train = _list_part(tree, 'train')
        test = _list_part(tree, 'test') if tree.has('test') else None
        if test is not None and test.class_names != train.class_names:
            differing = sorted(set(train.class_names) ^ set(test.class_names))
            raise DatasetError(
                f'{path}: train and test differ in the classes {", ".join(differing)}; give '
                'both the same class folders'
            )
        learn, hold_out = training_split(
            train.labels, limit=limit, validation_share=validation_share, seed=seed
        )
        found: list[tuple[PartName, _Part, NDArray[np.intp]]] = [
            ('train', train, learn),
            ('validation', train, hold_out),
        ]
        if test is not None:
            found.append(('test', test, stratified_choice(test.labels, limit)))
        chosen = [(name, part, at if name in parts else at[:0]) for name, part, at in found]
        files = [part.files[i] for _, part, positions in chosen for i in positions]
        shape = _common_shape(tree, files, size)
        check_memory((len(files), *shape), f'{path}')
        pixels = _decode(tree, files, shape, fit=size is not None)
    images, start = [], 0
    for name, part, positions in chosen:
        block = pixels[start : start + len(positions)]
        labels = part.labels[positions]
        images.append(Images(block, labels, part.class_names, f'{path.stem}/{name}'))
        start += len(positions)
    return Dataset(images[0], images[1], images[2] if test is not None else None)


@contextmanager
def _open_folder(path: Path) -> Iterator[_Tree]:
    def fail(error: OSError) -> None:
        raise DatasetError(f'{path}: {error}; make every folder readable') from error

    names = []
    # Class folders are often links to where the data lies.
    for folder, _, files in os.walk(path, onerror=fail, followlinks=True):
        prefix = '' if Path(folder) == path else f'{Path(folder).relative_to(path).as_posix()}/'
        names.append(prefix)
        names.extend(prefix + file for file in files)
    yield _Tree(str(path), tuple(sorted(names)), lambda name: (path / name).read_bytes())


@contextmanager
def _open_zip(path: Path) -> Iterator[_Tree]:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f'{path} cannot be read ({error}); give a folder or ZIP file with {LAYOUT}'
        ) from error
    with archive:
        for info in archive.infolist():
            # zipfile never unpacks more than the size that the entry claims.
            if info.file_size > MAX_FILE_BYTES:
                raise DatasetError(
                    f'{path}: {info.filename!r} claims {info.file_size / 1e6:.0f} MB, and no '
                    f'image may have more than {MAX_FILE_BYTES / 1e6:.0f}; take it out'
                )
        names = archive.namelist()
        tops = {name.split('/')[0] for name in names} - {MACOS_FOLDER}
        # Many archives hold everything in one folder of their own name.
        root = f'{tops.pop()}/' if len(tops) == 1 and not tops & {'train', 'test'} else ''
        inside = sorted(name[len(root) :] for name in names if name.startswith(root))
        yield _Tree(str(path), tuple(inside), lambda name: archive.read(root + name))


def _list_part(tree: _Tree, part: str) -> _Part:
    # A name below a class has two slashes or more, that of an empty class folder its own second.
    names = [
        name
        for name in tree.names
        if name.startswith(f'{part}/') and name.count('/') > 1 and '/.' not in name
    ]
    classes = sorted({name.split('/')[1] for name in names})
    if len(classes) < 2:
        raise DatasetError(
            f'{tree.where} has {len(classes)} class folders in {part}/; give {LAYOUT}, and two '
            'classes or more'
        )
    number = {name: label for label, name in enumerate(classes)}
    files = [name for name in names if name.rpartition('.')[2].lower() in SUFFIXES]
    labels = np.array([number[name.split('/')[1]] for name in files], np.int64)
    counts = np.bincount(labels, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if empty:
        raise DatasetError(
            f'{tree.where}: no image (.{", .".join(SUFFIXES)}) in '
            f'{", ".join(f"{part}/{name}" for name in empty)}; put images there or remove the '
            'class folder from train/ and test/'
        )
    return _Part(tuple(files), labels, tuple(classes))


def _common_shape(tree: _Tree, files: Sequence[str], size: int | None) -> tuple[int, int, int]:
    if size is not None:
        return size, size, 3
    image = _decoded(tree, files[0]) if files else None
    if image is None:
        # The others are looked at too, so that the message can count them.
        return 1, 1, 3
    return image.shape[0], image.shape[1], 3


def _decoded(tree: _Tree, name: str) -> NDArray[np.uint8] | None:
    """BGR [H, W, 3]; None if the file is no image."""
    try:
        content = tree.read(name)
        # OpenCV throws on an empty buffer and returns None for any other that is no image.
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, cv2.error):
        return None
    return None if image is None else np.asarray(image, np.uint8)


def _decode(
    tree: _Tree, files: Sequence[str], shape: tuple[int, int, int], *, fit: bool
) -> NDArray[np.uint8]:
    """Pixels of all files, RGB [N, H, W, 3].

    Raises:
        DatasetError: Files that are no image, all counted; or, without `fit`, images of another
            size than `shape`.
    """
    pixels = np.empty((len(files), *shape), np.uint8)
    spec = image_spec(3)

    def fill(start: int) -> tuple[list[str], list[str]]:
        broken, odd = [], []
        for name, buffer in zip(files[start:], pixels[start : start + BLOCK], strict=False):
            image = _decoded(tree, name)
            if image is None:
                broken.append(name)
            elif image.shape == shape:
                cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=buffer)
            elif fit:
                fit_frame(image, 'bgr', buffer, spec)
            else:
                odd.append(f'{name} ({image.shape[0]}x{image.shape[1]})')
        return broken, odd

    pool = ThreadPoolExecutor()
    try:
        results = list(pool.map(fill, range(0, len(files), BLOCK)))
    finally:
        # After Ctrl-C the blocks not begun are dropped.
        pool.shutdown(cancel_futures=True)
    broken = [name for names, _ in results for name in names]
    if broken:
        raise DatasetError(
            f'{tree.where}: {len(broken)} of {len(files)} image files cannot be read: '
            f'{_listed(broken)}; replace or delete them'
        )
    odd = [name for _, names in results for name in names]
    if odd:
        raise DatasetError(
            f"{tree.where}: {len(odd)} of {len(files)} images are not of the first one's "
            f'{shape[0]}x{shape[1]} pixels: {_listed(odd)}; give a size to fit all into'
        )
    return pixels


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMES_IN_A_MESSAGE
    return ', '.join(names[:NAMES_IN_A_MESSAGE]) + (f' and {more} more' if more > 0 else '')
