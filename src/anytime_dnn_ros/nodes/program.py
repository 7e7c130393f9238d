"""A program that spins nodes until it is told to stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from anytime_dnn_ros.errors import AnytimeError
from anytime_dnn_ros.timing.realtime import SWITCH_INTERVAL_S

# A terminate signal wakes the executor before it ends the context, so that a node without timers
# may go back to sleep: it looks again after this time, and for nodes that failed.
STOP_CHECK_S = 2.0


def run_nodes(
    name: str, factories: Sequence[Callable[[], Node]], args: list[str] | None = None
) -> int:
    """Makes the nodes, spins them in one thread and destroys them.

    Args:
        name: Of the program, for its log.
        factories: Make one node each. A node may have a `failure`, the exception that ended it,
            or say that it `is_done`, which ends all.
        args: The command line; None takes the process's own.

    Returns:
        0 after Ctrl-C, a terminate signal or when done; 2 where the configuration cannot be used.

    Raises:
        Exception: What ended a node against all expectation.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # rclpy's own handler ends the context. Python's would raise KeyboardInterrupt besides, also in
    # the middle of rclpy's C++, which turns it into a RuntimeError while the context still lives.
    # It is not restored: a terminal and a launch file both send SIGINT, and the second may come
    # while the process is leaving.
    signal.signal(signal.SIGINT, lambda *_: None)
    nodes: list[Node] = []
    try:
        rclpy.init(args=args)
    except Exception as error:  # noqa: BLE001 - every distribution raises its own types
        rclpy.logging.get_logger(name).error(f'the ROS arguments cannot be used: {error}')
        return 2
    try:
        _spin(nodes, factories)
    except AnytimeError as error:
        rclpy.logging.get_logger(name).error(str(error))
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        # Both are how a node is told to stop, by a terminal and by a launch file.
        pass
    except Exception:
        # A callback that a signal has caught in the middle of its work.
        if rclpy.ok():
            raise
    finally:
        for node in nodes:
            node.destroy_node()
        # Not rclpy.try_shutdown, which Humble has not.
        rclpy.get_default_context().try_shutdown()
    if failures := _failures(nodes):
        raise failures[0]
    return 0


def _spin(nodes: list[Node], factories: Sequence[Callable[[], Node]]) -> None:
    """Fills `nodes`, one by one, so that the caller can destroy those that were made."""
    executor = SingleThreadedExecutor()
    for make in factories:
        nodes.append(make())
        executor.add_node(nodes[-1])
    while rclpy.ok() and not _failures(nodes) and not any(_is_done(node) for node in nodes):
        executor.spin_once(timeout_sec=STOP_CHECK_S)


def _is_done(node: Node) -> bool:
    return getattr(node, 'is_done', False)


def _failures(nodes: list[Node]) -> list[Exception]:
    return [node.failure for node in nodes if getattr(node, 'failure', None)]
