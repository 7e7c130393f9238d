"""Several ladders measured on the same images, over the same budgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from anytime_dnn_ros.datasets import Images
from anytime_dnn_ros.engines.base import EngineInfo
from anytime_dnn_ros.evaluate.curve import Budget, LadderCurve, measure_curve
from anytime_dnn_ros.evaluate.stage_scores import bundle_labels, stage_scores, stage_times
from anytime_dnn_ros.ladder.bundle import Bundle

# Half a 95 % interval of a share of one half, the widest, is this over the root of the count.
WIDEST_MARGIN = 0.98
TO_THE_COSTLIEST = 'from 0 to the last exit of the costliest ladder here'
AS_GIVEN = 'as given'


@dataclass(frozen=True)
class Measurement:
    """Ladders that can be compared: one set of images, one budget, one machine.

    Attributes:
        data: Name of the images.
        num_classes: Of the data.
        macs: What areas over multiply-accumulates are counted over.
        times_ms: What areas over milliseconds are counted over.
        macs_note: Where the budget `macs` comes from.
        times_note: Where the budget `times_ms` comes from.
        timed_images: How many images the times of each ladder are from.
    """

    ladders: tuple[LadderCurve, ...]
    data: str
    num_images: int
    num_classes: int
    macs: Budget
    times_ms: Budget
    macs_note: str
    times_note: str
    engine: EngineInfo
    timed_images: tuple[int, ...]

    @property
    def title(self) -> str:
        """Names the data and the number of images."""
        return f'{self.data}: {self.num_images:,} images, {self.num_classes} classes'

    @property
    def timing_note(self) -> str:
        """What the times are, in one sentence."""
        runs = ' or '.join(str(n) for n in sorted(set(self.timed_images)))
        return (
            f'Times: median over {runs} images in a pass of its own, {self.engine.library} '
            f'{self.engine.version}, {self.engine.device}, {self.engine.threads} thread, '
            'the resize of the frame not included.'
        )

    @property
    def margin(self) -> float:
        """Half the 95 % interval of an accuracy of one half on so many images, 0..1."""
        return float(WIDEST_MARGIN / self.num_images**0.5)


def measure(
    bundles: Sequence[Bundle],
    images: Images,
    *,
    macs: Budget | None = None,
    times_ms: Budget | None = None,
    progress: Callable[[str, int, int], object] = lambda name, done, of: None,
) -> Measurement:
    """Runs every ladder on every image, then times each one by itself.

    Args:
        bundles: At least one checked bundle.
        images: Their classes are the bundles' own.
        macs: Budget of the area, multiply-accumulates; None = `TO_THE_COSTLIEST`.
        times_ms: Budget of the area over time, milliseconds; None = likewise.
        progress: Called with a ladder's name and how many of its images are done.

    Raises:
        ConfigurationError: A bundle and the data have other classes.
        EngineError: A stage fails.
    """
    names = distinct_names([(b.manifest.name, b.path) for b in bundles])
    # All of them first: minutes of work must not end in this error.
    labels = [bundle_labels(b, images.labels, images.class_names) for b in bundles]
    scores = [
        stage_scores(b, images.pixels, partial(progress, name))
        for b, name in zip(bundles, names, strict=True)
    ]
    timed = [
        stage_times(b, images.pixels, progress=partial(progress, f'{name}, times'))
        for b, name in zip(bundles, names, strict=True)
    ]
    ladders = tuple(
        measure_curve(bundle, names[i], scores[i], labels[i], timed[i][0])
        for i, bundle in enumerate(bundles)
    )
    return Measurement(
        ladders=ladders,
        data=images.name,
        num_images=len(images),
        num_classes=len(images.class_names),
        macs=macs or Budget(0.0, max(ladder.exits[-1].macs_sequential for ladder in ladders)),
        times_ms=times_ms or Budget(0.0, max(ladder.exits[-1].time_ms for ladder in ladders)),
        macs_note=TO_THE_COSTLIEST if macs is None else AS_GIVEN,
        times_note=TO_THE_COSTLIEST if times_ms is None else AS_GIVEN,
        engine=timed[0][1],
        timed_images=tuple(len(times.samples_s) for times, _ in timed),
    )


def distinct_names(ladders: Sequence[tuple[str, Path]]) -> list[str]:
    """The names, and the ends of the paths where two are the same, as long as it takes.

    Args:
        ladders: Name and folder of each; the same one twice gets a number.
    """
    names = [name for name, _ in ladders]
    parts = [path.absolute().parts[1:] for _, path in ladders]
    for length in range(1, max(map(len, parts)) + 1):
        count = Counter(names)
        names = [
            '/'.join(parts[i][-length:]) if count[name] > 1 else name
            for i, name in enumerate(names)
        ]
    count = Counter(names)
    return [
        name if count[name] == 1 else f'{name} #{names[:i].count(name) + 1}'
        for i, name in enumerate(names)
    ]


def figures(measurement: Measurement) -> dict[str, Any]:
    """What `--json` writes: shares as 0..1, multiply-accumulates as numbers."""
    m = measurement
    return {
        'data': {'name': m.data, 'images': m.num_images, 'classes': m.num_classes},
        'budget': {
            'macs': [m.macs.low, m.macs.high],
            'macs_chosen': m.macs_note,
            'time_ms': [m.times_ms.low, m.times_ms.high],
            'time_ms_chosen': m.times_note,
        },
        'timing': {
            'engine': f'{m.engine.library} {m.engine.version}',
            'device': m.engine.device,
            'threads': m.engine.threads,
            'resize_included': False,
        },
        'ladders': [
            {
                'name': ladder.name,
                'kind': ladder.kind,
                'path': ladder.path,
                'quality_data': ladder.quality_data,
                'auc': ladder.area(m.macs, 'macs_sequential'),
                'auc_ms': ladder.area(m.times_ms, 'time_ms'),
                'chance': ladder.chance,
                'monotone_violations': ladder.monotone_violations,
                'monotone_violations_calibrated': ladder.monotone_violations_calibrated,
                'timed_images': timed,
                'monotone': ladder.judged.monotone,
                'monotone_violations_published': ladder.judged.monotone_violations,
                'declared_violations': ladder.judged.declared_violations,
                'label_coverage': list(ladder.label_coverage),
                'exits': [
                    {
                        **asdict(e),
                        'top1_published': said.accuracy,
                        'declared_accuracy': said.declared_accuracy,
                        'ece_published': said.ece,
                        'coverage': said.coverage,
                        'label_set_size': said.label_set_size,
                    }
                    for e, said in zip(ladder.exits, ladder.judged.exits, strict=True)
                ],
                'exit_rules': [asdict(rule) for rule in ladder.exit_rules],
            }
            for ladder, timed in zip(m.ladders, m.timed_images, strict=True)
        ],
    }
