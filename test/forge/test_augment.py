"""Random flips, shifts and squares: what they do to pixels, and that chance can be repeated."""

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.augment import Augmentation  # noqa: E402

EVERYTHING = Augmentation(flip=True, pad=3, cutout=4)


def batch(count: int = 64, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (count, 8, 10, channels)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('channels', [1, 3])
def test_nothing_asked_for_changes_nothing(channels):
    pixels = batch(channels=channels)
    assert torch.equal(Augmentation()(pixels, generator()), pixels)


@pytest.mark.parametrize('channels', [1, 3])
def test_a_flip_mirrors_whole_images_about_every_second_one(channels):
    pixels = batch(200, channels)
    result = Augmentation(flip=True)(pixels, generator())
    mirrored = [torch.equal(a.flip(1), b) for a, b in zip(pixels, result, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(pixels, result, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 60 < sum(mirrored) < 140


def test_a_shift_is_a_crop_of_the_reflected_image_and_reaches_every_one():
    pixels = batch(400)
    seen = set()
    result = Augmentation(pad=2)(pixels, generator())
    for image, changed in zip(pixels.numpy(), result.numpy(), strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), 'reflect')
        crops = {(y, x): padded[y : y + 8, x : x + 10] for y in range(5) for x in range(5)}
        found = [at for at, crop in crops.items() if np.array_equal(crop, changed)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 25


def test_a_square_is_filled_with_the_mean_colour_and_clipped_at_the_border():
    # Pixels of 0 and 200 only: none has the mean's value by itself.
    pixels = (batch(300) > 127).to(torch.uint8) * 200
    mean = pixels.float().mean((0, 1, 2)).round().to(torch.uint8)
    result = Augmentation(cutout=4)(pixels, generator())
    sizes = set()
    for image, changed in zip(pixels, result, strict=True):
        covered = (changed == mean).all(-1)
        assert torch.equal(changed[~covered], image[~covered])
        rows, columns = covered.any(1).nonzero().flatten(), covered.any(0).nonzero().flatten()
        height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert int(covered.sum()) == height * width
        assert 2 <= height <= 4
        assert 2 <= width <= 4
        sizes.add((height, width))
    assert len(sizes) == 9


def test_a_generator_put_back_repeats_the_batch_and_one_that_goes_on_does_not():
    pixels, chance = batch(), generator()
    state = chance.get_state()
    first, second = EVERYTHING(pixels, chance), EVERYTHING(pixels, chance)
    chance.set_state(state)
    assert torch.equal(EVERYTHING(pixels, chance), first)
    assert not torch.equal(first, second)


def test_chance_does_not_hang_on_what_the_images_show():
    one, other = generator(), generator()
    EVERYTHING(batch(), one)
    EVERYTHING(torch.zeros_like(batch()), other)
    assert torch.equal(one.get_state(), other.get_state())


def test_the_batch_given_stays_as_it_is():
    pixels = batch()
    before = pixels.clone()
    EVERYTHING(pixels, generator())
    assert torch.equal(pixels, before)


def test_a_view_of_another_memory_order_gives_the_same():
    pixels = batch()
    other = pixels.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(EVERYTHING(other, generator()), EVERYTHING(pixels, generator()))


@pytest.mark.parametrize('options', [{'pad': -1}, {'cutout': -4}])
def test_negative_pixels_are_refused(options):
    with pytest.raises(ConfigurationError, match='give 0 or more'):
        Augmentation(**options)


def test_a_pad_that_the_image_cannot_reflect_is_refused():
    assert Augmentation(pad=7)(batch(), generator()).shape == batch().shape
    with pytest.raises(ConfigurationError, match='8x10 have no 8 pixels to reflect; give a pad'):
        Augmentation(pad=8)(batch(), generator())
