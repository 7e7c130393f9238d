"""Whether a built engine gives the answers of ONNX Runtime; one that does not, may not serve.

Both run every stage on the same frames. Two figures count per stage: on how many frames both name
the same class, and how far a logit is off at most, relative to the frame's largest.

The yardstick is ONNX Runtime taking the file literally. How ONNX Runtime serves it (fused, int8
rewritten) is a second right way of computing it; what these two differ by on a frame is the
frame's rounding noise, and where the best two classes are closer than that, neither is the right
one and the frame does not count for the class. On the shipped int8 ladder a third right way,
integer kernels, named the same class on 97.6 to 100 % of all photos, on 100 % of those that count
(88 to 94 % of them), and on 100 % of the synthetic frames that count (8 to 36 %).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.engines.base import Engine
from anytime_dnn_ros.errors import ConfigurationError, EngineError
from anytime_dnn_ros.ladder.frame_fit import fit_frame
from anytime_dnn_ros.ladder.manifest import Manifest

# Share of frames on which both must name the same class, by the precision of the engine.
LEAST_TOP1 = {'fp32': 0.99, 'fp16': 0.99, 'int8': 0.98}
# A logit may be off by this share of the frame's largest. The shipped int8 ladder by integer
# kernels is off by 0.12 at most, the shipped float ladder in float16 by 0.0031.
MOST_ERROR = {'fp32': 0.05, 'fp16': 0.1, 'int8': 0.25}
# Two libraries that sum a thousand float32 products in another order differ by less than this
# share of the largest logit; no frame's rounding noise is taken to be smaller.
FLOAT_NOISE = 1e-4
# Below this many that count, photos are better asked for.
FEW_FRAMES = 20
SYNTHETIC_FRAMES = 64
# Waves this slow lose nothing in a small frame, which is quickly made.
SYNTHETIC_SHAPE = (90, 120)
WAVES = 6
MOST_CYCLES = 4.0
# More photos than this only make the start longer.
MOST_PHOTOS = 500
PHOTO_SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.webp'}


@dataclass(frozen=True)
class StageAgreement:
    """What became of one stage.

    Attributes:
        precision: Of the engine: `fp32`, `fp16` or `int8`.
        counted: Frames whose class is beyond rounding noise.
        agreed: Of these, the frames to which the engine gave the same class.
        worst_error: Largest difference of a logit, relative to the frame's largest magnitude;
            infinite where the engine gave a number that is not finite.
    """

    name: str
    precision: str
    counted: int
    agreed: int
    worst_error: float

    @property
    def top1(self) -> float:
        """Share of agreed frames, 0..1; 1 where none could be counted."""
        return self.agreed / self.counted if self.counted else 1.0

    @property
    def is_good(self) -> bool:
        """Whether the stage may serve; one frame alone proves nothing."""
        good = self.top1 >= LEAST_TOP1[self.precision] or self.counted - self.agreed <= 1
        return good and self.worst_error <= MOST_ERROR[self.precision]

    def __str__(self) -> str:
        return (
            f'{self.name} ({self.precision}): same class on {self.agreed} of {self.counted} '
            f'frames ({100 * self.top1:.1f} %, at least {100 * LEAST_TOP1[self.precision]:.0f} %)'
            f', a logit off by {self.worst_error:.2g} of the largest at most '
            f'(limit {MOST_ERROR[self.precision]:g})'
        )


class AgreementCount:
    """Counts for one stage how answers compare with true ones, frame by frame."""

    def __init__(self) -> None:
        self._counted, self._agreed, self._worst = 0, 0, 0.0

    def add(
        self, answer: NDArray[np.float32], truth: NDArray[np.float32], noise: float = 0.0
    ) -> None:
        """Takes one frame.

        Args:
            answer: Logits of the engine in question, float32 [classes].
            truth: The true ones.
            noise: What another right way of computing the truth differs by at most.
        """
        largest = max(float(np.abs(truth).max()), np.finfo(np.float32).tiny)
        second, first = np.sort(truth)[-2:]
        if first - second > max(noise, FLOAT_NOISE * largest):
            self._counted += 1
            self._agreed += int(answer.argmax() == truth.argmax())
        error = float(np.abs(answer - truth).max()) / largest
        self._worst = max(self._worst, error if np.isfinite(error) else np.inf)

    def of(self, name: str, precision: str) -> StageAgreement:
        """What was counted, of a stage in a precision."""
        return StageAgreement(name, precision, self._counted, self._agreed, self._worst)


def compare_engines(
    candidate: Engine,
    *,
    plain: Engine,
    serving: Engine,
    frames: Iterable[NDArray[np.uint8]],
    manifest: Manifest,
    precisions: Sequence[str],
) -> tuple[StageAgreement, ...]:
    """Runs every stage of all three on every frame.

    Args:
        candidate: The engine in question.
        plain: ONNX Runtime taking the file literally.
        serving: ONNX Runtime as it serves.
        frames: RGB, uint8 [H, W, 3] each.
        manifest: The bundle's.
        precisions: Of the candidate's stages.
    """
    counts = [AgreementCount() for _ in range(candidate.num_stages)]
    for frame in frames:
        _fit(frame, (plain, serving, candidate), manifest)
        for stage, count in enumerate(counts):
            answer, truth, other = (
                engine.run_stage(stage, engine.new_token())
                for engine in (candidate, plain, serving)
            )
            count.add(answer, truth, noise=float(np.abs(other - truth).max()))
    return tuple(
        count.of(stage.name, precision)
        for count, stage, precision in zip(counts, manifest.stages, precisions, strict=True)
    )


def refuse_disagreement(stages: Sequence[StageAgreement], library: str, source: str) -> None:
    """Lets only good engines pass.

    Args:
        stages: From `compare_engines`.
        library: Name and version of what built the engine.
        source: What the frames were.

    Raises:
        EngineError: A stage is beyond a limit; the message gives the figures of every such one.
    """
    bad = [str(stage) for stage in stages if not stage.is_good]
    if bad:
        raise EngineError(
            f'the engine that {library} built does not give the answers of ONNX Runtime on '
            f'{source} and may not serve: {"; ".join(bad)}. Take a higher precision (parameter '
            'precision: fp32) or engine: onnxruntime'
        )


def agreement_frames(folder: Path | None) -> tuple[Iterator[NDArray[np.uint8]], str, str]:
    """The frames to compare on, and what to call them.

    Args:
        folder: With photos, also in folders below; None for synthetic frames.

    Returns:
        RGB frames, uint8 [H, W, 3]; for messages, how many they are and of what; and a digest
        that is another one once a photo is replaced.

    Raises:
        ConfigurationError: No photo is there, or one cannot be reached.
    """
    if folder is None:
        source = f'{SYNTHETIC_FRAMES} smooth synthetic frames'
        return synthetic_frames(SYNTHETIC_FRAMES), source, 'synthetic'
    files = sorted(f for f in folder.rglob('*') if f.suffix.lower() in PHOTO_SUFFIXES)
    if not files:
        raise ConfigurationError(
            f'agreement_frames = {str(folder)!r} has no photo ({", ".join(sorted(PHOTO_SUFFIXES))}'
            '); name a folder with some, or leave it empty for synthetic frames'
        )
    # Spread over all of them: folders are often one class each.
    chosen = files[:: -(-len(files) // MOST_PHOTOS)]
    digest = hashlib.sha256('\n'.join(map(_state, chosen)).encode(errors='surrogateescape'))
    return map(_read_photo, chosen), f'{len(chosen)} photos of {folder}', digest.hexdigest()


def synthetic_frames(count: int, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Smooth coloured fields, RGB uint8 [90, 120, 3]: each channel a few slow waves."""
    rng = np.random.default_rng(seed)
    height, width = SYNTHETIC_SHAPE
    y, x = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[:, None]
    for _ in range(count):
        field = np.zeros((height, width, 3))
        for _ in range(WAVES):
            across, down = rng.uniform(-MOST_CYCLES, MOST_CYCLES, (2, 3))
            turns = across * x + down * y + rng.uniform(0, 1, 3)
            field += rng.uniform(0.2, 1, 3) * np.cos(2 * np.pi * turns)
        field -= field.min()
        yield np.uint8(np.rint(255 / field.max() * field))


def _state(file: Path) -> str:
    """Tells a photo from what replaces it, without reading it: that would take each start long."""
    try:
        status = file.stat()
    except OSError as error:
        raise _unreadable(file) from error
    return f'{file} {status.st_size} {status.st_mtime_ns}'


def _unreadable(file: Path) -> ConfigurationError:
    return ConfigurationError(f'{file} cannot be read as a photo; remove it from the folder')


def _read_photo(file: Path) -> NDArray[np.uint8]:
    photo = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if photo is None:
        raise _unreadable(file)
    return np.asarray(cv2.cvtColor(photo, cv2.COLOR_BGR2RGB), np.uint8)


def _fit(frame: NDArray[np.uint8], engines: Sequence[Engine], manifest: Manifest) -> None:
    """Writes the frame into the image buffers of all engines, the very same pixels."""
    for stage in range(engines[0].num_stages):
        buffers = [engine.image_buffer(stage) for engine in engines]
        first = buffers[0]
        if first is None:
            continue
        fit_frame(frame, 'rgb', first, manifest.image)
        for buffer in buffers[1:]:
            assert buffer is not None
            buffer[...] = first
