import pytest

from anytime_dnn_ros.errors import ImageError
from anytime_dnn_ros.nodes.frame_age import MAX_FUTURE_S, StampJudge

NOW_NS = 1_800_000_000 * 10**9
SECOND_NS = 10**9


@pytest.fixture
def judge():
    return StampJudge(max_age_s=1.0)


def refused(judge, stamp_ns, now_ns=NOW_NS):
    with pytest.raises(ImageError) as error:
        judge.age_s(stamp_ns, now_ns)
    return error.value


def test_the_age_is_now_less_the_stamp(judge):
    assert judge.age_s(NOW_NS - SECOND_NS // 4, NOW_NS) == pytest.approx(0.25)


def test_clocks_may_differ_a_little(judge):
    ahead_ns = int(MAX_FUTURE_S * SECOND_NS)
    assert judge.age_s(NOW_NS + ahead_ns, NOW_NS) == pytest.approx(-MAX_FUTURE_S)


@pytest.mark.parametrize(
    ('stamp_ns', 'kind'),
    [
        (0, 'stamp_zero'),
        (NOW_NS + SECOND_NS, 'stamp_future'),
        (2**31 * SECOND_NS, 'stamp_future'),
        (NOW_NS - 2 * SECOND_NS, 'stamp_backwards'),
        (-SECOND_NS, 'stamp_backwards'),
    ],
)
def test_an_absurd_stamp_is_refused_and_the_next_good_one_is_not(judge, stamp_ns, kind):
    judge.age_s(NOW_NS, NOW_NS)
    error = refused(judge, stamp_ns)
    assert error.kind == kind
    assert 'deadline_reference' in str(error)
    assert judge.age_s(NOW_NS + 1, NOW_NS + 1) == 0


def test_an_old_stamp_is_refused_with_the_limit(judge):
    error = refused(judge, NOW_NS - 2 * SECOND_NS)
    assert error.kind == 'stamp_too_old'
    assert 'max_frame_age_ms' in str(error)


def test_two_frames_of_one_stamp_are_fine(judge):
    assert judge.age_s(NOW_NS, NOW_NS) == judge.age_s(NOW_NS, NOW_NS) == 0


def test_a_bag_that_starts_again_costs_one_frame(judge):
    for stamp_ns in (1, 2, 3):
        judge.age_s(NOW_NS + stamp_ns, NOW_NS)
    assert refused(judge, NOW_NS + 1).kind == 'stamp_backwards'
    assert judge.age_s(NOW_NS + 2, NOW_NS + 2) == 0
