"""anytime_node and monitor_node in one process, for a robot that counts its processes."""

from __future__ import annotations

import sys

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.nodes.anytime_node import SWITCH_INTERVAL_S, AnytimeNode
from anytime_dnn_ros.nodes.monitor_node import MonitorNode


def main(args: list[str] | None = None) -> int:
    """Runs both nodes until told to stop.

    Returns:
        0 after a clean stop, 2 for parameters that cannot be used.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    rclpy.init(args=args)
    anytime: AnytimeNode | None = None
    monitor: MonitorNode | None = None
    try:
        anytime, monitor = AnytimeNode(), MonitorNode()
        anytime.autostart()
        executor = SingleThreadedExecutor()
        executor.add_node(anytime)
        executor.add_node(monitor)
        executor.spin()
    except ConfigurationError as error:
        rclpy.logging.get_logger('anytime_composed').fatal(str(error))
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # A callback that a signal has caught in the middle of its work.
        if rclpy.ok():
            raise
    finally:
        if anytime is not None:
            anytime.stop()
            anytime.destroy_node()
        if monitor is not None:
            monitor.destroy_node()
        if rclpy.ok():
            rclpy.shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
