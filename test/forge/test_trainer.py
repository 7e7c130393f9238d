import math

import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('lightning_fabric')

from lightning_fabric import Fabric  # noqa: E402
from small_training import easy_images, make_trainer  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge import checkpoint  # noqa: E402
from anytime_dnn_ros.forge.processes import in_every_process  # noqa: E402
from anytime_dnn_ros.forge.trainer import TrainingError  # noqa: E402


def plain(state):
    """A state without its tensors and wall times, and the tensors apart."""
    tensors = []

    def walk(value):
        if isinstance(value, torch.Tensor):
            tensors.append(value.clone())
            return None
        if isinstance(value, dict):
            return {k: walk(v) for k, v in value.items() if k not in {'seconds', 'images_per_s'}}
        return [walk(v) for v in value] if isinstance(value, list) else value

    return walk(state), tensors


def assert_same(one, other):
    (rest, tensors), (other_rest, other_tensors) = plain(one), plain(other)
    assert rest == other_rest
    assert len(tensors) == len(other_tensors)
    assert all(torch.equal(a, b) for a, b in zip(tensors, other_tensors, strict=True))


class Killed(Exception):  # noqa: N818
    pass


def train(trainer, save=lambda _: None, killed_at=math.inf):
    """Trains to the end, or to the step of all steps at which the process dies."""
    steps = trainer.epoch * trainer.steps_per_epoch

    def on_step(done):
        if steps + done >= killed_at:
            raise Killed

    while not trainer.finished:
        trainer.run_epoch(on_step)
        steps = trainer.epoch * trainer.steps_per_epoch
        save(trainer.state_dict())


@pytest.mark.parametrize(
    ('kind', 'killed_at'),
    [
        ({'rule': 'sum'}, 3),
        ({'rule': 'sum', 'ema': 0.9}, 15),
        ({'rule': 'sum', 'patience': 3, 'precision': 'bf16-mixed'}, 23),
        ({'rule': 'adaloss', 'options': {'update_every': 4}}, 12),
        ({'rule': 'snapshot', 'options': {'cycles': 2}, 'ema': 0.5}, 20),
        ({'rule': 'orthogonal_global'}, 7),
    ],
)
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(tmp_path, kind, killed_at):
    precision = kind.get('precision', '32-true')
    kind = {**kind, 'fabric': Fabric(accelerator='cpu', precision=precision)}
    path = tmp_path / 'checkpoint.pt'

    def save(state):
        checkpoint.save(path, {}, state)

    whole, killed, resumed = (make_trainer(**kind) for _ in range(3))
    train(whole)
    save(killed.state_dict())
    with pytest.raises(Killed):
        train(killed, save, killed_at)
    resumed.load_state_dict(checkpoint.load(path, {}))
    assert resumed.epoch == (killed_at - 1) // resumed.steps_per_epoch
    train(resumed)
    assert_same(resumed.state_dict(), whole.state_dict())


def test_another_seed_is_another_training():
    one, other = make_trainer(seed=1), make_trainer(seed=2)
    one.run_epoch()
    other.run_epoch()
    with pytest.raises(AssertionError):
        assert_same(one.state_dict(), other.state_dict())


@pytest.mark.parametrize('precision', ['32-true', 'bf16-mixed'])
def test_it_learns(precision):
    fabric = Fabric(accelerator='cpu', precision=precision)
    trainer = make_trainer(fabric=fabric, precision=precision)
    train(trainer)
    first, last = trainer.history[0], trainer.history[-1]
    assert min(last.accuracies) > 0.9
    assert max(last.losses) < min(first.losses)
    assert [f.epoch for f in trainer.history] == [1, 2, 3, 4]


def test_accuracy_is_the_share_of_right_answers():
    trainer = make_trainer()
    trainer.run_epoch()
    images = easy_images(30, 2)
    with torch.no_grad():
        net = trainer.net.eval()
        pixels = trainer._normalisation.apply(torch.from_numpy(images.pixels))
        named = [logits.argmax(1).numpy() for logits in net(pixels)]
    expected = tuple(float((answer == images.labels).mean()) for answer in named)
    assert trainer.history[0].accuracies == pytest.approx(expected)


