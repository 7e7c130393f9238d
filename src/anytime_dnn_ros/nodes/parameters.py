"""One table per node says what its parameters are; ROS and the README are both served from it."""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from anytime_dnn_ros.errors import ConfigurationError

Value: TypeAlias = bool | int | float | str
# By name; Any, because the table, not the type checker, knows the type of each.
Values: TypeAlias = dict[str, Any]

_TYPE_WORDS = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'text'}
WHEN_WORDS = {
    'now': 'at once',
    'activate': 'at the next activate',
    'configure': 'at the next configure',
    'start': 'at the next start',
}
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node; the type is the type of its default.

    Attributes:
        name: Name in ROS, with the unit as its suffix where it has one.
        default: Value where nothing is given. A float default accepts whole numbers too.
        description: One sentence for `ros2 param describe`, rqt and the README.
        unit: Unit in words or symbols, empty where the value has none.
        minimum: Smallest value allowed, in `unit`.
        maximum: Largest value allowed, in `unit`.
        choices: The texts allowed, empty for any.
        when: Whether a change takes effect at once, with the next activate or configure of a
            lifecycle node, or with the next start of the program.
    """

    name: str
    default: Value
    description: str
    unit: str = ''
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    when: Literal['now', 'activate', 'configure', 'start'] = 'now'


def check(parameter: Parameter, value: object) -> Value:
    """Return `value` in the type of the parameter.

    Args:
        parameter: What is allowed.
        value: What was given.

    Raises:
        ConfigurationError: The value is of another type, not finite, out of range or not one of
            the choices; the message names the parameter, the value and the mend.
    """
    kind = type(parameter.default)
    if kind is float and type(value) is int:
        # YAML and command lines write 50 for 50.0; refusing that helps nobody.
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigurationError(_refusal(parameter, value))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = _bounds(parameter)
        if not low <= value <= high:
            raise ConfigurationError(_refusal(parameter, value))
    if parameter.choices and value not in parameter.choices:
        raise ConfigurationError(_refusal(parameter, value))
    return value


def declare(node: Node, table: Sequence[Parameter]) -> Values:
    """Declare a table on a node and return the values it starts with, by name.

    Raises:
        ConfigurationError: A YAML file, launch argument or command line gave an unusable value.
    """
    values = {}
    for parameter in table:
        # Any type at first: rclpy's own exceptions at declaration name no mend.
        given = node.declare_parameter(
            parameter.name, parameter.default, ParameterDescriptor(dynamic_typing=True)
        ).value
        value = check(parameter, given)
        node.set_parameters([RosParameter(parameter.name, value=value)])
        node.set_descriptor(parameter.name, _descriptor(parameter))
        values[parameter.name] = value
    return values


def validate(
    table: Sequence[Parameter],
    changes: Iterable[RosParameter],
    accept: Callable[[Values], None] | None = None,
) -> SetParametersResult:
    """Judge one batch of parameter changes as a whole, for a node's on-set callback.

    Parameters that are not in the table (`use_sim_time`) belong to others and pass.

    Args:
        table: The node's parameters.
        changes: The batch, as rclpy hands it to the callback.
        accept: Called once with the checked values by name if all are good and any is ours. It
            refuses the batch by raising ConfigurationError, and otherwise takes the values over.

    Returns:
        Success, or the reason with the parameter, the value and the mend.
    """
    known = {parameter.name: parameter for parameter in table}
    try:
        values = {c.name: check(known[c.name], c.value) for c in changes if c.name in known}
        if values and accept is not None:
            accept(values)
    except ConfigurationError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def markdown_table(table: Sequence[Parameter]) -> str:
    """Render a table for the README, one line per parameter, ending in a line break."""
    lines = [
        '| parameter | type | default | allowed | a change applies | meaning |',
        '|---|---|---|---|---|---|',
    ]
    for p in table:
        default = str(p.default).lower() if isinstance(p.default, bool) else str(p.default)
        cells = (
            f'`{p.name}`',
            type(p.default).__name__,
            f'`{default}`' if default else '(empty)',
            _allowed(p),
            WHEN_WORDS[p.when],
            p.description,
        )
        # A bar inside a cell would end the cell.
        lines.append('| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |')
    return '\n'.join(lines) + '\n'


def _bounds(parameter: Parameter) -> tuple[float, float]:
    limit = sys.float_info.max if isinstance(parameter.default, float) else _INT64_MAX
    low = -limit if parameter.minimum is None else parameter.minimum
    high = limit if parameter.maximum is None else parameter.maximum
    return low, high


def _allowed(parameter: Parameter) -> str:
    """Say in words what values are good."""
    if parameter.choices:
        return ', '.join(parameter.choices)
    unit = f' {parameter.unit}' if parameter.unit else ''
    low, high = parameter.minimum, parameter.maximum
    if low is not None and high is not None:
        return f'{low:g} to {high:g}{unit}'
    if low is not None:
        return f'at least {low:g}{unit}'
    if high is not None:
        return f'at most {high:g}{unit}'
    return _TYPE_WORDS[type(parameter.default)] + unit


def _refusal(parameter: Parameter, value: object) -> str:
    kind = _TYPE_WORDS[type(parameter.default)]
    allowed = f'one of {_allowed(parameter)}' if parameter.choices else kind
    if parameter.minimum is not None or parameter.maximum is not None:
        allowed = f'{kind}, {_allowed(parameter)}'
    return (
        f'parameter {parameter.name} = {value!r} cannot be used: '
        f'set it to {allowed} (default {parameter.default!r}).'
    )


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    """Describe a parameter to ROS; ranges (step 0: any value between) give rqt its sliders."""
    unit = f' [{parameter.unit}]' if parameter.unit else ''
    later = '' if parameter.when == 'now' else f' Applies {WHEN_WORDS[parameter.when]}.'
    fields: dict[str, Any] = {}
    kind = type(parameter.default)
    if parameter.minimum is not None or parameter.maximum is not None:
        low, high = _bounds(parameter)
        if kind is float:
            fields['floating_point_range'] = [
                FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
            ]
        else:
            fields['integer_range'] = [
                IntegerRange(from_value=int(low), to_value=int(high), step=0)
            ]
    return ParameterDescriptor(
        type=RosParameter.Type.from_parameter_value(parameter.default).value,
        description=f'{parameter.description}{unit}{later}',
        additional_constraints=_allowed(parameter),
        # Only so can `ros2 param set` give a whole number to a double.
        dynamic_typing=kind is float,
        **fields,
    )
