"""A ladder bundle on disk: found by name or path, read with every hash checked, written whole."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from anytime_dnn_ros.errors import BundleError
from anytime_dnn_ros.ladder.manifest import (
    Manifest,
    Quality,
    manifest_from_json,
    manifest_to_json,
    quality_from_json,
    quality_to_json,
)

MANIFEST_FILE = 'manifest.json'
QUALITY_FILE = 'quality.json'
# A manifest or label file beyond this is damage or malice, not a ladder.
MAX_TEXT_BYTES = 16 * 2**20
MEND = 'make room there or choose another folder (TMPDIR for temporary files)'


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    Attributes:
        path: The bundle's folder.
        labels: One readable name per class.
        quality: None for a bundle without quality data; it runs, and declares nothing.
    """

    path: Path
    manifest: Manifest
    labels: tuple[str, ...]
    quality: Quality | None

    def stage_file(self, index: int) -> Path:
        """Path of the ONNX file of stage `index` (0-based)."""
        return self.path / self.manifest.stages[index].file


def shipped_bundles() -> dict[str, Path]:
    """Name and folder of each bundle that ships with the package."""
    root = Path(str(resources.files('anytime_dnn_ros') / 'bundles'))
    return {p.parent.name: p.parent for p in sorted(root.glob(f'*/{MANIFEST_FILE}'))}


def find_bundle(model: str) -> Path:
    """The folder of a bundle, given the name of a shipped one or a path.

    Raises:
        BundleError: Neither a shipped name nor an existing folder.
    """
    shipped = shipped_bundles()
    if model in shipped:
        return shipped[model]
    path = Path(model).expanduser()
    if model and path.is_dir():
        return path
    raise BundleError(
        f'no bundle {model!r}: give one of {", ".join(sorted(shipped)) or "(none shipped)"} '
        'or the path of a folder with a manifest.json'
    )


def read_bundle(path: Path) -> Bundle:
    """Reads a bundle and checks its schema, its files and every hash.

    Args:
        path: The bundle's folder.

    Raises:
        BundleError: A file is missing, damaged, outside the folder, or does not fit the schema.
    """
    manifest = manifest_from_json(_read_text(path, MANIFEST_FILE), str(path / MANIFEST_FILE))
    for stage in manifest.stages:
        file = _inside(path, stage.file)
        try:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise BundleError(
                f'{file}: stage {stage.name!r} cannot be read ({error.strerror}); '
                'copy the whole bundle folder again'
            ) from error
        if digest != stage.sha256:
            raise BundleError(
                f'{file}: stage {stage.name!r} is damaged or was changed (its sha256 is not the '
                "manifest's); copy the bundle again from where it was exported"
            )
    labels = tuple(_read_text(path, manifest.labels_file).splitlines())
    if len(labels) != manifest.num_classes:
        raise BundleError(
            f'{path / manifest.labels_file} has {len(labels)} lines, the stages have '
            f'{manifest.num_classes} classes; give one label per class'
        )
    quality = None
    if (path / QUALITY_FILE).exists():
        quality = quality_from_json(
            _read_text(path, QUALITY_FILE), len(manifest.stages), str(path / QUALITY_FILE)
        )
    return Bundle(path=path, manifest=manifest, labels=labels, quality=quality)


def write_bundle(
    path: Path,
    manifest: Manifest,
    stage_files: Mapping[str, bytes],
    labels: tuple[str, ...],
    quality: Quality | None,
) -> Bundle:
    """Writes a bundle whole or not at all, and reads it back.

    Args:
        path: The folder to make; an existing bundle there is replaced.
        manifest: Its `sha256` fields are filled in here.
        stage_files: ONNX bytes by stage name.
        labels: One per class.
        quality: Quality data, or None.

    Returns:
        The bundle as read back from disk.

    Raises:
        BundleError: The parts do not fit together, or the disk refuses.
    """
    stages = tuple(
        replace(s, sha256=hashlib.sha256(stage_files[s.name]).hexdigest()) for s in manifest.stages
    )
    manifest = replace(manifest, stages=stages)
    path = path.absolute()
    draft = _draft_folder(path)
    try:
        for stage in stages:
            file = _inside(draft, stage.file)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(stage_files[stage.name])
        (draft / manifest.labels_file).write_text(
            ''.join(f'{label}\n' for label in labels), encoding='utf-8'
        )
        (draft / MANIFEST_FILE).write_text(manifest_to_json(manifest), encoding='utf-8')
        if quality is not None:
            (draft / QUALITY_FILE).write_text(quality_to_json(quality), encoding='utf-8')
        read_bundle(draft)
        draft.chmod(0o755)
        _put_in_place(draft, path)
    except OSError as error:
        raise BundleError(f'cannot write the bundle {path}: {error.strerror}; {MEND}') from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return read_bundle(path)


def check_can_write_bundle(path: Path) -> None:
    """Refuses before long work the folder that `write_bundle` would refuse after it.

    Args:
        path: The bundle's folder to be; the folder that it lies in is made.

    Raises:
        BundleError: Something else is there, or the disk refuses.
    """
    _draft_folder(path.absolute()).rmdir()


def _draft_folder(path: Path) -> Path:
    """An empty folder beside a bundle that may be made or replaced."""
    try:
        if path.exists() and not (path / MANIFEST_FILE).exists():
            raise BundleError(
                f'{path} is there and is no bundle; choose another folder or remove it'
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f'.{path.name}-', dir=path.parent))
    except OSError as error:
        raise BundleError(f'cannot write beside {path}: {error.strerror}; {MEND}') from error


def _put_in_place(draft: Path, path: Path) -> None:
    """Replaces a bundle; whatever interrupts it, one of both is there, under some name."""
    old = draft.with_name(f'{draft.name}-old')
    try:
        if path.exists():
            path.rename(old)
        draft.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _inside(folder: Path, name: str) -> Path:
    """The file `name` in the bundle; anything that leads out of the folder is refused.

    A symbolic link *of* a file is fine (`colcon build --symlink-install` makes such), a name
    that climbs out is not.
    """
    relative = Path(name)
    if relative.is_absolute() or '..' in relative.parts:
        raise BundleError(f'{folder}: the file name {name!r} points outside the bundle')
    return folder / relative


def _read_text(folder: Path, name: str) -> str:
    file = folder / name
    try:
        if file.stat().st_size > MAX_TEXT_BYTES:
            raise BundleError(f'{file} is larger than {MAX_TEXT_BYTES} bytes: not a ladder bundle')
        return file.read_text(encoding='utf-8')
    except OSError as error:
        raise BundleError(
            f'{file} cannot be read ({error.strerror}); a bundle is a folder with '
            'manifest.json, labels.txt and stages/*.onnx'
        ) from error
    except UnicodeDecodeError as error:
        raise BundleError(f'{file} is not UTF-8 text; copy the bundle again') from error
