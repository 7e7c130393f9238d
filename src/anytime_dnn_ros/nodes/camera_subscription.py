"""The image subscription: with the camera's reliability, and again should that change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

CHECK_PERIOD_S = 0.5
TRANSPORTS = {'raw': (Image, 'image'), 'compressed': (CompressedImage, 'image/compressed')}


class CameraSubscription:
    """Keeps one subscription, queue depth 1: depth is latency.

    Args:
        node: Its owner.
        transport: One of `TRANSPORTS`; `raw` subscribes to `image`.
        reliability: `reliable`, `best_effort`, or `auto` for the publisher's own.
        on_image: Gets each message.
    """

    def __init__(
        self, node: Node, transport: str, reliability: str, on_image: Callable[[Any], None]
    ) -> None:
        self._node = node
        self._kind, self._topic = TRANSPORTS[transport]
        self._wanted = reliability
        self._on_image = on_image
        self._subscription: Any = None
        self.reliability = 'none'
        # A camera is to be found also before a simulated clock runs.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(CHECK_PERIOD_S, self._follow, clock=clock)
        self._follow()

    def destroy(self) -> None:
        """Ends the subscription."""
        self._node.destroy_timer(self._timer)
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)

    def _follow(self) -> None:
        reliability = self._wanted if self._wanted != 'auto' else self._publishers_reliability()
        if reliability == self.reliability:
            return
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        qos = QoSProfile(
            depth=1,
            history=HistoryPolicy.KEEP_LAST,
            reliability=ReliabilityPolicy[reliability.upper()],
        )
        self._subscription = self._node.create_subscription(
            self._kind, self._topic, self._on_image, qos
        )
        self.reliability = reliability

    def _publishers_reliability(self) -> str:
        """That of all publishers; best effort hears every publisher, so it goes for a mixture."""
        topic = self._node.resolve_topic_name(self._topic)
        cameras = self._node.get_publishers_info_by_topic(topic)
        if not cameras and self._subscription is not None:
            # A camera that has gone will most likely come back as it was.
            return self.reliability
        policies = {camera.qos_profile.reliability for camera in cameras}
        return 'reliable' if policies == {ReliabilityPolicy.RELIABLE} else 'best_effort'
