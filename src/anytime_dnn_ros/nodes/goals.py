"""What the parameters ask of the planner, if the bundle can give it."""

from __future__ import annotations

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.ladder.manifest import ExitRule, Quality
from anytime_dnn_ros.nodes.anytime_parameters import NO_EXIT_RULE
from anytime_dnn_ros.nodes.parameters import Values
from anytime_dnn_ros.planner import Goals
from anytime_dnn_ros.quality.exit_rules import choose_rule


def counted_on(quality: Quality | None) -> str:
    """The held-out data that a bundle declares its accuracy from; empty if it declares none."""
    return quality.data if quality and quality.held_out else ''


def goals_from(values: Values, quality: Quality | None) -> Goals:
    """The goals.

    Args:
        values: Of anytime_node's parameters.
        quality: The bundle's.

    Raises:
        ConfigurationError: They need quality data that the bundle has not.
    """
    for name in ('compute_price', 'accuracy_target'):
        if values[name] and not counted_on(quality):
            raise ConfigurationError(
                f'parameter {name} = {values[name]:g} cannot be used with {values["model"]!r}, '
                'which declares no accuracy: set it to 0, or count the accuracy on held-out '
                'images with `anytime-dnn calibrate`'
            )
    return Goals(
        miss_rate_target=values['miss_rate_target'],
        confidence_target=values['confidence_target'],
        exit_rule=_exit_rule(values, quality),
        compute_price=values['compute_price'],
        accuracy_target=values['accuracy_target'],
        yield_to_newer=values['yield_to_newer'],
    )


def _exit_rule(values: Values, quality: Quality | None) -> ExitRule | None:
    if values['exit_rule'] == NO_EXIT_RULE:
        return None
    try:
        return choose_rule(
            quality.exit_rules if quality else (),
            values['exit_rule'],
            1e6 * values['exit_mean_mmac'],
        )
    except ConfigurationError as error:
        raise ConfigurationError(
            f'parameters exit_rule = {values["exit_rule"]!r} and exit_mean_mmac = '
            f'{values["exit_mean_mmac"]:g} cannot be used with {values["model"]!r}: {error}'
        ) from error
