"""Mean and deviation of pixels, and a batch put on their scale."""

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from anytime_dnn_ros.datasets import DatasetError, Images  # noqa: E402
from anytime_dnn_ros.forge.normalisation import Normalisation  # noqa: E402


def images(channels: int) -> Images:
    random = np.random.default_rng(0)
    pixels = random.integers(0, [256, 100, 40][:channels], (50, 5, 7, channels), np.uint8)
    return Images(pixels, np.zeros(50, np.int64), ('a', 'b'), 'set/train')


@pytest.mark.parametrize('channels', [1, 3])
def test_figures_are_those_of_numpy(channels):
    pixels = images(channels).pixels.astype(np.float64)
    normalisation = Normalisation.of(images(channels))
    assert normalisation.mean == pytest.approx(pixels.mean((0, 1, 2)))
    assert normalisation.std == pytest.approx(pixels.std((0, 1, 2)))


@pytest.mark.parametrize('channels', [1, 3])
def test_a_batch_becomes_what_the_figures_say_and_lies_channels_last(channels):
    pixels = images(channels).pixels
    normalisation = Normalisation((100.0, 50.0, 20.0)[:channels], (60.0, 30.0, 10.0)[:channels])
    batch = normalisation.apply(torch.from_numpy(pixels))
    expected = (pixels - np.array(normalisation.mean)) / np.array(normalisation.std)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(batch.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)


def test_a_constant_channel_is_told():
    pixels = images(3).pixels.copy()
    pixels[..., 1] = 7
    flat = Images(pixels, np.zeros(50, np.int64), ('a', 'b'), 'set/train')
    with pytest.raises(DatasetError, match=r'set/train: a colour channel .* is constant'):
        Normalisation.of(flat)
