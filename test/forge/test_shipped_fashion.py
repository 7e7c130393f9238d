"""The shipped bundle `fashion`: small, cheap at first, calibrated; it knows shoes from shirts."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from anytime_dnn_ros.engines.onnxruntime import OnnxRuntimeEngine
from anytime_dnn_ros.forge.onnx_macs import count
from anytime_dnn_ros.ladder.bundle import Bundle, find_bundle, read_bundle
from anytime_dnn_ros.quality.exit_rules import choose_rule
from anytime_dnn_ros.serving import ServingPath

MAX_BYTES, MAX_MACS, MAX_FIRST_MACS = 1_500_000, 20e6, 4e6
# Validation images of Fashion-MNIST (MIT licence, Zalando SE), four of each class.
IMAGES = Path(__file__).with_name('fashion_images.npz')


@pytest.fixture(scope='module')
def bundle() -> Bundle:
    return read_bundle(find_bundle('fashion'))


def test_it_is_small_and_refines_in_five_steps_or_more(bundle):
    files = [path for path in bundle.path.rglob('*') if path.is_file()]
    macs = [stage.macs for stage in bundle.manifest.stages]
    assert sum(path.stat().st_size for path in files) < MAX_BYTES
    assert bundle.manifest.kind == 'interruptible'
    assert len(macs) >= 5
    assert macs[0] <= MAX_FIRST_MACS
    assert sum(macs) <= MAX_MACS


def test_it_says_how_it_was_made_and_how_good_it_is(bundle):
    provenance = bundle.manifest.provenance
    assert provenance['command'].startswith('anytime-dnn train early_exit_resnet')
    assert provenance['parity']['largest_logit_difference_share'] < 1e-4
    assert bundle.quality is not None
    assert bundle.quality.held_out
    assert all(stage.accuracy and stage.accuracy > 0.9 for stage in bundle.quality.stages)


def test_it_says_what_becomes_of_an_answer_under_every_guard(bundle):
    assert bundle.quality is not None
    assert bundle.quality.label_coverage == (0.955, 0.95375, 0.9525, 0.95125, 0.95)
    assert [p.monotone for p in bundle.quality.profiles] == ['none', 'caching', 'product']
    path = ServingPath(bundle, OnnxRuntimeEngine(bundle))
    declared = [path.expected_accuracy(k) for k in range(1, 6)]
    assert declared == sorted(declared)
    assert declared[0] > 0.92


def test_its_exit_rules_save_work(bundle):
    assert bundle.quality is not None
    for kind in ('entropy', 'max_softmax', 'learned'):
        rule = choose_rule(bundle.quality.exit_rules, kind, 8e6)
        assert rule.mean_macs <= 8e6
        assert rule.accuracy > 0.9


def test_counts_of_the_manifest_are_those_of_the_files(bundle):
    for index, stage in enumerate(bundle.manifest.stages):
        counted = count(onnx.load(bundle.stage_file(index)))
        assert (stage.macs, stage.parameters) == (counted.macs, counted.parameters)


def test_every_stage_names_nearly_all_images(bundle):
    with np.load(IMAGES) as stored:
        pixels, labels = stored['pixels'], stored['labels']
    engine = OnnxRuntimeEngine(bundle)
    path = ServingPath(bundle, engine)
    right = np.zeros(path.num_stages)
    for image, label in zip(pixels, labels, strict=True):
        path.begin(image, 'gray')
        for stage in range(path.num_stages):
            answer = path.run_stage(stage, engine.new_token()).answer
            right[stage] += int(answer.probabilities.argmax()) == label
    engine.close()
    assert all(right >= 0.8 * len(labels)), right
