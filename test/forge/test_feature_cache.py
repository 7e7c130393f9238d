from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from small_trunks import residual  # noqa: E402
from torch import nn  # noqa: E402

from anytime_dnn_ros.datasets import Images  # noqa: E402
from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge import feature_cache  # noqa: E402
from anytime_dnn_ros.forge.anytime_trunk import make_anytime  # noqa: E402
from anytime_dnn_ros.forge.augment import Augmentation  # noqa: E402
from anytime_dnn_ros.forge.feature_cache import (  # noqa: E402
    AnyView,
    cached_features,
    trunk_features,
)
from anytime_dnn_ros.forge.normalisation import Normalisation  # noqa: E402

NORMALISATION = Normalisation((127.0,) * 3, (128.0,) * 3, size=32)
# float16 keeps 11 bits.
HALF = 2**-10


def images(count, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 16, 16, 3), np.uint8)
    return Images(pixels, np.arange(count) % 5, tuple('abcde'), 'noise')


def small_net(module=None):
    module = module or residual()
    return make_anytime(module, torch.zeros(1, 3, 32, 32), cuts=['middle'], num_classes=5)


def cache(net, views=3, train=None, **options):
    return cached_features(
        net,
        train or images(12, 0),
        images(5, 1),
        normalisation=NORMALISATION,
        augment=Augmentation(flip=True, pad=2),
        views=views,
        **options,
    )


@torch.no_grad()
def expected(net, pixels):
    return trunk_features(net.eval(), NORMALISATION.apply(torch.from_numpy(pixels)))


def close(found, tensors):
    for a, b in zip(found, tensors, strict=True):
        torch.testing.assert_close(a, b, rtol=HALF, atol=HALF)


def test_the_first_view_is_the_image_itself_and_validation_has_no_other(monkeypatch):
    # More batches than one.
    monkeypatch.setattr(feature_cache, 'BATCH', 5)
    net = small_net()
    with cache(net) as found:
        assert (len(found.train), len(found.validation), found.views) == (12, 5, 3)
        assert found.train.labels.tolist() == images(12, 0).labels.tolist()
        close(
            found.apply(torch.from_numpy(found.train.pixels)), expected(net, images(12, 0).pixels)
        )
        close(
            found.apply(torch.from_numpy(found.validation.pixels)),
            expected(net, images(5, 1).pixels),
        )


def test_other_views_are_augmented_and_the_same_for_a_seed():
    net = small_net()
    rows = torch.arange(36)
    with cache(net, seed=1) as a, cache(net, seed=1) as b, cache(net, seed=2) as c:
        first, again, other = (one.apply(rows)[-1] for one in (a, b, c))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    views = first.unflatten(0, (12, 3))
    assert not torch.equal(views[:, 0], views[:, 1])
    assert not torch.equal(views[:, 1], views[:, 2])


def test_views_are_drawn_alike_for_a_generator_and_all_of_them():
    rows = torch.arange(200) * 4
    drawn = [AnyView(4)(rows, torch.Generator().manual_seed(0)) for _ in range(2)]
    assert torch.equal(*drawn)
    assert (drawn[0] - rows).unique().tolist() == [0, 1, 2, 3]


def test_nothing_is_left_on_disk_even_after_ctrl_c(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache.tempfile, 'tempdir', str(tmp_path))

    def interrupt(done, total):
        assert list(tmp_path.iterdir())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), cache(small_net(), on_images=interrupt):
        pass
    with cache(small_net()):
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_told_before_the_work(monkeypatch):
    usage = feature_cache.shutil.disk_usage(Path())
    monkeypatch.setattr(feature_cache.shutil, 'disk_usage', lambda _: usage._replace(free=1000))
    with pytest.raises(ConfigurationError, match='TMPDIR'), cache(small_net()):
        pass


def test_the_room_is_taken_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache.tempfile, 'tempdir', str(tmp_path))

    def interrupt(done, total):
        raise KeyboardInterrupt

    def look_before_anything_is_written(net, image):
        sizes = [file.stat() for file in tmp_path.glob('*/*')]
        taken.extend(size.st_blocks * 512 >= size.st_size for size in sizes)
        return trunk_features(net, image)

    taken: list[bool] = []
    monkeypatch.setattr(feature_cache, 'trunk_features', look_before_anything_is_written)
    train = images(500, 0)
    with pytest.raises(KeyboardInterrupt), cache(small_net(), train=train, on_images=interrupt):
        pass
    assert taken
    assert all(taken)


def test_a_feature_beyond_float16_is_refused():
    class Loud(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.middle = nn.Conv2d(3, 4, 3)
            self.last = nn.Conv2d(4, 4, 3)

        def forward(self, image):
            return self.last(self.middle(image) * 1e6).mean((2, 3))

    bright = images(12, 0)
    bright = replace(bright, pixels=bright.pixels // 2 + 128)
    with (
        pytest.raises(ConfigurationError, match='float16'),
        cache(small_net(Loud()), train=bright),
    ):
        pass
