"""Nets of a few numbers, one of each kind that a rule may meet."""

from torch import nn

from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet

FEATURES, CLASSES = 4, 3


def head():
    return nn.Linear(FEATURES, CLASSES)


def body():
    return nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.Tanh())


def trunk(exits=3):
    """Interruptible: each stage reads the one before it."""
    names = [IMAGE, *(f'trunk_{i}' for i in range(1, exits + 1))]
    return StagedNet([Stage(body(), head(), (names[i],), (names[i + 1],)) for i in range(exits)])


def shared(exits=3):
    """Contract: every stage runs the same weights on the image."""
    same = body()
    return StagedNet(
        [Stage(same, head(), (IMAGE,), (f'features_{i}',)) for i in range(exits)], 'contract'
    )


def whole(exits=3):
    """Contract: nets with nothing in common."""
    return StagedNet(
        [Stage(body(), head(), (IMAGE,), (f'features_{i}',)) for i in range(exits)], 'contract'
    )


def single():
    """A net with one exit."""
    return trunk(1)
