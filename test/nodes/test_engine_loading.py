"""What anytime_node asks of the factory, and what it does when the GPU fails under it."""

import json
import time

import pytest
import rclpy
from rclpy.parameter import Parameter

from anytime_dnn_ros.engines import factory
from anytime_dnn_ros.errors import ConfigurationError, EngineError
from anytime_dnn_ros.ladder.bundle import Bundle
from anytime_dnn_ros.nodes import engine_loading
from anytime_dnn_ros.nodes.anytime_node import AnytimeNode
from anytime_dnn_ros.nodes.anytime_parameters import ANYTIME_PARAMETERS
from anytime_dnn_ros.nodes.engine_loading import build_node_engines, load_node_engine
from engines.fake_cuda import STICKY
from engines.fake_machine import FakeMachine
from ladders import make_ladder
from ros_harness import LEVELS, raw_image

DOMAIN = 93
WAIT_S = 30.0


@pytest.fixture(scope='module')
def bundle(tmp_path_factory) -> Bundle:
    return make_ladder(tmp_path_factory.mktemp('loading') / 'colours')


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr(engine_loading, 'BUILD_TOLD_S', 0.0)
    return FakeMachine(monkeypatch)


@pytest.fixture
def values(tmp_path):
    table = {parameter.name: parameter.default for parameter in ANYTIME_PARAMETERS}
    return {**table, 'engine': 'tensorrt', 'precision': 'fp32', 'cache_dir': str(tmp_path / 'c')}


