from math import inf, nan

import pytest

from anytime_dnn_ros.nodes.load_watch import CONTRADICTED_S, LOAD_TIMEOUT_S, LoadWatch


def hear(watch, cpu_percent, *, until_s, from_s=0.0, freq_ratio=nan, unexplained=1.0):
    """A monitor that speaks once a second."""
    for second in range(int(from_s), int(until_s) + 1):
        watch.hear_load(cpu_percent, freq_ratio, float(second))
        watch.compare(unexplained, float(second))


@pytest.fixture
def watch():
    return LoadWatch()


def test_without_a_monitor_there_is_nothing_to_complain_of(watch):
    watch.compare(100.0, 0.0)
    assert (watch.word(1000.0), watch.warning(1000.0)) == ('none', '')


def test_a_monitor_that_speaks_is_believed(watch):
    hear(watch, 50.0, until_s=100)
    watch.hear_profile('busy', 100.0)
    assert (watch.word(100.0), watch.warning(100.0)) == ('ok', '')
    assert (watch.cpu_percent, watch.regime_name) == (50.0, 'busy')


def test_silence_loses_it_and_a_word_brings_it_back(watch):
    hear(watch, 50.0, until_s=10)
    late_s = 10.1 + LOAD_TIMEOUT_S
    assert watch.word(late_s) == 'lost'
    assert 'silent' in watch.warning(late_s)
    watch.hear_load(50.0, nan, late_s)
    assert (watch.word(late_s), watch.warning(late_s)) == ('ok', '')


@pytest.mark.parametrize(
    ('cpu_percent', 'freq_ratio'), [(-1.0, nan), (1e9, nan), (inf, nan), (50.0, 7.0)]
)
def test_an_absurd_number_is_held_against_the_monitor_for_a_while(watch, cpu_percent, freq_ratio):
    hear(watch, 50.0, until_s=10)
    watch.hear_load(cpu_percent, freq_ratio, 10.5)
    # Good numbers in between do not help: which one is the lie?
    watch.hear_load(50.0, nan, 10.6)
    assert watch.is_absurd(10.6)
    assert watch.word(10.6) == 'implausible'
    assert 'its load is not used' in watch.warning(10.6)
    hear(watch, 50.0, from_s=11, until_s=14)
    assert not watch.is_absurd(14.0)
    assert watch.word(14.0) == 'ok'


def test_no_number_at_all_is_told_once_it_lasts(watch):
    watch.hear_load(nan, nan, 0.0)
    assert watch.word(0.0) == 'ok'
    hear(watch, nan, from_s=1, until_s=5)
    assert watch.word(5.0) == 'implausible'
    assert 'no cpu_percent' in watch.warning(5.0)


@pytest.mark.parametrize(
    ('cpu_percent', 'unexplained', 'word'),
    [
        # Says idle while stages take far longer.
        (5.0, 6.0, 'implausible'),
        # Says what would make them slow while they are not.
        (5.0, 0.1, 'implausible'),
        # Only the number of tasks that wait would tell, and cpu_percent does not.
        (100.0, 6.0, 'ok'),
        (5.0, 2.0, 'ok'),
    ],
)
def test_stages_that_contradict_the_load_for_long_are_told(watch, cpu_percent, unexplained, word):
    hear(watch, cpu_percent, until_s=5)
    hear(watch, cpu_percent, from_s=6, until_s=20, unexplained=unexplained)
    assert watch.word(20.0) == 'ok'
    end_s = 10 + CONTRADICTED_S
    hear(watch, cpu_percent, from_s=21, until_s=end_s, unexplained=unexplained)
    assert watch.word(end_s) == word
    watch.compare(1.0, end_s)
    assert watch.word(end_s) == 'ok'


def test_another_monitor_after_a_silence_begins_anew(watch):
    hear(watch, 5.0, until_s=100, unexplained=9.0)
    assert watch.word(100.0) == 'implausible'
    watch.hear_load(5.0, nan, 200.0)
    watch.compare(9.0, 200.0)
    assert watch.word(200.0) == 'ok'
