"""The launch file and the configuration it ships, against the nodes they configure.

The wheels of PyPI have neither launch nor launch_ros, so stand-ins record what the launch file
asks of them: the same few names and arguments that Humble, Jazzy and Kilted have.
"""

import os
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree as ET

import ament_index_python.packages
import pytest
import yaml

from anytime_dnn_ros.nodes.anytime_parameters import ANYTIME_PARAMETERS
from anytime_dnn_ros.nodes.monitor_node import MONITOR_PARAMETERS
from anytime_dnn_ros.nodes.parameters import check

ROOT = Path(__file__).parents[1]
PROFILES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
TABLES = {'anytime_node': ANYTIME_PARAMETERS, 'monitor_node': MONITOR_PARAMETERS}


class Configuration:
    def __init__(self, name):
        self.name = name

    def perform(self, context):
        return context[self.name]


@pytest.fixture
def launch(monkeypatch):
    """A function from launch arguments to the nodes that would be started."""

    def record(name, **names):
        module = ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)

    def argument(name, *, default_value, description):
        return SimpleNamespace(name=name, default=default_value, description=description)

    record('launch', LaunchContext=dict, LaunchDescription=list)
    record('launch.actions', DeclareLaunchArgument=argument, OpaqueFunction=SimpleNamespace)
    record('launch.substitutions', LaunchConfiguration=Configuration)
    record('launch_ros')
    record('launch_ros.actions', Node=SimpleNamespace)
    record(
        'launch_ros.parameter_descriptions',
        ParameterValue=lambda value, value_type: value_type(value),
    )
    share = {'anytime_dnn_ros': str(ROOT)}
    packages = ament_index_python.packages
    monkeypatch.setattr(packages, 'get_package_share_directory', share.__getitem__)
    for variable in PROFILES:
        monkeypatch.delenv(variable, raising=False)
    path = ROOT / 'launch' / 'anytime.launch.py'
    *arguments, start = runpy.run_path(str(path))['generate_launch_description']()

    def run(**given):
        context = {argument.name: argument.default for argument in arguments}
        assert given.keys() <= context.keys()
        return start.function(context | given)

    return run


def test_both_nodes_with_the_shipped_files(launch):
    nodes = launch()
    assert [node.executable for node in nodes] == ['anytime_node', 'monitor_node']
    for node in nodes:
        assert Path(node.parameters[0]) == ROOT / 'config' / 'anytime.yaml'
        assert node.parameters[1] == {}, 'an argument not given must leave the file its say'
        for variable in PROFILES:
            assert Path(node.additional_env[variable]) == ROOT / 'config' / 'fastdds_shm.xml'


@pytest.mark.parametrize('text', ['50', '50.0', '5e1'])
def test_deadline_is_a_double_however_it_is_written(launch, text):
    value = launch(deadline_ms=text)[0].parameters[1]['deadline_ms']
    assert type(value) is float
    assert value == 50.0


def test_arguments_reach_the_nodes_they_are_for(launch):
    anytime, monitor = launch(
        namespace='front',
        image_topic='/camera/image_raw',
        model='42',
        use_sim_time='True',
        autostart='false',
        build_only='false',
        log_level='debug',
    )
    assert anytime.parameters[1] == {
        'use_sim_time': True,
        'model': '42',
        'autostart': False,
        'build_only': False,
    }
    assert monitor.parameters[1] == {'use_sim_time': True}
    assert ('image', '/camera/image_raw') in anytime.remappings
    assert ('image/compressed', '/camera/image_raw/compressed') in anytime.remappings
    for node in (anytime, monitor):
        assert node.namespace == 'front'
        assert node.arguments == ['--ros-args', '--log-level', 'debug']


@pytest.mark.parametrize(
    ('given', 'executables'),
    [
        ({'container': 'true'}, ['anytime_composed']),
        ({'with_monitor': 'false'}, ['anytime_node']),
        ({'with_monitor': 'false', 'container': 'true'}, ['anytime_node']),
        ({'build_only': 'true'}, ['anytime_node']),
        ({'build_only': 'true', 'container': 'true'}, ['anytime_node']),
        ({'build_only': 'false'}, ['anytime_node', 'monitor_node']),
    ],
)
def test_which_processes_start(launch, given, executables):
    nodes = launch(**given)
    assert [node.executable for node in nodes] == executables
    built = (ROOT / 'CMakeLists.txt').read_text()
    assert all(f'\n    {executable}:' in built for executable in executables)


def test_two_nodes_of_one_process_keep_their_own_names(launch):
    assert launch(container='true')[0].name is None


@pytest.mark.parametrize('variable', PROFILES)
def test_a_profile_of_the_user_stays(launch, monkeypatch, variable):
    monkeypatch.setenv(variable, os.devnull)
    assert all(not node.additional_env for node in launch())


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('deadline_ms', 'nan'),
        ('deadline_ms', '0'),
        ('deadline_ms', '-5'),
        ('deadline_ms', 'inf'),
        ('deadline_ms', 'soon'),
        ('autostart', 'maybe'),
        ('build_only', 'yes'),
        ('use_sim_time', '2'),
        ('container', ''),
        ('with_monitor', 'yes'),
        ('params_file', 'no/such/file.yaml'),
    ],
)
def test_a_bad_argument_is_named(launch, name, text):
    with pytest.raises(ValueError, match=f'{name}:={text}'):
        launch(**{name: text})


@pytest.mark.parametrize('node', TABLES)
def test_the_parameter_file_names_only_parameters_there_are(node):
    file = yaml.safe_load((ROOT / 'config' / 'anytime.yaml').read_text())
    assert file.keys() == {f'/**/{name}' for name in TABLES}
    table = {parameter.name: parameter for parameter in TABLES[node]}
    values = file[f'/**/{node}']['ros__parameters']
    assert values
    for name, value in values.items():
        check(table[name], value)


def test_the_dds_profile_holds_several_camera_frames():
    root = ET.parse(ROOT / 'config' / 'fastdds_shm.xml').getroot()
    tag = root.tag.removesuffix('profiles')
    transports = {
        transport.find(f'{tag}transport_id').text: transport
        for transport in root.iter(f'{tag}transport_descriptor')
    }
    used = [t.text for t in root.findall(f'.//{tag}userTransports/{tag}transport_id')]
    assert sorted(used) == sorted(transports)
    shared = [t for t in transports.values() if t.find(f'{tag}type').text == 'SHM']
    assert int(shared[0].find(f'{tag}segment_size').text) >= 5 * 1920 * 1080 * 3


def test_the_aggregator_collects_both_nodes():
    file = yaml.safe_load((ROOT / 'config' / 'diagnostic_aggregator.yaml').read_text())
    group = file['/**/analyzers']['ros__parameters']['anytime_dnn']['analyzers']
    parts = [part for analyzer in group.values() for part in analyzer['contains']]
    # As the nodes build them: fully qualified, so that two robots' nodes differ.
    for status in ('/anytime_node: inference', '/robot1/monitor_node: system load'):
        assert [part in status for part in parts].count(True) == 1