@pytest.fixture
def start(bundle, values):
    """Starts the node in this process, so that its GPU can be the fake one."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=DOMAIN)
    nodes = []

    def start(**changes):
        given = {**values, 'model': str(bundle.path), 'deadline_ms': 60_000.0, **changes}
        node = AnytimeNode(
            context=context, parameter_overrides=[Parameter(n, value=v) for n, v in given.items()]
        )
        nodes.append(node)
        node.statuses = []
        tell = node._diagnostics.publish
        node._diagnostics.publish = lambda a: (node.statuses.append(a.status[0]), tell(a))
        return node

    yield start
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


def show(node, color):
    """Gives the node a frame and waits until it is served or refused."""
    runner = node._runner
    before = runner.counters.answered + runner.counters.dropped_total
    now = node.get_clock().now().to_msg()
    node._on_image(raw_image({'sec': now.sec, 'nanosec': now.nanosec}, color))
    end_s = time.monotonic() + WAIT_S
    while runner.counters.answered + runner.counters.dropped_total == before:
        assert time.monotonic() < end_s
        time.sleep(0.01)
    return runner.counters


def status(node):
    node._publish_diagnostics()
    said = node.statuses[-1]
    return LEVELS[said.level], said.message, {v.key: v.value for v in said.values}


def test_the_factory_gets_what_the_parameters_say(bundle, values, tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(
        engine_loading, 'load_engine', lambda *words, **options: given.update(options, words=words)
    )
    changes = {
        'threads': 3,
        'precision': 'int8',
        'dla_core': 1,
        'workspace_mib': 64,
        'agreement_frames': str(tmp_path),
        'on_engine_error': 'report',
    }
    load_node_engine(bundle, {**values, **changes}, warn=print, progress=print)
    assert given['words'] == (bundle, 'tensorrt', 3)
    assert given['on_engine_error'] == 'report'
    options = given['tensorrt']
    assert (options.precision, options.dla_core) == ('int8', 1)
    assert options.workspace_bytes == 64 * 1024 * 1024
    assert (options.frames, options.folder) == (tmp_path, tmp_path / 'c')
    load_node_engine(bundle, values, warn=print, progress=print)
    assert (given['tensorrt'].dla_core, given['tensorrt'].frames) == (None, None)
    assert given['tensorrt'].workspace_bytes is None


def test_photos_of_a_user_who_is_not_there_are_refused(bundle, values):
    changed = {**values, 'agreement_frames': '~nobody-of-that-name/photos'}
    with pytest.raises(ConfigurationError, match=r'agreement_frames = .*cannot be used'):
        load_node_engine(bundle, changed, warn=print, progress=print)


def test_a_build_is_told_now_and_then_in_percent(bundle, values, machine, monkeypatch):
    told = []
    load_node_engine(bundle, values, warn=print, progress=told.append).close()
    assert told == pytest.approx([12.5, 25, 37.5, 50, 62.5, 75, 100])
    monkeypatch.setattr(engine_loading, 'BUILD_TOLD_S', 3600.0)
    told.clear()
    load_node_engine(bundle, values, warn=print, progress=told.append).close()
    assert told == []


def test_build_only_leaves_engines_for_the_next_start(bundle, values, machine):
    info = build_node_engines(bundle, values, warn=print, progress=print)
    assert info.library == 'tensorrt'
    assert machine.cuda.memory == {}
    machine.built.clear()
    load_node_engine(bundle, values, warn=print, progress=print).close()
    assert machine.built == []


def test_build_only_without_a_place_to_keep_them_is_refused(bundle, values, machine):
    with pytest.raises(ConfigurationError, match="cache_dir = 'none' keeps no engines"):
        build_node_engines(bundle, {**values, 'cache_dir': 'none'}, warn=print, progress=print)
    assert machine.built == []


def test_build_only_that_keeps_nothing_is_an_error(bundle, values, machine, tmp_path):
    (tmp_path / 'c').write_text('a file')
    for engine in ('tensorrt', 'auto'):
        with pytest.raises(EngineError, match=r'is not kept in .*make room'):
            build_node_engines(bundle, {**values, 'engine': engine}, warn=print, progress=print)


def test_build_only_where_onnxruntime_would_serve_is_an_error(bundle, values, monkeypatch):
    monkeypatch.setattr(factory, 'find_device', lambda: None)
    with pytest.raises(EngineError, match=r'ONNX Runtime would serve.*no NVIDIA GPU'):
        build_node_engines(bundle, {**values, 'engine': 'auto'}, warn=print, progress=print)


@pytest.mark.dds
def test_the_node_builds_and_is_done(start, machine):
    node = start(build_only=True)
    node.autostart()
    assert node.is_done
    assert machine.built == ['exit1', 'exit2', 'exit3']
    percents = [s.message for s in node.statuses if 'building' in s.message]
    assert percents[0] == 'building engines: 12 %'
    assert percents[-1] == 'building engines: 100 %'
    assert node._runner is None


@pytest.mark.dds
@pytest.mark.parametrize('on_engine_error', ['rebuild', 'fall_back'])
def test_the_node_answers_the_frame_after_the_gpu_is_lost(start, machine, on_engine_error):
    node = start(on_engine_error=on_engine_error)
    node.autostart()
    assert show(node, 'red').answered == 1
    assert status(node)[2]['engine'].startswith('tensorrt 10.3.0 on Fake Orin')
    machine.cuda.fault = STICKY
    counters = show(node, 'green')
    assert counters.dropped == {'engine_error': 1}
    assert show(node, 'blue').answered == 2
    level, message, values = status(node)
    assert level == 'WARN'
    assert 'onnxruntime serves in place of another engine' in message
    assert 'cudaErrorIllegalAddress' in values['engine_reason']
    assert values['engine'].startswith('onnxruntime')


@pytest.mark.dds
def test_the_node_plans_with_the_times_of_what_has_taken_over(start, machine, tmp_path):
    node = start(on_engine_error='fall_back')
    node.autostart()
    machine.cuda.fault = STICKY
    # The first is lost, the second answered by ONNX Runtime, which is measured before the third.
    for color in ('green', 'blue', 'red'):
        counters = show(node, color)
    assert counters.answered == 2
    kept = [json.loads(file.read_text()) for file in (tmp_path / 'c').glob('stage_times_*')]
    assert sorted(times['key']['engine']['library'] for times in kept) == [
        'onnxruntime',
        'tensorrt',
    ]
    (measured,) = (k for k in kept if k['key']['engine']['library'] == 'onnxruntime')
    assert node._reference.samples_s.tolist() == measured['samples_s']
    assert node._planner._can_cut


@pytest.mark.dds
def test_the_node_reports_and_keeps_the_engine_where_it_is_told_to(start, machine):
    node = start(on_engine_error='report')
    node.autostart()
    machine.cuda.refusals['cudaGraphLaunch'] = [machine.cuda.cudaError_t.cudaErrorMemoryAllocation]
    assert show(node, 'green').dropped == {'engine_error': 1}
    assert show(node, 'blue').answered == 1
    _, message, values = status(node)
    assert 'engine_error 1' in message
    assert values['engine'].startswith('tensorrt')


@pytest.mark.dds
def test_tensorrt_without_a_gpu_fails_the_activation_and_says_why(start):
    node = start()
    node.autostart()
    level, message, _ = status(node)
    assert level == 'ERROR'
    assert 'needs an NVIDIA GPU' in message
    assert node._runner is None


@pytest.mark.dds
def test_auto_without_a_gpu_serves_and_says_so_in_the_diagnostics(start):
    node = start(engine='auto')
    node.autostart()
    assert show(node, 'green').answered == 1
    _, _, values = status(node)
    assert 'no NVIDIA GPU' in values['engine_reason']
    assert values['engine'].startswith('onnxruntime')
