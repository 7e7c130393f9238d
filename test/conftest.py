import pytest


@pytest.fixture(scope='session', autouse=True)
def _cache_of_its_own(tmp_path_factory):
    """No test, nor any node that it starts, keeps stage times in the user's own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture(scope='module')
def robot(tmp_path_factory):
    """A robot in a ROS domain of its own; its nodes end with the module's tests."""
    # Here, so that tests without ROS do not pay for its import.
    from ros_harness import Robot

    robot = Robot(tmp_path_factory.mktemp('robot'))
    yield robot
    robot.close()


@pytest.fixture(scope='session')
def tensorrt_builds(request):
    """Real builds, without a GPU; says at the end how long they took."""
    pytest.importorskip(
        'tensorrt_rtx_bindings', reason='TensorRT for RTX is not installed (make tensorrt)'
    )
    from tensorrt_builds import Builds

    builds = Builds()
    yield builds
    if len(builds):
        with request.config.pluginmanager.getplugin(
            'capturemanager'
        ).global_and_fixture_disabled():
            print(f'\n{builds}')
