import cv2
import numpy as np
import pytest

from anytime_dnn_ros.engines import agreement
from anytime_dnn_ros.engines.agreement import (
    StageAgreement,
    agreement_frames,
    compare_engines,
    refuse_disagreement,
    synthetic_frames,
)
from anytime_dnn_ros.engines.onnxruntime import OnnxRuntimeEngine
from anytime_dnn_ros.errors import ConfigurationError, EngineError
from ladders import make_ladder, solid

FRAMES = 20


class Changed:
    """An engine whose logits are changed on the way out."""

    def __init__(self, engine, change):
        self._engine = engine
        self._change = change
        self._runs = 0

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def run_stage(self, stage, token):
        logits = self._engine.run_stage(stage, token).copy()
        self._runs += stage == 0
        return np.float32(self._change(logits, self._runs))


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('agreement') / 'colours', convolutions=(1, 1))


@pytest.fixture
def compared(bundle):
    """Compares ONNX Runtime with itself, each side changed as the test says."""
    engines = [OnnxRuntimeEngine(bundle) for _ in range(3)]

    def same(logits, frame):
        return logits

    def compare(candidate=same, serving=same, precision='fp16'):
        return compare_engines(
            Changed(engines[0], candidate),
            plain=engines[1],
            serving=Changed(engines[2], serving),
            frames=[solid(('red', 'green', 'blue')[i % 3]) for i in range(FRAMES)],
            manifest=bundle.manifest,
            precisions=[precision] * 2,
        )

    yield compare
    for engine in engines:
        engine.close()


def test_an_engine_agrees_with_itself(compared):
    for name, stage in zip(('exit1', 'exit2'), compared(), strict=True):
        assert stage == StageAgreement(name, 'fp16', FRAMES, FRAMES, 0.0)
        refuse_disagreement([stage], 'TensorRT', 'twenty frames')


def test_rounding_of_the_precision_is_allowed(compared):
    stages = compared(lambda logits, frame: np.float16(logits))
    assert all(0 < stage.worst_error < 1e-3 and stage.agreed == FRAMES for stage in stages)
    refuse_disagreement(stages, 'TensorRT', 'twenty frames')


@pytest.mark.parametrize(
    ('change', 'figures'),
    [
        (lambda logits, frame: logits[[1, 2, 0]], r'same class on 0 of 20 frames \(0\.0 %'),
        (lambda logits, frame: 8e7 * logits, r'off by 8e\+07 of the largest'),
        (lambda logits, frame: logits * np.nan, r'off by inf of the largest'),
        (lambda logits, frame: 1.2 * logits, r'off by 0\.2 of the largest at most \(limit 0\.1\)'),
    ],
)
def test_a_wrong_engine_is_refused_with_the_figures_of_each_stage(compared, change, figures):
    with pytest.raises(EngineError, match=figures) as refusal:
        refuse_disagreement(compared(change), 'TensorRT 10.3.0', 'twenty frames')
    for said in ('TensorRT 10.3.0', 'twenty frames', 'exit1', 'exit2', 'precision: fp32'):
        assert said in str(refusal.value)


@pytest.mark.parametrize(('wrong', 'good'), [(1, True), (2, False)])
def test_one_frame_alone_proves_nothing_two_do(compared, wrong, good):
    def nearly(logits, frame):
        swapped = logits.copy()
        # Just enough that another class leads: the error of the logits stays small.
        swapped[logits.argmin()] = logits.max() * 1.001
        return swapped if frame <= wrong else logits

    (stage, _) = compared(nearly, precision='int8')
    assert stage.counted - stage.agreed == wrong
    assert StageAgreement('s', 'int8', stage.counted, stage.agreed, 0.0).is_good == good


def test_a_frame_within_rounding_noise_does_not_count_for_the_class(compared):
    def blurred(logits, frame):
        # The two right ways of computing it differ by more than the lead of its best class.
        return logits + 2 * np.ptp(logits) * (frame == 1)

    stage = compared(lambda logits, frame: logits, blurred)[0]
    assert (stage.counted, stage.agreed) == (FRAMES - 1, FRAMES - 1)


def test_a_plain_engine_computes_what_the_serving_one_computes(bundle):
    plain, serving = OnnxRuntimeEngine(bundle, plain=True), OnnxRuntimeEngine(bundle)
    answers = []
    for engine in (plain, serving):
        engine.image_buffer(0)[:] = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
        answers.append(engine.run_stage(0, engine.new_token()).copy())
        engine.close()
    np.testing.assert_allclose(*answers, rtol=1e-5)


def test_synthetic_frames_are_smooth_coloured_and_always_the_same():
    frames = list(synthetic_frames(4))
    again = list(synthetic_frames(4))
    np.testing.assert_array_equal(frames, again)
    for frame in frames:
        assert frame.shape == (90, 120, 3)
        assert frame.dtype == np.uint8
        assert np.ptp(frame) == 255
        assert np.abs(np.diff(frame.astype(int), axis=1)).max() < 60
    assert len({frame.tobytes() for frame in frames}) == 4


def test_photos_are_found_in_all_folders_below_and_read_as_rgb(tmp_path):
    (tmp_path / 'cats').mkdir()
    cv2.imwrite(str(tmp_path / 'cats' / 'a.PNG'), solid('red')[..., ::-1])
    cv2.imwrite(str(tmp_path / 'b.png'), solid('blue')[..., ::-1])
    (tmp_path / 'notes.txt').write_text('no photo')
    frames, source, _ = agreement_frames(tmp_path)
    frames = list(frames)
    np.testing.assert_array_equal(frames, [solid('blue'), solid('red')])
    assert source == f'2 photos of {tmp_path}'


def test_of_many_photos_a_few_are_taken_from_all_over(tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, 'MOST_PHOTOS', 3)
    for number in range(8):
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.full((4, 4, 3), number, np.uint8))
    frames, source, _ = agreement_frames(tmp_path)
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 3, 6]
    assert source.startswith('3 photos')


def test_a_folder_without_photos_and_a_broken_photo_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r'agreement_frames.*has no photo.*empty'):
        agreement_frames(tmp_path)
    (tmp_path / 'broken.jpg').write_bytes(b'no photo')
    frames, *_ = agreement_frames(tmp_path)
    with pytest.raises(ConfigurationError, match=r'broken\.jpg cannot be read'):
        list(frames)


def test_a_photo_that_leads_nowhere_is_named_at_once(tmp_path):
    (tmp_path / 'lost.jpg').symlink_to(tmp_path / 'deleted.jpg')
    with pytest.raises(ConfigurationError, match=r'lost\.jpg cannot be read'):
        agreement_frames(tmp_path)
