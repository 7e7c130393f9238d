"""A camera that needs no camera: publishes real photos, panned and zoomed, on `image`.

    python -m anytime_dnn_ros.demo.camera --rate-hz 30 --ros-args -r image:=/camera/image_raw

It starts when somebody subscribes, so that its count can be compared with the subscriber's.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path
from time import monotonic

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from anytime_dnn_ros.demo.photos import film, load_photos
from anytime_dnn_ros.errors import AnytimeError
from anytime_dnn_ros.nodes.messages import image_message

# Reliable delivery needs a few frames kept for sending again.
QUEUE_DEPTH = 5
SUBSCRIBER_POLL_S = 0.1


def publish_film(node: Node, args: argparse.Namespace, stop: threading.Event) -> int:
    """Publishes until `stop` is set.

    Returns:
        Number of frames published.
    """
    reliability = ReliabilityPolicy[args.reliability.upper()]
    qos = QoSProfile(depth=QUEUE_DEPTH, reliability=reliability)
    publisher = node.create_publisher(Image, 'image', qos)
    frames = film(load_photos(), args.rate_hz, args.hold_s)
    while publisher.get_subscription_count() == 0 and not stop.wait(SUBSCRIBER_POLL_S):
        continue
    published = 0
    period_s = 1 / args.rate_hz
    next_s = monotonic()
    while not stop.wait(max(0.0, next_s - monotonic())):
        name, picture = next(frames)
        stamp = node.get_clock().now().to_msg()
        publisher.publish(image_message(picture, Header(stamp=stamp, frame_id=name)))
        published += 1
        # A camera that was held up goes on in its rhythm; it does not send a burst.
        next_s = max(next_s + period_s, monotonic())
    return published


def main(argv: list[str] | None = None) -> int:
    """Runs the camera until SIGINT or SIGTERM."""
    argv = sys.argv if argv is None else argv
    parser = argparse.ArgumentParser(prog='camera', description=__doc__.splitlines()[0])
    parser.add_argument('--rate-hz', type=float, default=30.0, help='frames per second')
    parser.add_argument('--hold-s', type=float, default=2.0, help='seconds on each photo')
    parser.add_argument(
        '--reliability', choices=['reliable', 'best_effort'], default='reliable', help='QoS'
    )
    parser.add_argument(
        '--json', type=Path, metavar='FILE', help='write the count here at the end'
    )
    args = parser.parse_args(remove_ros_args(argv)[1:])
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
    node = Node('camera')
    try:
        published = publish_film(node, args, stop)
    except AnytimeError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        node.destroy_node()
        rclpy.shutdown()
    if args.json:
        args.json.write_text(json.dumps({'frames_published': published}), encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
