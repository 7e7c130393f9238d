"""`anytime-dnn doctor`: what this machine has and lacks for the nodes, and the mend for each."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from anytime_dnn_ros.errors import AnytimeError

PIP_MEND = 'pip install {}, into the Python that runs the nodes'
ROS_MEND = 'source the setup.bash of ROS 2, or run `make setup`'
LAUNCH_MEND = (
    'comes with apt ROS 2 only; without it start anytime_node and monitor_node by their names'
)


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        name: What was looked for.
        ok: Whether it is here and works.
        required: Whether the node cannot run without it.
        detail: What was found.
        mend: What to do if it is missing.
    """

    name: str
    ok: bool
    required: bool
    detail: str
    mend: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `anytime-dnn doctor`."""
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the findings here')


def run(args: argparse.Namespace) -> int:
    """Prints one line per check.

    Returns:
        0 if anytime_node can run here, else 1.
    """
    findings = examine()
    for finding in findings:
        mark = 'ok     ' if finding.ok else 'MISSING' if finding.required else 'missing'
        print(f'{mark}  {finding.name}: {finding.detail}')
        if not finding.ok:
            print(f'         mend: {finding.mend}')
    if args.json:
        text = json.dumps([asdict(f) for f in findings], indent=2) + '\n'
        args.json.write_text(text, encoding='utf-8')
    healthy = all(f.ok for f in findings if f.required)
    print('anytime_node can run here' if healthy else 'anytime_node cannot run here')
    return 0 if healthy else 1


def examine() -> list[Finding]:
    """Runs every check; none raises."""
    return [
        _check('rclpy', lambda: _present('rclpy', 'spin'), ROS_MEND),
        _check('messages of anytime_dnn_ros', _messages, ROS_MEND),
        _check('middleware', _middleware, ROS_MEND),
        _check('onnxruntime', lambda: _version('onnxruntime'), PIP_MEND.format('onnxruntime')),
        _check('onnx', lambda: _version('onnx'), PIP_MEND.format('onnx')),
        _check('OpenCV', lambda: _version('cv2'), 'apt install python3-opencv'),
        _check('psutil', lambda: _version('psutil'), PIP_MEND.format('psutil')),
        _check(
            'jsonschema',
            lambda: _present('jsonschema', 'Draft202012Validator'),
            PIP_MEND.format('jsonschema'),
        ),
        _check('image conversion', _image_conversion, PIP_MEND.format('rosbags-image')),
        _check('shipped bundles', _bundles, 'install the package again, with its bundles folder'),
        _check(
            'shared memory for camera frames',
            _shared_memory,
            f'export FASTDDS_DEFAULT_PROFILES_FILE={_profile()} and '
            'FASTRTPS_DEFAULT_PROFILES_FILE likewise, for the camera too; '
            'the launch file and the demo do so by themselves',
            required=False,
        ),
        _check(
            'pressure stall information',
            lambda: Path('/proc/pressure/cpu').read_text(encoding='ascii').splitlines()[0],
            'boot with psi=1; without it monitor_node leaves psi_* unknown',
            required=False,
        ),
        _check(
            'launch', lambda: _present('launch', 'LaunchDescription'), LAUNCH_MEND, required=False
        ),
        _check(
            'launch_ros',
            lambda: _present('launch_ros.actions', 'Node'),
            LAUNCH_MEND,
            required=False,
        ),
    ]


def _check(name: str, look: Callable[[], str], mend: str, *, required: bool = True) -> Finding:
    try:
        return Finding(name, ok=True, required=required, detail=look(), mend='')
    except Exception as error:  # noqa: BLE001 - a broken package may raise anything at import
        detail = f'{type(error).__name__}: {error}'.splitlines()[0]
        return Finding(name, ok=False, required=required, detail=detail, mend=mend)


def _version(module_name: str) -> str:
    module = import_module(module_name)
    return str(getattr(module, '__version__', 'present'))


def _present(module_name: str, attribute: str) -> str:
    # The attribute is asked for because a mere folder of that name also imports.
    getattr(import_module(module_name), attribute)
    return 'present'


def _messages() -> str:
    kind = import_module('anytime_dnn_ros.msg').AnytimePrediction
    # rclpy would do this at the first publisher; it fails where the compiled half is missing.
    kind.__class__.__import_type_support__()
    if kind.__class__._TYPE_SUPPORT is None:  # noqa: SLF001
        raise AnytimeError('the compiled half does not load')
    return 'built, and they load'


def _middleware() -> str:
    return str(import_module('rclpy').get_rmw_implementation_identifier())


def _shared_memory() -> str:
    rmw = _middleware()
    if rmw != 'rmw_fastrtps_cpp':
        return f'{rmw}: not Fast DDS, its own settings apply'
    from anytime_dnn_ros.demo.processes import PROFILE_VARIABLES  # noqa: PLC0415

    chosen = [os.environ[v] for v in PROFILE_VARIABLES if os.environ.get(v)]
    if not chosen:
        raise AnytimeError('no Fast DDS profile is set: best-effort frames over 0.5 MB get lost')
    for path in chosen:
        if not Path(path).is_file():
            raise AnytimeError(f'the Fast DDS profile {path} is no file')
    return chosen[0]


def _profile() -> str:
    try:
        from anytime_dnn_ros.demo.processes import dds_profile  # noqa: PLC0415

        return str(dds_profile())
    except (ImportError, AnytimeError):
        return 'config/fastdds_shm.xml'


def _image_conversion() -> str:
    try:
        import_module('cv_bridge')
    except ImportError:
        import_module('rosbags.image')
        return 'rosbags-image'
    return 'cv_bridge'


def _bundles() -> str:
    from anytime_dnn_ros.ladder.bundle import read_bundle, shipped_bundles  # noqa: PLC0415

    names = [read_bundle(path).manifest.name for path in shipped_bundles().values()]
    if not names:
        raise AnytimeError('none')
    return ', '.join(names)
