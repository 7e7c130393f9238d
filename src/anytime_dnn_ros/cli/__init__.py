"""The command line, `anytime-dnn`: each subcommand is a module with `add_arguments` and `run`."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import anytime_dnn_ros
from anytime_dnn_ros.errors import AnytimeError, MissingDependencyError
from anytime_dnn_ros.forge import MEND as FORGE_MEND

INTERRUPTED = 130
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Command:
    """One subcommand.

    Attributes:
        module: Imported only when the subcommand is asked for: some take seconds.
        summary: One line for the list of commands.
        extra: The pip extra that brings what the module needs.
    """

    module: str
    summary: str
    extra: str = ''


COMMANDS = {
    'demo': Command(
        'anytime_dnn_ros.demo.run',
        'camera, monitor and node on real photos, with a report',
        'demo',
    ),
    'ensemble': Command(
        'anytime_dnn_ros.forge.ensemble', 'build a ladder bundle from pretrained nets', 'forge'
    ),
    'train': Command(
        'anytime_dnn_ros.forge.train', 'train a network and leave a ladder bundle', 'forge'
    ),
    'export': Command(
        'anytime_dnn_ros.forge.export_command',
        'make the bundle of a training from its checkpoint',
        'forge',
    ),
    'calibrate': Command(
        'anytime_dnn_ros.evaluate.calibrate', 'count how good each answer of a bundle is', 'forge'
    ),
    'report': Command(
        'anytime_dnn_ros.evaluate.report', 'accuracy of bundles against cost and time', 'forge'
    ),
    'profile': Command(
        'anytime_dnn_ros.evaluate.profile', 'how long each stage takes on this machine', 'demo'
    ),
    'bench': Command(
        'anytime_dnn_ros.bench.command',
        'missed deadlines and accuracy of policies under real load',
        'demo',
    ),
    'inspect': Command('anytime_dnn_ros.cli.inspection', 'show and check a ladder bundle'),
    'doctor': Command('anytime_dnn_ros.cli.doctor', 'say what this machine lacks for the nodes'),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: Arguments without the program's name; None for those of this process.

    Returns:
        0 if it did what it says, 1 for an error said on stderr, 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    asked = next((word for word in argv if not word.startswith('-')), '')
    try:
        with _named_mend(asked):
            args = _parser(asked).parse_args(argv)
            return int(args.run(args))
    except AnytimeError as error:
        print(f'anytime-dnn: {error}', file=sys.stderr)
        return 1
    except OSError as error:
        print(f'anytime-dnn: {_refusal(error)}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('anytime-dnn: interrupted', file=sys.stderr)
        return INTERRUPTED


def _refusal(error: OSError) -> str:
    """What the system refused, where, and the mend."""
    # Python finds no temporary folder where every one that it tries is full.
    no_temporary = isinstance(error, FileNotFoundError) and error.filename is None
    if error.errno in FULL_DISK or no_temporary:
        mend = 'make room, or set TMPDIR to a folder with room for temporary files'
    else:
        mend = 'check that it is there, and may be read and written'
    where = '' if error.filename is None else f'{error.filename}: '
    return f'{where}{error.strerror or error}; {mend}'


def _parser(asked: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='anytime-dnn', description=anytime_dnn_ros.__doc__)
    parser.add_argument('--version', action='version', version=anytime_dnn_ros.__version__)
    subparsers = parser.add_subparsers(metavar='COMMAND', required=True)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.summary, description=command.summary)
        if name == asked:
            module = import_module(command.module)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


@contextmanager
def _named_mend(asked: str) -> Iterator[None]:
    """Says of a package that is missing at import or at run how it comes here."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or '').partition('.')[0]
        if missing == 'rclpy' or missing.endswith('_msgs') or error.name == 'anytime_dnn_ros.msg':
            mend = 'it comes with ROS 2: source its setup.bash, or run `make setup`'
        elif asked in COMMANDS and COMMANDS[asked].extra and missing != 'anytime_dnn_ros':
            extra = COMMANDS[asked].extra
            pip = f"in the source folder run: pip install '.[{extra}]'"
            mend = FORGE_MEND if extra == 'forge' else pip
        else:
            raise
        raise MissingDependencyError(
            f'`anytime-dnn {asked}` needs the Python package {error.name!r}, which is not '
            f'installed; {mend}'
        ) from error
