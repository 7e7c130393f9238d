"""The manifest of a ladder bundle: what its stages are and how they fit together."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any, Literal, cast

import jsonschema

from anytime_dnn_ros.errors import BundleError
from anytime_dnn_ros.ladder.profile import Profile, profile_from_json

CombineRule = Literal['last', 'product', 'average', 'stack']
ExitRuleName = Literal['entropy', 'max_softmax', 'learned']
IMAGE_SOURCE = 'image'


@dataclass(frozen=True)
class ImageSpec:
    """How a camera frame becomes the uint8 tensors that stages read.

    Attributes:
        color_order: `rgb` (3 channels) or `gray` (1 channel).
        resize: `center_crop` takes the largest centred rectangle of the input's aspect ratio,
            `stretch` the whole frame.
        interpolation: `area`, `linear` or `cubic`, as OpenCV names them.
    """

    color_order: Literal['rgb', 'gray']
    resize: Literal['center_crop', 'stretch']
    interpolation: Literal['area', 'linear', 'cubic']


@dataclass(frozen=True)
class TensorSpec:
    """Name, element type and static shape of one output of a stage."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class InputSpec(TensorSpec):
    """One input of a stage; `source` is `image` or `<earlier stage>/<its output>`."""

    source: str

    @property
    def is_image(self) -> bool:
        """Whether this input is the resized camera frame, uint8 [1, H, W, C]."""
        return self.source == IMAGE_SOURCE


@dataclass(frozen=True)
class StageSpec:
    """One stage: a static ONNX file whose output `answer` holds the logits, float32 [1, classes].

    Attributes:
        macs: Multiply-accumulates of this stage alone.
        agreement: `{'top1': share, 'data': name}` with the float parent, None if it is float.
    """

    name: str
    file: str
    inputs: tuple[InputSpec, ...]
    outputs: tuple[TensorSpec, ...]
    answer: str
    macs: float
    parameters: int
    precision: str
    sha256: str
    agreement: dict[str, Any] | None = None


@dataclass(frozen=True)
class CombineSpec:
    """How the answers of stages 1..k become answer k; see `combine.py`."""

    rule: CombineRule
    weights: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything a bundle's `manifest.json` says; the schema stands beside this file."""

    name: str
    task: str
    kind: Literal['interruptible', 'contract']
    image: ImageSpec
    combine: CombineSpec
    stages: tuple[StageSpec, ...]
    provenance: dict[str, Any]
    labels_file: str = 'labels.txt'
    schema_version: int = 1

    @property
    def num_classes(self) -> int:
        """Number of classes, read from the last stage's answer."""
        stage = self.stages[-1]
        return next(o.shape[-1] for o in stage.outputs if o.name == stage.answer)


@dataclass(frozen=True)
class StageQuality:
    """What was counted for the combined answer after one stage."""

    temperature: float = 1.0
    accuracy: float | None = None


@dataclass(frozen=True)
class ExitRule:
    """When an answer is good enough to leave with; see `quality/exit_rules.py`.

    Attributes:
        rule: How its numbers were found.
        mean_macs: Multiply-accumulates per image when this rule decides, counted on data.
        accuracy: Share of right answers then, 0..1.
        weights: Per stage but the last: a constant, and what multiplies the answer's largest
            probability, its margin over the second, and its normalised entropy. Leave where the
            sum is not negative.
    """

    rule: ExitRuleName
    mean_macs: float
    accuracy: float
    weights: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Quality:
    """A bundle's `quality.json`.

    Attributes:
        data: Which data the figures were counted on.
        held_out: False where the weights may have seen that data; accuracy is then not declared.
            Images that only chose the epoch count as held out; `data` says so.
        exit_rules: Of each name, rising in cost and accuracy.
        label_coverage: Share of frames whose label set holds the true class, 0..1, stated for
            each stage; empty if there are no label sets.
        profiles: At most one for each guard.
    """

    data: str
    held_out: bool
    stages: tuple[StageQuality, ...] = field(default_factory=tuple)
    exit_rules: tuple[ExitRule, ...] = ()
    label_coverage: tuple[float, ...] = ()
    profiles: tuple[Profile, ...] = ()
    schema_version: int = 1


@lru_cache
def _validator(schema_file: str) -> Any:
    text = resources.files(__package__).joinpath(schema_file).read_text(encoding='utf-8')
    return jsonschema.Draft202012Validator(json.loads(text))


