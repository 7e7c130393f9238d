import math

import pytest
import rclpy
from hypothesis import given
from hypothesis import strategies as st
from rcl_interfaces.msg import ParameterType
from rclpy.parameter import Parameter as RosParameter

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.nodes.parameters import (
    Parameter,
    check,
    declare,
    markdown_table,
    validate,
)

DEADLINE = Parameter('deadline_ms', 50.0, 'Time for a frame.', 'ms', 1.0, 10000.0)
TOP_K = Parameter('top_k', 5, 'How many.', '', 1, 100, when='configure')
ENGINE = Parameter('engine', 'auto', 'Which.', choices=('auto', 'torch'))
MONOTONE = Parameter('monotone', True, 'Whether.')
PATH = Parameter('path', '', 'Where.')
TABLE = (DEADLINE, TOP_K, ENGINE, MONOTONE, PATH)


@pytest.fixture
def make_node():
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    nodes = []

    def make(*overrides):
        parameters = [RosParameter(name, value=value) for name, value in overrides]
        node = rclpy.create_node('tried', context=context, parameter_overrides=parameters)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize(
    ('parameter', 'value', 'expected'),
    [
        (DEADLINE, 50, 50.0),
        (DEADLINE, 1.0, 1.0),
        (DEADLINE, 10000, 10000.0),
        (TOP_K, 100, 100),
        (ENGINE, 'torch', 'torch'),
        (MONOTONE, False, False),
        (PATH, '/any where', '/any where'),
    ],
)
def test_good_values_come_back_in_the_type_of_the_default(parameter, value, expected):
    checked = check(parameter, value)
    assert checked == expected
    assert type(checked) is type(expected)


@pytest.mark.parametrize(
    ('parameter', 'value', 'mend'),
    [
        (DEADLINE, 0.0, '1 to 10000 ms'),
        (DEADLINE, -5, '1 to 10000 ms'),
        (DEADLINE, math.nan, '1 to 10000 ms'),
        (DEADLINE, math.inf, '1 to 10000 ms'),
        (DEADLINE, 1e12, '1 to 10000 ms'),
        (DEADLINE, True, 'a number'),
        (DEADLINE, '50', 'a number'),
        (DEADLINE, None, 'a number'),
        (DEADLINE, [50.0], 'a number'),
        (TOP_K, 5.0, 'a whole number'),
        (TOP_K, True, 'a whole number'),
        (TOP_K, 0, '1 to 100'),
        (ENGINE, 'fast', 'auto, torch'),
        (ENGINE, 1, 'auto, torch'),
        (MONOTONE, 1, 'true or false'),
        (PATH, 3.5, 'text'),
    ],
)
def test_a_refusal_names_the_parameter_the_value_and_the_mend(parameter, value, mend):
    with pytest.raises(ConfigurationError) as refused:
        check(parameter, value)
    message = str(refused.value)
    assert parameter.name in message
    assert repr(value) in message
    assert mend in message


@given(st.floats() | st.integers())
def test_numbers_pass_exactly_when_in_range(value):
    if 1.0 <= value <= 10000.0:
        assert check(DEADLINE, value) == value
    else:
        with pytest.raises(ConfigurationError):
            check(DEADLINE, value)


def present(node):
    return {p.name: node.get_parameter(p.name).value for p in TABLE}


def test_one_sided_ranges():
    at_least = Parameter('age_ms', 0.0, 'Age.', 'ms', minimum=0.0)
    at_most = Parameter('offset', 0, 'Offset.', maximum=3)
    assert check(at_least, 1e300) == 1e300
    assert check(at_most, -1000) == -1000
    with pytest.raises(ConfigurationError, match='at least 0 ms'):
        check(at_least, -1)
    with pytest.raises(ConfigurationError, match='at most 3'):
        check(at_most, 4)


def test_defaults_are_declared_and_described(make_node):
    node = make_node()
    values = declare(node, TABLE)
    assert values == present(node)
    assert values == {p.name: p.default for p in TABLE}
    deadline, top_k, engine, _, _ = node.describe_parameters([p.name for p in TABLE])
    assert 'ms' in deadline.description
    assert deadline.type == ParameterType.PARAMETER_DOUBLE
    assert deadline.floating_point_range[0].to_value == 10000.0
    assert deadline.floating_point_range[0].step == 0.0
    assert top_k.integer_range[0].from_value == 1
    assert top_k.type == ParameterType.PARAMETER_INTEGER
    assert 'next configure' in top_k.description
    assert engine.additional_constraints == 'auto, torch'


def test_an_override_may_be_a_whole_number_for_a_double(make_node):
    node = make_node(('deadline_ms', 70))
    assert declare(node, TABLE)['deadline_ms'] == 70.0
    # Stored as a double, so that rqt shows its slider.
    assert node.get_parameter('deadline_ms').type_ == RosParameter.Type.DOUBLE


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('deadline_ms', -1.0),
        ('deadline_ms', math.nan),
        ('deadline_ms', 'soon'),
        ('top_k', 1000),
        ('top_k', 2.5),
        ('engine', 'fast'),
        ('engine', 7),
        ('monotone', 'yes'),
    ],
)
def test_a_bad_override_is_the_same_clear_error(make_node, name, value):
    with pytest.raises(ConfigurationError, match=name) as refused:
        declare(make_node((name, value)), TABLE)
    assert repr(value) in str(refused.value)


def test_a_batch_is_taken_whole_or_not_at_all(make_node):
    node = make_node()
    declare(node, TABLE)
    taken = []
    node.add_on_set_parameters_callback(lambda batch: validate(TABLE, batch, taken.append))

    def change(**values):
        return node.set_parameters_atomically(
            [RosParameter(name, value=value) for name, value in values.items()]
        )

    assert change(deadline_ms=70, engine='torch').successful
    assert taken == [{'deadline_ms': 70.0, 'engine': 'torch'}]
    before = present(node)
    assert before['deadline_ms'] == 70.0

    refused = change(deadline_ms=80.0, engine='fast')
    assert not refused.successful
    assert "engine = 'fast'" in refused.reason
    for bad in (math.nan, 1e12, 20000, -1, True, None):
        refused = change(deadline_ms=bad)
        assert not refused.successful
        assert 'deadline_ms' in refused.reason
    assert not change(top_k=5.0).successful
    assert present(node) == before
    assert len(taken) == 1


def test_a_node_may_refuse_a_batch_for_its_own_reason(make_node):
    node = make_node()
    declare(node, TABLE)

    def refuse(values):
        raise ConfigurationError('parameter path: no such file')

    node.add_on_set_parameters_callback(lambda batch: validate(TABLE, batch, refuse))
    result = node.set_parameters([RosParameter('path', value='gone')])[0]
    assert not result.successful
    assert result.reason == 'parameter path: no such file'
    # Parameters of others are no business of ours.
    assert node.set_parameters([RosParameter('use_sim_time', value=True)])[0].successful


def test_the_readme_table_has_a_row_per_parameter():
    lines = markdown_table(TABLE).splitlines()
    assert len(lines) == 2 + len(TABLE)
    assert lines[2] == (
        '| `deadline_ms` | float | `50.0` | 1 to 10000 ms | at once | Time for a frame. |'
    )
    assert 'true or false' in lines[5]
    assert '(empty)' in lines[6]


def test_bars_do_not_break_the_readme_table():
    row = markdown_table([Parameter('a', 'x', 'One|two.')]).splitlines()[-1]
    assert row.count('|') - row.count('\\|') == 7
