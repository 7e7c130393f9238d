"""The dynamic performance profile of a bundle: counts that say how good an answer will become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from anytime_dnn_ros.errors import BundleError

Monotone = Literal['none', 'caching', 'product']


@dataclass(frozen=True)
class ProfileStage:
    """What was counted of the answers published after one stage.

    A cell holds the images with a confidence in one bin and one reading of agreement: cell 2b
    those of bin b whose own answer names another class than the stage before did, cell 2b + 1
    the others, and all of them at the first stage.

    Attributes:
        temperature: Divides the log-probabilities of the guarded answer before it is published.
        held_back: What a cell says counts for so much less when it would raise what is declared,
            0..1; see `quality/performance_profile.py`.
        label_threshold: Least probability of a class in the label set, 0..1; None = no sets.
        edges: Confidences between one bin and the next, rising, [bins - 1].
        images: In each cell, [2 bins].
        right: Of those, how many are answered right after this stage and after each later one,
            [stages left, 2 bins].
    """

    temperature: float
    held_back: float
    label_threshold: float | None
    edges: tuple[float, ...]
    images: tuple[int, ...]
    right: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Profile:
    """What becomes of a frame, counted on held-out images (Zilberstein, AI Magazine 1996).

    Attributes:
        monotone: The guard whose answers were counted.
        stages: Of the ladder.
    """

    monotone: Monotone
    stages: tuple[ProfileStage, ...]


def profile_from_json(document: Mapping[str, Any], num_stages: int, where: str) -> Profile:
    """A profile from a document that fits the schema.

    Args:
        document: As `dataclasses.asdict` gives it.
        num_stages: Of the ladder.
        where: How errors name it.

    Raises:
        BundleError: Its counts contradict each other or the number of stages.
    """
    stages = tuple(
        ProfileStage(
            **{
                **stage,
                'edges': tuple(map(float, stage['edges'])),
                'images': tuple(stage['images']),
                'right': tuple(map(tuple, stage['right'])),
            }
        )
        for stage in document['stages']
    )
    if len(stages) != num_stages:
        raise BundleError(
            f'{where} has {len(stages)} stages, the manifest {num_stages}; calibrate the bundle '
            'again'
        )
    for number, stage in enumerate(stages, start=1):
        fault = _fault(stage, num_stages - number + 1)
        if fault:
            raise BundleError(f'{where}: at stage {number} {fault}; calibrate the bundle again')
    return Profile(document['monotone'], stages)


def _fault(stage: ProfileStage, stages_left: int) -> str:
    cells = 2 * (len(stage.edges) + 1)
    if list(stage.edges) != sorted(set(stage.edges)):
        return 'the edges do not rise'
    if len(stage.right) != stages_left or {*map(len, (stage.images, *stage.right))} != {cells}:
        return f'the counts are not {1 + stages_left} rows of {cells} cells'
    if not any(stage.images):
        return 'nothing was counted'
    if any(r > n for row in stage.right for r, n in zip(row, stage.images, strict=True)):
        return 'more answers are right than were counted'
    return ''
