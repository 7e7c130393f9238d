"""The ROS 2 edge: nodes, their parameters, conversions and diagnostics."""

from anytime_dnn_ros.errors import MissingDependencyError

try:
    import rclpy  # noqa: F401

    import anytime_dnn_ros.msg  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        f'the nodes need ROS 2 and the messages of this package, which this Python cannot import '
        f'({error}): on a robot source its setup.bash (docs/robot.md), elsewhere `make setup` '
        'and use the programs in .venv/bin'
    ) from error
