"""The part of `pip install .` that pyproject.toml cannot say: the ROS messages, built by CMake.

colcon does not read this file: for it the package is an ament_cmake one.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent.resolve()
NAME = 'anytime_dnn_ros'
WITH_ROS = importlib.util.find_spec('rosidl_generator_py') is not None


def build_messages(work: Path) -> Path:
    """Run the package's CMakeLists.txt.

    Args:
        work: Folder for CMake's files.

    Returns:
        The folder CMake installed into.

    Raises:
        subprocess.CalledProcessError: CMake or the compiler failed; its output says why.
    """
    prefix = work / 'install'
    shutil.rmtree(prefix, ignore_errors=True)
    env = dict(os.environ)
    # The ROS wheels install into the venv's root and set neither variable.
    for variable in ('AMENT_PREFIX_PATH', 'CMAKE_PREFIX_PATH'):
        env[variable] = os.pathsep.join(filter(None, [sys.prefix, env.get(variable)]))
    configure = ['cmake', '-S', HERE, '-B', work, f'-DCMAKE_INSTALL_PREFIX={prefix}']
    configure += [f'-DPython3_EXECUTABLE={sys.executable}', '-DBUILD_TESTING=OFF']
    subprocess.run(configure, env=env, check=True)
    jobs = str(os.cpu_count() or 1)
    subprocess.run(['cmake', '--build', work, '--target', 'install', '-j', jobs], check=True)
    return prefix


class BuildWithMessages(build_py):
    """Adds the generated `msg` package, its libraries and the ament index to the wheel."""

    def run(self) -> None:
        """Build the Python modules, then the messages where ROS 2 is installed."""
        # What an earlier build left here would be shipped though its source is gone.
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        if not WITH_ROS:
            self.warn(
                f'{NAME}: no rosidl in this Python: a pure Python package without ROS nodes. '
                'For the nodes run `make setup`, or build with colcon where ROS 2 is installed.'
            )
            return
        work = HERE / 'build' / f'pip-{sys.implementation.cache_tag}-{Path(sys.prefix).name}'
        prefix = build_messages(work)
        generated = next(prefix.glob(f'**/*-packages/{NAME}'))
        package = Path(self.build_lib) / NAME
        skip = shutil.ignore_patterns('*.c', '__pycache__')
        shutil.copytree(generated / 'msg', package / 'msg', dirs_exist_ok=True, ignore=skip)
        for library in generated.glob('*.so'):
            shutil.copy2(library, package)
        files: dict[str, list[str]] = {}
        for path in [*prefix.glob('lib/*.so'), *prefix.glob('share/**/*')]:
            if path.is_file():
                folder = path.parent.relative_to(prefix).as_posix()
                files.setdefault(folder, []).append(os.path.relpath(path, HERE))
        self.distribution.data_files = sorted(files.items())


class PlatformDistribution(Distribution):
    """With compiled messages the wheel belongs to one platform and one Python."""

    def has_ext_modules(self) -> bool:
        """Whether the wheel holds compiled code."""
        return WITH_ROS


setup(cmdclass={'build_py': BuildWithMessages}, distclass=PlatformDistribution)
