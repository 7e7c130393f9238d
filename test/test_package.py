"""What is said twice about the package is said the same: to CMake, to pip, to ROS."""

import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from ament_index_python.packages import get_package_share_directory

import anytime_dnn_ros
import anytime_dnn_ros.msg
from anytime_dnn_ros.planner import StopReason

ROOT = Path(__file__).parents[1]
CMAKE = (ROOT / 'CMakeLists.txt').read_text()
MESSAGES = sorted(path.stem for path in (ROOT / 'msg').glob('*.msg'))
SCRIPTS = {
    entry.name: entry.value
    for entry in importlib.metadata.entry_points(group='console_scripts')
    if entry.value.startswith('anytime_dnn_ros.')
}


def test_every_message_is_built_by_cmake():
    assert sorted(re.findall(r'^  msg/(\w+)\.msg$', CMAKE, re.M)) == MESSAGES


@pytest.mark.parametrize('name', MESSAGES)
def test_message_is_generated_as_it_is_written(name):
    text = (ROOT / 'msg' / f'{name}.msg').read_text()
    fields = re.findall(r'^[\w/]+(?:\[\])? (\w+)(?![\w=])', text, re.M)
    assert list(getattr(anytime_dnn_ros.msg, name).get_fields_and_field_types()) == fields


@pytest.mark.parametrize('name', MESSAGES)
def test_every_field_of_a_message_is_explained(name):
    lines = (ROOT / 'msg' / f'{name}.msg').read_text().splitlines()
    bare = [line for line in lines if line.strip() and not re.search(r'# *\w', line)]
    assert not bare


def test_pip_and_colcon_install_the_same_programs():
    built = dict(re.findall(r'^ +([\w-]+):([\w.]+)\)?$', CMAKE, re.M))
    assert {name: f'anytime_dnn_ros.{module}:main' for name, module in built.items()} == SCRIPTS


@pytest.mark.parametrize('entry', SCRIPTS.values())
def test_every_program_has_its_main(entry):
    module, function = entry.split(':')
    assert callable(getattr(importlib.import_module(module), function))


def test_a_node_leaves_torch_alone_even_where_it_is_installed(tmp_path):
    (tmp_path / 'torch').mkdir()
    (tmp_path / 'torch' / '__init__.py').write_text('')
    code = (
        'import importlib.util, sys; '
        'import anytime_dnn_ros.nodes.anytime_node, anytime_dnn_ros.engines.onnxruntime; '
        'print("torch" in sys.modules, importlib.util.find_spec("torch").origin)'
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT / 'src'), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, '-c', code],
        env={**os.environ, 'PYTHONPATH': path.rstrip(os.pathsep)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ['False', str(tmp_path / 'torch' / '__init__.py')]


def test_one_version():
    package = ET.parse(ROOT / 'package.xml').getroot()
    assert package.findtext('version') == anytime_dnn_ros.__version__


def test_installed_package_is_in_the_ament_index():
    share = Path(get_package_share_directory('anytime_dnn_ros'))
    for shipped in ('launch/anytime.launch.py', 'config/anytime.yaml', 'config/fastdds_shm.xml'):
        assert (share / shipped).read_text() == (ROOT / shipped).read_text()


def test_a_stop_reason_is_marked_reserved_where_no_code_sends_it():
    text = (ROOT / 'msg' / 'AnytimePrediction.msg').read_text()
    reasons = re.findall(r'^uint8 STOP_(\w+)=\d+ +# (reserved: )?', text, re.M)
    assert {name for name, _ in reasons} == set(StopReason.__members__)
    code = '\n'.join(
        (ROOT / 'src/anytime_dnn_ros' / f'{name}.py').read_text() for name in ('runner', 'planner')
    )
    sent = set(re.findall(r'StopReason\.([A-Z_]+)', code))
    assert {name for name, reserved in reasons if not reserved} == sent
