"""Work in every process of a training: its result comes back, the connection does not stay."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
lightning_fabric = pytest.importorskip('lightning_fabric', reason='needs the forge extra')
from torch import distributed  # noqa: E402

from anytime_dnn_ros.forge.processes import in_every_process  # noqa: E402


@pytest.fixture
def fabric():
    return lightning_fabric.Fabric(accelerator='cpu', devices=1)


def connect(folder):
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=0, world_size=1
    )


def test_the_connection_is_closed_after_the_work(fabric, tmp_path):
    def work(fabric):
        connect(tmp_path)
        return fabric.world_size, distributed.is_initialized()

    assert in_every_process(fabric, work) == (1, True)
    assert not distributed.is_initialized()


def test_the_connection_is_closed_after_an_error_too(fabric, tmp_path):
    def work(_):
        connect(tmp_path)
        raise ValueError('in the work')

    with pytest.raises(ValueError, match='in the work'):
        in_every_process(fabric, work)
    assert not distributed.is_initialized()


def test_work_alone_needs_no_connection(fabric):
    assert in_every_process(fabric, lambda fabric: fabric.global_rank) == 0