def test_the_average_follows_the_weights():
    trainer = make_trainer(ema=0.05)
    before = [p.detach().clone() for p in trainer.net.parameters()]

    def stop(done):
        raise Killed

    with pytest.raises(Killed):
        trainer.run_epoch(stop)
    triples = zip(before, trainer.net.parameters(), trainer.scored_net.parameters(), strict=True)
    for old, new, average in triples:
        torch.testing.assert_close(average, 0.05 * old + 0.95 * new)


def test_a_short_training_is_not_held_back_by_its_first_weights():
    trainer = make_trainer(ema=0.9999)
    train(trainer)
    assert min(trainer.history[-1].accuracies) > 0.9


def test_the_best_epoch_is_kept(monkeypatch):
    trainer = make_trainer(patience=2, epochs=9)
    scores = iter([(0.1, 0.3), (0.6, 0.4), (0.5, 0.5), (0.4, 0.5)])
    monkeypatch.setattr(trainer, 'accuracies', lambda net: next(scores))
    weights = []
    train(trainer, lambda state: weights.append(plain(state['net'])[1]))
    assert (trainer.epoch, trainer.best_epoch) == (4, 2)
    kept = plain(trainer.result().state_dict())[1]
    assert all(torch.equal(a, b) for a, b in zip(kept, weights[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(kept, weights[3], strict=True))


def test_snapshots_become_one_ladder():
    trainer = make_trainer('snapshot', {'cycles': 2})
    train(trainer)
    assert [len(trainer.snapshots), trainer.best] == [2, None]
    ladder = trainer.result()
    assert (len(ladder), ladder.kind) == (3, 'contract')
    accuracies = trainer.accuracies(ladder)
    assert accuracies[:2] == trainer.history[-1].accuracies
    assert len(accuracies) == 3


def test_cycles_need_not_be_whole_epochs():
    trainer = make_trainer('snapshot', {'cycles': 3})
    train(trainer)
    assert len(trainer.snapshots) == 3


def test_a_snapshot_training_stopped_in_its_first_cycle_is_a_plain_net():
    trainer = make_trainer('snapshot', {'cycles': 2})
    trainer.run_epoch()
    assert len(trainer.result()) == 2


def test_a_training_that_diverges_is_told():
    trainer = make_trainer(learning_rate=1e30)
    with pytest.raises(TrainingError, match='--lr'):
        train(trainer)
    assert not trainer.history


@pytest.mark.parametrize(
    ('kind', 'mend'),
    [
        ({'batch': 97}, 'smaller --batch'),
        ({'rule': 'snapshot', 'options': {'cycles': 1000}}, 'more --epochs'),
        ({'rule': 'snapshot', 'patience': 2}, '--early-stop'),
    ],
)
def test_what_does_not_fit_together_is_refused(kind, mend):
    with pytest.raises(ConfigurationError, match=mend):
        make_trainer(**kind)


def two_processes(fabric):
    """Trains in each process and brings the weights of both together."""
    torch.set_num_threads(1)
    trainer = make_trainer(fabric=fabric, ema=0.5)
    train(trainer)
    weights = torch.cat([p.flatten() for p in trainer.scored_net.state_dict().values()])
    total = fabric.all_reduce(weights.clone(), reduce_op='sum')
    return torch.equal(total, 2 * weights), trainer.history[-1].accuracies


def test_two_processes_train_one_net():
    fabric = Fabric(accelerator='cpu', devices=2, strategy='ddp_spawn')
    alike, accuracies = in_every_process(fabric, two_processes)
    assert alike
    assert min(accuracies) > 0.9
    # Every one of the 30 images was counted once.
    assert [30 * share for share in accuracies] == pytest.approx(
        [round(30 * a) for a in accuracies]
    )


def snapshots_of_two(fabric):
    """Trains in each process; whether both keep the same snapshots, of which some end within
    an epoch."""
    torch.set_num_threads(1)
    trainer = make_trainer('snapshot', {'cycles': 3}, fabric=fabric)
    train(trainer)
    weights = [torch.cat([t.flatten() for t in kept.values()]) for kept in trainer.snapshots]
    totals = [fabric.all_reduce(kept.clone(), reduce_op='sum') for kept in weights]
    return [torch.equal(total, 2 * kept) for total, kept in zip(totals, weights, strict=True)]


def test_two_processes_keep_the_same_snapshots():
    fabric = Fabric(accelerator='cpu', devices=2, strategy='ddp_spawn')
    assert in_every_process(fabric, snapshots_of_two) == [True] * 3
