import pytest


@pytest.fixture(scope='module')
def robot(tmp_path_factory):
    """A robot in a ROS domain of its own; its nodes end with the module's tests."""
    # Here, so that tests without ROS do not pay for its import.
    from ros_harness import Robot

    robot = Robot(tmp_path_factory.mktemp('robot'))
    yield robot
    robot.close()
