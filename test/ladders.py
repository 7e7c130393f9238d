"""Small real ladders for tests: built with ONNX, run by ONNX Runtime, read as any bundle."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from anytime_dnn_ros.ladder.bundle import Bundle, write_bundle
from anytime_dnn_ros.ladder.manifest import (
    CombineSpec,
    ImageSpec,
    InputSpec,
    Manifest,
    Quality,
    StageQuality,
    StageSpec,
    TensorSpec,
)

SIZE, CHANNELS, CLASSES = 32, 8, 3
LABELS = ('red', 'green', 'blue')
DTYPES = {'uint8': TensorProto.UINT8, 'float32': TensorProto.FLOAT}


def stage_model(
    *, first: bool, last: bool, convolutions: int = 1, sharpness: float = 1.0
) -> bytes:
    """One stage: mean colour as logits, after as many 3x3 convolutions as make it slow enough."""
    nodes, constants = [], []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    if first:
        source = helper.make_tensor_value_info('image', TensorProto.UINT8, [1, SIZE, SIZE, 3])
        lift = np.zeros((CHANNELS, 3, 1, 1), np.float32)
        lift[:3, :, 0, 0] = np.eye(3) / 255
        nodes += [
            helper.make_node('Cast', ['image'], ['cast'], to=TensorProto.FLOAT),
            helper.make_node('Transpose', ['cast'], ['nchw'], perm=[0, 3, 1, 2]),
            helper.make_node('Conv', ['nchw', constant('lift', lift)], ['x0']),
        ]
    else:
        source = helper.make_tensor_value_info(
            'features_in', TensorProto.FLOAT, [1, CHANNELS, SIZE, SIZE]
        )
        nodes.append(helper.make_node('Identity', ['features_in'], ['x0']))
    identity = np.zeros((CHANNELS, CHANNELS, 3, 3), np.float32)
    identity[range(CHANNELS), range(CHANNELS), 1, 1] = 1
    constant('identity', identity)
    for i in range(convolutions):
        nodes.append(
            helper.make_node('Conv', [f'x{i}', 'identity'], [f'x{i + 1}'], pads=[1, 1, 1, 1])
        )
    head = np.zeros((CHANNELS, CLASSES), np.float32)
    head[:3] = np.eye(3) * 10 * sharpness
    features = helper.make_tensor_value_info(
        'features', TensorProto.FLOAT, [1, CHANNELS, SIZE, SIZE]
    )
    logits = helper.make_tensor_value_info('logits', TensorProto.FLOAT, [1, CLASSES])
    nodes += [
        helper.make_node('Identity', [f'x{convolutions}'], ['features']),
        helper.make_node('GlobalAveragePool', ['features'], ['pooled']),
        helper.make_node('Flatten', ['pooled'], ['flat']),
        helper.make_node('MatMul', ['flat', constant('head', head)], ['logits']),
    ]
    outputs = [logits] if last else [logits, features]
    if last:
        nodes = [n for n in nodes if n.output[0] != 'features']
        nodes[-3].input[0] = f'x{convolutions}'
    graph = helper.make_graph(nodes, 'stage', [source], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make_ladder(
    path: Path, *, convolutions: tuple[int, ...] = (1, 1, 1), with_quality: bool = True
) -> Bundle:
    """Writes an early-exit ladder that names the strongest of red, green and blue.

    Args:
        path: Folder to make.
        convolutions: Per stage, how many convolutions it does: about 0.1 ms each.
        with_quality: Whether it has a quality.json, declared on held-out data.
    """
    count = len(convolutions)
    stages, files = [], {}
    for index, length in enumerate(convolutions):
        first, last = index == 0, index == count - 1
        name = f'exit{index + 1}'
        outputs = [TensorSpec('logits', 'float32', (1, CLASSES))]
        if not last:
            outputs.append(TensorSpec('features', 'float32', (1, CHANNELS, SIZE, SIZE)))
        source = (
            InputSpec('image', 'uint8', (1, SIZE, SIZE, 3), 'image')
            if first
            else InputSpec(
                'features_in', 'float32', (1, CHANNELS, SIZE, SIZE), f'exit{index}/features'
            )
        )
        files[name] = stage_model(
            first=first, last=last, convolutions=length, sharpness=float(index + 1)
        )
        stages.append(
            StageSpec(
                name=name,
                file=f'stages/{name}.onnx',
                inputs=(source,),
                outputs=tuple(outputs),
                answer='logits',
                macs=float(length * SIZE * SIZE * CHANNELS * CHANNELS * 9),
                parameters=length * CHANNELS * CHANNELS * 9,
                precision='float32',
                sha256='0' * 64,
            )
        )
    manifest = Manifest(
        name=path.name,
        task='classification',
        kind='interruptible',
        image=ImageSpec('rgb', 'center_crop', 'area'),
        combine=CombineSpec('last'),
        stages=tuple(stages),
        provenance={'command': 'test/ladders.py', 'data': 'none', 'licence': 'Apache-2.0'},
    )
    quality = Quality(
        data='made by hand',
        held_out=True,
        stages=tuple(StageQuality(1.0, 0.5 + 0.1 * i) for i in range(count)),
    )
    return write_bundle(path, manifest, files, LABELS, quality if with_quality else None)


def solid(color: str, height: int = 48, width: int = 64) -> np.ndarray:
    """A frame of one colour, rgb uint8 [H, W, 3]."""
    image = np.full((height, width, 3), 20, np.uint8)
    image[..., LABELS.index(color)] = 230
    return image
