import json

import pytest

from anytime_dnn_ros.errors import BundleError
from anytime_dnn_ros.ladder.manifest import (
    ExitRule,
    Quality,
    StageQuality,
    manifest_from_json,
    manifest_to_json,
    quality_from_json,
    quality_to_json,
)
from ladders import make_ladder


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('ladder') / 'colours').manifest


def test_a_manifest_read_back_is_the_manifest_written(manifest):
    assert manifest_from_json(manifest_to_json(manifest)) == manifest


def drop(*path):
    def change(doc):
        for key in path[:-1]:
            doc = doc[key]
        del doc[path[-1]]

    return change


def put(value, *path):
    def change(doc):
        for key in path[:-1]:
            doc = doc[key]
        doc[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (put(2, 'schema_version'), r'schema at \$.schema_version'),
        (put('detection', 'task'), r'schema at \$.task'),
        (put('weird', 'kind'), r'schema at \$.kind'),
        (put([], 'stages'), r'schema at \$.stages'),
        (put(1, 'surprise'), 'schema at'),
        (drop('provenance', 'licence'), r'schema at \$.provenance'),
        (put('exit1.pkl', 'stages', 0, 'file'), r'schema at \$.stages\[0\].file'),
        (put('abc', 'stages', 0, 'sha256'), r'schema at \$.stages\[0\].sha256'),
        (put([1, 0, 32, 3], 'stages', 0, 'inputs', 0, 'shape'), 'schema at'),
        (put('exit3/features', 'stages', 1, 'inputs', 0, 'source'), 'no earlier stage gives'),
        (put([1, 9, 32, 32], 'stages', 1, 'inputs', 0, 'shape'), 'differs in type or shape'),
        (put('float16', 'stages', 1, 'inputs', 0, 'dtype'), 'differs in type or shape'),
        (put('float32', 'stages', 0, 'inputs', 0, 'dtype'), 'must be uint8'),
        (put([1, 3, 32, 32], 'stages', 0, 'inputs', 0, 'shape'), 'must be uint8'),
        (put('gray', 'image', 'color_order'), 'must be uint8'),
        (put('features', 'stages', 0, 'answer'), 'must have its answer'),
        (put([1, 4], 'stages', 0, 'outputs', 0, 'shape'), 'must have its answer'),
        (put('exit1', 'stages', 2, 'name'), 'same name'),
        (put('stack', 'combine', 'rule'), 'needs weights'),
        (put([[1.0], [1.0]], 'combine', 'weights'), 'row k'),
        (put([[1.0], [1.0], [1.0]], 'combine', 'weights'), 'row k'),
    ],
)
def test_a_manifest_that_does_not_hold_together_is_refused(manifest, change, match):
    document = json.loads(manifest_to_json(manifest))
    change(document)
    with pytest.raises(BundleError, match=match):
        manifest_from_json(json.dumps(document), 'here.json')


@pytest.mark.parametrize('text', ['', '{"schema_version":', 'null', '[]'])
def test_what_is_no_manifest_at_all_is_refused_by_name(text):
    with pytest.raises(BundleError, match=r'here\.json'):
        manifest_from_json(text, 'here.json')


def test_a_missing_answer_output_is_refused(manifest):
    document = json.loads(manifest_to_json(manifest))
    document['stages'][-1]['answer'] = 'nothing'
    with pytest.raises(BundleError, match='must have its answer'):
        manifest_from_json(json.dumps(document))


RULE = ExitRule('entropy', 2.5e6, 0.75, ((0.5, 0.0, 0.0, -1.0), (-1.0, 0.0, 0.0, 0.0)))
STAGES = (StageQuality(1.5, 0.5), StageQuality(1.0, None), StageQuality(0.7, 0.9))


@pytest.mark.parametrize('rules', [(), (RULE,), (RULE, RULE)])
def test_quality_read_back_is_the_quality_written(rules):
    quality = Quality('made up [\n with brackets ]', True, STAGES, rules)
    assert quality_from_json(quality_to_json(quality), 3) == quality


def test_quality_without_exit_rules_is_still_read():
    document = json.loads(quality_to_json(Quality('old', True, STAGES)))
    del document['exit_rules']
    assert quality_from_json(json.dumps(document), 3).exit_rules == ()


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (put('guess', 'exit_rules', 0, 'rule'), r'schema at \$.exit_rules\[0\].rule'),
        (put([[1, 2, 3]] * 2, 'exit_rules', 0, 'weights'), r'weights\[0\]'),
        (put([[1, 2, 3, 4]], 'exit_rules', 0, 'weights'), r"'entropy' has 1 rows.*\(2\)"),
        (put(1.2, 'exit_rules', 0, 'accuracy'), r'exit_rules\[0\].accuracy'),
        (drop('exit_rules', 0, 'mean_macs'), r'exit_rules\[0\]'),
    ],
)
def test_an_exit_rule_that_does_not_fit_is_refused(change, match):
    document = json.loads(quality_to_json(Quality('made up', True, STAGES, (RULE,))))
    change(document)
    with pytest.raises(BundleError, match=match):
        quality_from_json(json.dumps(document), 3, 'here.json')
