"""How long the next frame may take: the parameter, or what a `Deadline` message said."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from anytime_dnn_ros.errors import ConfigurationError


@dataclass
class FrameBudget:
    """The budget of each frame in turn.

    Attributes:
        parameter_ms: The parameter `deadline_ms`.
        minimum_ms: Smallest budget accepted.
        maximum_ms: Largest budget accepted.
    """

    parameter_ms: float
    minimum_ms: float
    maximum_ms: float
    _override_ms: float = 0.0
    _frames_left: int = 0

    def override(self, budget_ms: float, frames: int) -> None:
        """Takes a `Deadline` message.

        Args:
            budget_ms: For the coming frames; 0 goes back to the parameter.
            frames: How many frames it holds for; 0 until the next message.

        Raises:
            ConfigurationError: The budget is not finite or out of range; nothing changes then.
        """
        in_range = isfinite(budget_ms) and self.minimum_ms <= budget_ms <= self.maximum_ms
        if budget_ms != 0 and not in_range:
            raise ConfigurationError(
                f'~/deadline: budget_ms = {budget_ms} is refused: send {self.minimum_ms:g} to '
                f'{self.maximum_ms:g}, or 0 to go back to the parameter deadline_ms'
            )
        self._override_ms, self._frames_left = budget_ms, frames

    @property
    def present_s(self) -> float:
        """Budget of the next frame, seconds."""
        return 1e-3 * (self._override_ms or self.parameter_ms)

    def next_s(self) -> float:
        """Likewise, and uses up one frame of an override."""
        budget_s = self.present_s
        if self._frames_left:
            self._frames_left -= 1
            if not self._frames_left:
                self._override_ms = 0.0
        return budget_s
