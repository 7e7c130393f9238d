"""The shipped bundle `lite`: whole, small, legal for TensorRT, and it knows cats from coffee."""

import numpy as np
import onnx
import pytest

from anytime_dnn_ros.engines.onnxruntime import OnnxRuntimeEngine
from anytime_dnn_ros.forge.onnx_macs import count
from anytime_dnn_ros.forge.quantize import check_symmetric
from anytime_dnn_ros.ladder.answer import make_answer, top_classes
from anytime_dnn_ros.ladder.bundle import Bundle, find_bundle, read_bundle
from anytime_dnn_ros.ladder.combine import Combiner
from anytime_dnn_ros.ladder.frame_fit import fit_frame

MAX_BYTES = 25_000_000
CATS = {'tabby', 'tiger cat', 'Egyptian cat', 'Persian cat', 'lynx'}
CUPS = {'espresso', 'cup', 'coffee mug'}


@pytest.fixture(scope='module')
def bundle() -> Bundle:
    return read_bundle(find_bundle('lite'))


def stage_labels(bundle: Bundle, image: np.ndarray) -> list[set[str]]:
    """The two likeliest labels of the combined answer after each stage."""
    engine = OnnxRuntimeEngine(bundle)
    combiner = Combiner(bundle.manifest.combine)
    labels = []
    for index in range(engine.num_stages):
        buffer = engine.image_buffer(index)
        assert buffer is not None
        fit_frame(image, 'rgb', buffer, bundle.manifest.image)
        answer = combiner.add(engine.run_stage(index, engine.new_token()).copy())
        best = top_classes(make_answer(index + 1, answer), 2)
        labels.append({bundle.labels[number] for number, _ in best})
    engine.close()
    return labels


def test_it_is_small_and_says_where_it_comes_from(bundle):
    files = [path for path in bundle.path.rglob('*') if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
    assert 4 <= len(bundle.manifest.stages) <= 6
    assert bundle.manifest.provenance['licence'] == 'Apache-2.0'
    assert 'EfficientNet-Lite' in bundle.manifest.provenance['notice']
    assert len(bundle.labels) == 1000


def test_it_declares_no_accuracy_counted_on_training_images(bundle):
    assert bundle.quality is not None
    assert not bundle.quality.held_out
    # What guards need is known all the same; a coverage would not be kept.
    assert [p.monotone for p in bundle.quality.profiles] == ['none', 'caching', 'product']
    assert bundle.quality.label_coverage == ()


def test_stages_are_symmetric_int8_and_agree_with_their_parents(bundle):
    for index, stage in enumerate(bundle.manifest.stages):
        model = onnx.load(bundle.stage_file(index))
        assert check_symmetric(model) > 100
        assert [(o.domain, o.version) for o in model.opset_import] == [('', 17)]
        assert stage.agreement is not None
        assert stage.agreement['top1'] >= 0.95


def test_the_image_is_cast_before_anything_else(bundle):
    # TensorRT refuses uint8 in every other operator.
    for index in range(len(bundle.manifest.stages)):
        graph = onnx.load(bundle.stage_file(index)).graph
        readers = [n.op_type for n in graph.node if graph.input[0].name in n.input]
        assert readers == ['Cast']


def test_counts_of_the_manifest_are_those_of_the_files(bundle):
    for index, stage in enumerate(bundle.manifest.stages):
        model = onnx.load(bundle.stage_file(index))
        counted = count(model)
        assert (stage.macs, stage.parameters) == (counted.macs, counted.parameters)
        assert counted.int8_share == 1.0


@pytest.mark.parametrize(('photo', 'right'), [('chelsea', CATS), ('coffee', CUPS)])
def test_every_stage_knows_the_photo(bundle, photo, right):
    data = pytest.importorskip('skimage.data', reason='scikit-image is not installed')
    labels = stage_labels(bundle, getattr(data, photo)())
    assert all(names & right for names in labels), labels
