"""Load that is made up, so that a trial can be repeated exactly.

A profile is a name and settings, several are joined by semicolons:
`burst high=95 period_s=20 length_s=5; step quantity=temperature_c low=50 high=95 start_s=30`.
"""

import math
import os
from dataclasses import dataclass, fields
from typing import Any, Literal, cast, get_args

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.monitor.probe import Probe, Reading
from anytime_dnn_ros.monitor.sample import QUANTITIES

Shape = Literal['step', 'burst', 'periodic']


@dataclass(frozen=True)
class Profile:
    """One quantity over time.

    Attributes:
        shape: `step` goes from low to high at `start_s` and stays; `burst` is high for
            `length_s` at the start of every `period_s`, from `start_s` on; `periodic` swings
            between low and high as a sine.
        quantity: Field of LoadSample that it drives; `cpu_percent` drives every core too.
        low: Smaller value, in the unit of the quantity.
        high: Larger value, in the unit of the quantity.
        start_s: Until then it is low, seconds from the first sample.
        period_s: Length of one period, seconds.
        length_s: Length of one burst, seconds.
    """

    shape: Shape
    quantity: str = 'cpu_percent'
    low: float = 10.0
    high: float = 95.0
    start_s: float = 10.0
    period_s: float = 20.0
    length_s: float = 5.0


def value_at(profile: Profile, time_s: float) -> float:
    """Return the profile's value at a time in seconds from the first sample."""
    since_s = time_s - profile.start_s
    if since_s < 0.0:
        return profile.low
    if profile.shape == 'periodic':
        swing = 0.5 - 0.5 * math.cos(2.0 * math.pi * since_s / profile.period_s)
        return profile.low + (profile.high - profile.low) * swing
    is_high = profile.shape == 'step' or since_s % profile.period_s < profile.length_s
    return profile.high if is_high else profile.low


def parse_profiles(text: str) -> list[Profile]:
    """Read profiles from their text form.

    Raises:
        ConfigurationError: A shape or setting is unknown, or a value cannot be used.
    """
    return [_parse_profile(part) for part in text.split(';')]


def synthetic_probes(text: str) -> list[Probe]:
    """Return one probe per profile; the time starts with the first sample.

    Raises:
        ConfigurationError: As `parse_profiles`.
    """
    return [
        Probe('synthetic', f'{profile.shape} of {profile.quantity}', _Play(profile))
        for profile in parse_profiles(text)
    ]


class _Play:
    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._start_s: float | None = None

    def __call__(self, now_s: float) -> Reading:
        if self._start_s is None:
            self._start_s = now_s
        value = value_at(self._profile, now_s - self._start_s)
        reading: Reading = {self._profile.quantity: value}
        if self._profile.quantity == 'cpu_percent':
            reading['cpu_percent_per_core'] = (value,) * (os.cpu_count() or 1)
        return reading


def _parse_profile(text: str) -> Profile:
    shape, *settings = text.split() or ['']
    if shape not in get_args(Shape):
        raise _refusal(text, f'it must begin with {", ".join(get_args(Shape))}')
    given: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition('=')
        if key == 'quantity' and value in QUANTITIES:
            given[key] = value
        elif key in _NUMBERS:
            given[key] = _number(text, setting, value)
        else:
            raise _refusal(
                text,
                f'{setting!r} is none of {", ".join(f"{n}=NUMBER" for n in _NUMBERS)}, '
                f'quantity=NAME with NAME one of {", ".join(QUANTITIES)}',
            )
    profile = Profile(cast('Shape', shape), **given)
    if profile.period_s <= 0.0:
        raise _refusal(text, 'period_s must be above 0')
    return profile


_NUMBERS = tuple(f.name for f in fields(Profile) if f.type is float)


def _number(text: str, setting: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _refusal(text, f'{setting!r} has no finite number')
    return number


def _refusal(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f'parameter synthetic_profile: {text.strip()!r} cannot be used, {why}; '
        "write it like 'burst high=95 period_s=20 length_s=5'."
    )
