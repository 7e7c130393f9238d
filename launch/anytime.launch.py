"""Start anytime_node and monitor_node on one camera topic.

    ros2 launch anytime_dnn_ros anytime.launch.py image_topic:=/camera/image_raw deadline_ms:=50
    ros2 launch anytime_dnn_ros anytime.launch.py --show-args

An argument left empty keeps what params_file says.
"""

import math
import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

PACKAGE = 'anytime_dnn_ros'
SHARE = Path(get_package_share_directory(PACKAGE))
BOOLEANS = {'true': True, '1': True, 'false': False, '0': False}
# Fast DDS 3 (Kilted) reads the first, Fast DDS 2 (Humble, Jazzy) the second.
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')

ARGUMENTS = (
    ('namespace', '', 'namespace of both nodes'),
    ('params_file', str(SHARE / 'config' / 'anytime.yaml'), 'YAML file with the parameters'),
    (
        'image_topic',
        'image',
        'camera topic; with image_transport compressed its /compressed sibling',
    ),
    ('model', '', 'name of a shipped ladder bundle, or the folder of one'),
    ('deadline_ms', '', 'time for one frame, milliseconds'),
    ('use_sim_time', '', 'true: take the time from /clock (replay, simulation)'),
    ('autostart', '', 'false: a lifecycle manager configures and activates anytime_node'),
    ('build_only', '', 'true: build the TensorRT engines of the model, without serving, and end'),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
    ('with_monitor', 'true', 'false: no monitor_node'),
    ('container', 'false', 'true: both nodes in one process'),
)


def boolean(name: str, text: str) -> bool:
    """Read a launch argument that is true or false.

    Args:
        name: Name of the argument, for the error.
        text: What was given.

    Returns:
        Its value.

    Raises:
        ValueError: It is neither; the message names the argument, the value and the mend.
    """
    if text.lower() not in BOOLEANS:
        raise ValueError(f'launch argument {name}:={text} is neither true nor false')
    return BOOLEANS[text.lower()]


def positive_ms(name: str, text: str) -> float:
    """Read a launch argument in milliseconds; `50` and `50.0` are the same.

    Args:
        name: Name of the argument, for the error.
        text: What was given.

    Returns:
        Its value, milliseconds.

    Raises:
        ValueError: Not a positive, finite number; the message names the argument, the value and
            the mend.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(
            f'launch argument {name}:={text} is no time; give milliseconds above 0: {name}:=50'
        )
    return value


def anytime_overrides(given: dict[str, str]) -> dict[str, object]:
    """Read the parameters of anytime_node that launch arguments give."""
    anytime: dict[str, object] = {}
    if given['model']:
        # A string whatever it looks like: a bundle may be called 42.
        anytime['model'] = ParameterValue(given['model'], value_type=str)
    if given['deadline_ms']:
        anytime['deadline_ms'] = positive_ms('deadline_ms', given['deadline_ms'])
    for name in ('autostart', 'build_only'):
        if given[name]:
            anytime[name] = boolean(name, given[name])
    return anytime


def start_nodes(context: LaunchContext) -> list[Node]:
    """Build the node actions once the arguments are known."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    if not Path(given['params_file']).is_file():
        raise ValueError(f'launch argument params_file:={given["params_file"]} is no file')

    common: dict[str, object] = {}
    if given['use_sim_time']:
        common['use_sim_time'] = boolean('use_sim_time', given['use_sim_time'])
    anytime = common | anytime_overrides(given)
    # Beside a build a monitor would only keep the launch from ending.
    builds = anytime.get('build_only', False)

    with_monitor = not builds and boolean('with_monitor', given['with_monitor'])
    composed = boolean('container', given['container']) and with_monitor
    environment = {}
    if not any(os.environ.get(variable) for variable in PROFILE_VARIABLES):
        environment = dict.fromkeys(PROFILE_VARIABLES, str(SHARE / 'config' / 'fastdds_shm.xml'))

    def node(executable: str, name: str | None, overrides: dict[str, object]) -> Node:
        return Node(
            package=PACKAGE,
            executable=executable,
            name=name,
            namespace=given['namespace'],
            parameters=[given['params_file'], overrides],
            remappings=[
                ('image', given['image_topic']),
                ('image/compressed', given['image_topic'] + '/compressed'),
            ],
            arguments=['--ros-args', '--log-level', given['log_level']],
            additional_env=environment,
            output='screen',
        )

    if composed:
        return [node('anytime_composed', None, anytime)]
    nodes = [node('anytime_node', 'anytime_node', anytime)]
    if with_monitor:
        nodes.append(node('monitor_node', 'monitor_node', common))
    return nodes


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the nodes."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in ARGUMENTS
            ),
            OpaqueFunction(function=start_nodes),
        ]
    )
