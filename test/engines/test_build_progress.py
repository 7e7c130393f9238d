"""The share of a build from its tree of phases."""

from anytime_dnn_ros.engines.build_progress import ShareDone


def test_a_phase_is_a_part_of_its_parents_next_step():
    done = ShareDone()
    assert done.start('build', None, 2) == 0.0
    assert done.start('optimise', 'build', 4) == 0.0
    assert done.step('optimise', 0) == 1 / 8
    assert done.start('time', 'optimise', 2) == 1 / 8
    assert done.step('time', 0) == 3 / 16
    assert done.finish('time') == 3 / 16
    assert done.step('optimise', 1) == 1 / 4
    assert done.finish('optimise') == 1 / 4
    assert done.step('build', 0) == 1 / 2


def test_it_is_whole_when_the_outermost_phase_is_over_whatever_steps_it_took():
    done = ShareDone()
    done.start('build', None, 6)
    done.step('build', 3)
    assert done.finish('build') == 1.0


def test_it_never_falls():
    done = ShareDone()
    done.start('build', None, 2)
    done.step('build', 0)
    assert done.start('late', 'build', 100) == 1 / 2
    # More steps than were said, one that was never started, one within an unknown one.
    assert done.step('build', 7) == 1.0
    assert done.step('unknown', 3) == 1.0
    assert done.start('orphan', 'unknown', 5) == 1.0
    assert done.finish('unknown') == 1.0


def test_a_phase_without_steps_is_no_division_by_zero():
    done = ShareDone()
    assert done.start('build', None, 0) == 0.0
