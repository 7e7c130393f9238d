"""How old a frame is by its stamp, and which stamps cannot be believed."""

from __future__ import annotations

from dataclasses import dataclass

from anytime_dnn_ros.errors import ImageError

# Clocks of a camera and a robot that run NTP or PTP agree far better than this.
MAX_FUTURE_S = 0.1
MEND = 'synchronise the clocks, set use_sim_time in a replay, or set deadline_reference to receive'


@dataclass
class StampJudge:
    """Judges stamps one after the other.

    A stamp before the previous one is refused once and then becomes the measure, so that a bag
    played in a loop or a camera that restarts its clock costs one frame.

    Attributes:
        max_age_s: Frames older than this are refused.
    """

    max_age_s: float
    _last_ns: int = 0

    def age_s(self, stamp_ns: int, now_ns: int) -> float:
        """Age of a frame, seconds; slightly negative where clocks differ a little.

        Args:
            stamp_ns: The image's stamp.
            now_ns: The node's ROS clock at receipt.

        Raises:
            ImageError: The stamp is 0, in the future, too old, or before the one before.
        """
        age_s = (now_ns - stamp_ns) * 1e-9
        last_ns = self._last_ns
        # A stamp in the future is no measure: every good one after it would be "before" it.
        if age_s >= -MAX_FUTURE_S:
            self._last_ns = stamp_ns
        if stamp_ns == 0:
            raise ImageError(
                'stamp_zero', f'the image stamp is 0: let the driver stamp, or {MEND}'
            )
        if age_s < -MAX_FUTURE_S:
            raise ImageError('stamp_future', f'the stamp is {-age_s:.3f} s in the future: {MEND}')
        if stamp_ns < last_ns:
            back_s = (last_ns - stamp_ns) * 1e-9
            raise ImageError('stamp_backwards', f'the stamp went back by {back_s:.3f} s: {MEND}')
        if age_s > self.max_age_s:
            raise ImageError(
                'stamp_too_old',
                f'the frame is {age_s:.3f} s old by its stamp, max_frame_age_ms allows '
                f'{self.max_age_s:.3f} s: {MEND}',
            )
        return age_s
