import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')

import small_trunks  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.feature_cache import trunk_features  # noqa: E402
from anytime_dnn_ros.forge.networks import (  # noqa: E402
    NETWORKS,
    NetworkSpec,
    build,
    pretrained_normalisation,
)
from anytime_dnn_ros.forge.networks.pretrained import IMAGENET  # noqa: E402


def spec(function, **changes):
    return NetworkSpec(f'small_trunks:{function}', (3, 32, 32), 5, **changes)


@torch.no_grad()
def test_a_function_of_the_users_own_is_a_network():
    image = torch.randn(2, 3, 32, 32)
    net = build(spec('residual', cuts=('stem', 'middle'))).eval()
    assert [logits.shape for logits in net(image)] == [(2, 5)] * 3
    assert torch.equal(trunk_features(net, image)[-1], small_trunks.residual().features(image))
    assert len(build(spec('plain', stages=2))) == 2


def test_the_pixel_scale_comes_with_the_module_or_is_that_of_imagenet():
    assert pretrained_normalisation(spec('residual')) == IMAGENET
    scaled = pretrained_normalisation(spec('scaled_residual'))
    assert (scaled.mean, scaled.std) == ((127.0,) * 3, (128.0,) * 3)


def test_only_a_trained_trunk_can_be_cut_or_frozen():
    assert pretrained_normalisation(NetworkSpec('msdnet', (3, 32, 32), 5)) is None
    for change in ({'cuts': ('stem',)}, {'frozen': True}):
        with pytest.raises(ConfigurationError, match='no trained trunk'):
            build(NetworkSpec('msdnet', (3, 32, 32), 5, **change))


@pytest.mark.parametrize('name', [*NETWORKS, 'small_trunks:residual'])
def test_a_negative_number_of_stages_is_refused_by_every_network(name):
    with pytest.raises(ConfigurationError, match='has no -2 stages; give 1 or more'):
        build(NetworkSpec(name, (3, 32, 32), 5, stages=-2))


def test_named_cuts_and_a_number_of_stages_are_one_too_many():
    with pytest.raises(ConfigurationError, match=r'--stages 2.*one of the two'):
        build(spec('residual', cuts=('stem',), stages=2))


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('no_such_package:net', 'PYTHONPATH'),
        ('small_trunks:no_such_function', 'cannot be imported'),
        ('small_trunks:', 'cannot be imported'),
        (':residual', 'cannot be imported'),
        ('small_trunks:no_module', 'gives str'),
    ],
)
def test_a_name_that_gives_no_network_says_so(name, message):
    with pytest.raises(ConfigurationError, match=message):
        build(NetworkSpec(name, (3, 32, 32), 5))


@pytest.mark.parametrize(
    ('function', 'message'),
    [
        ('gray_residual', 'means of 1 and deviations of 1 channels, and the images have 3'),
        ('constant_residual', 'deviations above 0'),
        ('wordy_residual', 'give a list of numbers for each'),
    ],
)
def test_a_pixel_scale_that_cannot_be_is_told(function, message):
    with pytest.raises(ConfigurationError, match=message):
        pretrained_normalisation(spec(function))


def test_gray_images_need_a_pixel_scale_of_their_own():
    with pytest.raises(ConfigurationError, match=r'means of 3 .* the images have 1; let the'):
        pretrained_normalisation(NetworkSpec('small_trunks:residual', (1, 32, 32), 5))
