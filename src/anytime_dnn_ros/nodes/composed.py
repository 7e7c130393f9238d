"""anytime_node and monitor_node in one process, for a robot that counts its processes."""

from __future__ import annotations

import sys

from anytime_dnn_ros.nodes.anytime_node import started_anytime_node
from anytime_dnn_ros.nodes.monitor_node import MonitorNode
from anytime_dnn_ros.nodes.program import run_nodes


def main(args: list[str] | None = None) -> int:
    """Runs both nodes until told to stop; exit codes as `run_nodes`."""
    return run_nodes('anytime_composed', [started_anytime_node, MonitorNode], args)


if __name__ == '__main__':
    sys.exit(main())