def _validated(text: str, schema_file: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise BundleError(
            f'{where} is not valid JSON ({error}); export the bundle again'
        ) from error
    fault = next(iter(_validator(schema_file).iter_errors(document)), None)
    if fault is not None:
        raise BundleError(
            f'{where} does not fit its schema at {fault.json_path}: {fault.message[:200]}; '
            'export the bundle again with this version of anytime-dnn'
        )
    return cast('dict[str, Any]', document)


def _shape(tensor: dict[str, Any]) -> dict[str, Any]:
    return {**tensor, 'shape': tuple(tensor['shape'])}


def manifest_from_json(text: str, where: str = 'manifest.json') -> Manifest:
    """Reads a manifest and checks it against its schema and against itself.

    Args:
        text: The file's content.
        where: How errors name the file.

    Raises:
        BundleError: Not JSON, does not fit the schema, or its stages do not fit together.
    """
    doc = _validated(text, 'manifest.schema.json', where)
    stages = tuple(
        StageSpec(
            **{
                **stage,
                'inputs': tuple(InputSpec(**_shape(t)) for t in stage['inputs']),
                'outputs': tuple(TensorSpec(**_shape(t)) for t in stage['outputs']),
            }
        )
        for stage in doc['stages']
    )
    rows = doc['combine'].get('weights')
    weights = None if rows is None else tuple(tuple(map(float, row)) for row in rows)
    manifest = Manifest(
        **{
            **doc,
            'image': ImageSpec(**doc['image']),
            'combine': CombineSpec(
                doc['combine']['rule'],
                weights and tuple(tuple(map(float, row)) for row in weights),
            ),
            'stages': stages,
        }
    )
    _check_wiring(manifest, where)
    return manifest


def _check_wiring(manifest: Manifest, where: str) -> None:
    """Each input must come from the image or from an earlier stage's output of the same shape."""
    made: dict[str, TensorSpec] = {}
    last = manifest.stages[-1]
    if last.answer not in {o.name for o in last.outputs}:
        raise BundleError(
            f'{where}: stage {last.name!r} must have its answer {last.answer!r} among its outputs'
        )
    for stage in manifest.stages:
        at = f'{where}: stage {stage.name!r}'
        for tensor in stage.inputs:
            if tensor.is_image:
                _check_image_input(tensor, manifest.image, at)
                continue
            source = made.get(tensor.source)
            if source is None:
                raise BundleError(f'{at} wants {tensor.source!r}, which no earlier stage gives')
            if (source.dtype, source.shape) != (tensor.dtype, tensor.shape):
                raise BundleError(
                    f'{at}: input {tensor.name!r} differs in type or shape from {tensor.source!r}'
                )
        answers = [(o.dtype, o.shape) for o in stage.outputs if o.name == stage.answer]
        if answers != [('float32', (1, manifest.num_classes))]:
            raise BundleError(
                f'{at} must have its answer {stage.answer!r} among its outputs as '
                f'float32 [1, {manifest.num_classes}]'
            )
        made.update({f'{stage.name}/{o.name}': o for o in stage.outputs})
    if len({stage.name for stage in manifest.stages}) < len(manifest.stages):
        raise BundleError(f'{where}: two stages have the same name')
    _check_weights(manifest, where)


def _check_image_input(tensor: InputSpec, image: ImageSpec, at: str) -> None:
    channels = 3 if image.color_order == 'rgb' else 1
    fits = len(tensor.shape) == 4 and (tensor.shape[0], tensor.shape[3]) == (1, channels)
    if tensor.dtype != 'uint8' or not fits:
        raise BundleError(
            f'{at}: input {tensor.name!r} must be uint8 [1, H, W, {channels}], '
            f'not {tensor.dtype} {list(tensor.shape)}'
        )


def _check_weights(manifest: Manifest, where: str) -> None:
    rows = manifest.combine.weights
    if rows is None and manifest.combine.rule == 'stack':
        raise BundleError(f'{where}: the rule "stack" needs weights, one row per prefix')
    if rows is not None and [len(row) for row in rows] != list(range(1, len(manifest.stages) + 1)):
        raise BundleError(f'{where}: row k of the combine weights must have k numbers')


def manifest_to_json(manifest: Manifest) -> str:
    """The manifest as JSON text that `manifest_from_json` reads back as an equal value."""
    document = asdict(manifest)
    for stage in document['stages']:
        if stage['agreement'] is None:
            del stage['agreement']
    return json.dumps(document, indent=2) + '\n'


def quality_from_json(text: str, num_stages: int, where: str = 'quality.json') -> Quality:
    """Reads quality data and checks it against its schema and the number of stages.

    Raises:
        BundleError: Not JSON, does not fit the schema, counts another number of stages, or
            contradicts itself.
    """
    doc = _validated(text, 'quality.schema.json', where)
    if len(doc['stages']) != num_stages:
        raise BundleError(
            f'{where} describes {len(doc["stages"])} stages, the manifest {num_stages}; '
            'calibrate the bundle again'
        )
    rules = tuple(
        ExitRule(**{**rule, 'weights': tuple(tuple(map(float, row)) for row in rule['weights'])})
        for rule in doc.get('exit_rules', ())
    )
    for rule in rules:
        if len(rule.weights) != num_stages - 1:
            raise BundleError(
                f'{where}: an exit rule {rule.rule!r} has {len(rule.weights)} rows of weights, '
                f'not one per stage but the last ({num_stages - 1}); calibrate the bundle again'
            )
    quality = Quality(
        **{
            **doc,
            'stages': tuple(StageQuality(**stage) for stage in doc['stages']),
            'exit_rules': rules,
            'label_coverage': tuple(map(float, doc.get('label_coverage', ()))),
            'profiles': tuple(
                profile_from_json(profile, num_stages, f'{where}: profile {profile["monotone"]!r}')
                for profile in doc.get('profiles', ())
            ),
        }
    )
    _check_profiles(quality, where)
    return quality


def _check_profiles(quality: Quality, where: str) -> None:
    names = [profile.monotone for profile in quality.profiles]
    if len(set(names)) < len(names):
        raise BundleError(f'{where} has two profiles of one guard; calibrate the bundle again')
    stated = len(quality.label_coverage)
    thresholds = [s.label_threshold for profile in quality.profiles for s in profile.stages]
    if stated not in {0, len(quality.stages)} or any(
        (t is None) == bool(stated) for t in thresholds
    ):
        raise BundleError(
            f'{where} must state a coverage for every stage and give every profile its '
            'thresholds of label sets, or neither; calibrate the bundle again'
        )


def quality_to_json(quality: Quality) -> str:
    """The quality data as JSON text."""
    text = json.dumps(asdict(quality), indent=2)
    # A row of numbers is one line, else a file of exit rules is thousands of them.
    rows = re.compile(r'\[\n[^][{}]+\]')
    return rows.sub(lambda row: re.sub(r'\s*\n\s*', ' ', row[0]), text) + '\n'
