"""The ladders that the GPU check runs: those that ship, and one whose torch network is here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from contenders import LeftOutError
from numpy.typing import NDArray
from one_graph import cpu_session, one_stage_bundle

from anytime_dnn_ros.engines.agreement import agreement_frames
from anytime_dnn_ros.engines.tensorrt_library import Device
from anytime_dnn_ros.errors import MissingDependencyError
from anytime_dnn_ros.ladder.bundle import Bundle, find_bundle, read_bundle, write_bundle
from anytime_dnn_ros.ladder.frame_fit import fit_frame
from anytime_dnn_ros.ladder.manifest import CombineSpec, ImageSpec

FLOAT, INT8 = 'float32', 'int8'
CALIBRATION_FRAMES = 16
IMAGE = ImageSpec('rgb', 'center_crop', 'area')


@dataclass(frozen=True)
class Ladder:
    """A ladder to check.

    Attributes:
        bundles: By precision of the file, `float32` or `int8`.
        wholes: The same as one graph each.
        net: The torch network that it was exported from; None = there is none.
        normalisation: Its own.
    """

    name: str
    bundles: dict[str, Bundle]
    wholes: dict[str, Bundle]
    net: Any = None
    normalisation: Any = None

    def variants(self) -> Iterator[tuple[str, Bundle, Bundle]]:
        """Precision to run in, stages, and the one graph."""
        for kind, bundle in self.bundles.items():
            for precision in ('fp32', 'fp16') if kind == FLOAT else ('int8',):
                yield precision, bundle, self.wholes[kind]


@dataclass(frozen=True)
class Setting:
    """What the check runs on.

    Attributes:
        device: The GPU; None on a dry run.
        target: Compute capability to build for where no GPU here can be built for.
        folder: For engines and files that are needed in between.
    """

    device: Device | None
    target: str
    folder: Path
    rounds: int
    frames: int
    photos: Path | None

    @property
    def dry(self) -> bool:
        """Whether there is no GPU."""
        return self.device is None


def shipped_ladder(name: str, setting: Setting) -> Ladder:
    """A ladder that comes with the package, or lies in a folder."""
    bundle = read_bundle(find_bundle(name))
    kind = INT8 if any(s.precision == INT8 for s in bundle.manifest.stages) else FLOAT
    whole = one_stage_bundle(bundle, setting.folder)
    return Ladder(bundle.manifest.name, {kind: bundle}, {kind: whole})


def forged_ladder(name: str, size: int, setting: Setting) -> Ladder:
    """A network of the forge, exported here, in float32 and INT8; its exits have learnt nothing.

    Args:
        name: Of the network.
        size: Height and width of the image, pixels.
        setting: Where to write.
    """
    try:
        import torch  # noqa: PLC0415 - the ladders that ship do without

        from anytime_dnn_ros.forge.ladder_export import export_ladder  # noqa: PLC0415
        from anytime_dnn_ros.forge.networks import (  # noqa: PLC0415
            NetworkSpec,
            build,
            pretrained_normalisation,
        )
        from anytime_dnn_ros.forge.normalisation import Normalisation  # noqa: PLC0415
    except ImportError as error:
        raise LeftOutError(f'{error}: `make forge` installs what makes ladders') from error
    torch.manual_seed(0)
    spec = NetworkSpec(name, (3, size, size), 10)
    try:
        net = build(spec).eval()
    except MissingDependencyError as error:
        raise LeftOutError(str(error)) from error
    normalisation = pretrained_normalisation(spec) or Normalisation((120.0,) * 3, (60.0,) * 3)
    frames = _images(size, CALIBRATION_FRAMES, setting.photos)
    bundle = export_ladder(
        net,
        setting.folder / name,
        normalisation=normalisation,
        combine=CombineSpec('last'),
        image=IMAGE,
        class_names=tuple('abcdefghij'),
        parity_pixels=frames,
        provenance={'command': 'gpu_check', 'data': 'none', 'licence': 'not to be shipped'},
    )
    int8 = quantised_ladder(bundle, frames, setting.folder)
    bundles = {FLOAT: bundle, INT8: int8}
    wholes = {kind: one_stage_bundle(one, setting.folder) for kind, one in bundles.items()}
    return Ladder(name, bundles, wholes, net, normalisation)


def quantised_ladder(bundle: Bundle, frames: NDArray[np.uint8], folder: Path) -> Bundle:
    """Each stage quantised on what the stages before it give of the frames.

    Args:
        bundle: Of float stages.
        frames: uint8 [N, H, W, 3].
        folder: Where to write.
    """
    from anytime_dnn_ros.forge.quantize import quantize  # noqa: PLC0415

    known: list[dict[str, NDArray[Any]]] = [{} for _ in frames]
    files = {}
    for k, stage in enumerate(bundle.manifest.stages):
        feeds = [
            {t.name: frame[None] if t.is_image else tensors[t.source] for t in stage.inputs}
            for frame, tensors in zip(frames, known, strict=True)
        ]
        session = cpu_session(bundle.stage_file(k).read_bytes())
        names = [output.name for output in stage.outputs]
        for feed, tensors in zip(feeds, known, strict=True):
            given = session.run(names, feed)
            tensors |= {f'{stage.name}/{n}': v for n, v in zip(names, given, strict=True)}
        model = quantize(onnx.load(bundle.stage_file(k)), feeds)
        files[stage.name] = model.SerializeToString()
    stages = tuple(replace(stage, precision=INT8) for stage in bundle.manifest.stages)
    manifest = replace(bundle.manifest, name=f'{bundle.manifest.name}_int8', stages=stages)
    return write_bundle(folder / manifest.name, manifest, files, bundle.labels, None)


def _images(size: int, count: int, photos: Path | None) -> NDArray[np.uint8]:
    frames = list(agreement_frames(photos)[0])[:count]
    images = np.empty((len(frames), size, size, 3), np.uint8)
    for image, frame in zip(images, frames, strict=True):
        fit_frame(frame, 'rgb', image, IMAGE)
    return images
