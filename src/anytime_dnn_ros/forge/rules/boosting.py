"""Each exit corrects what the exits before it say together.

With f_i the logits of exit i, answer i is additive, G_i = f_i + r · G_{i-1} and G_0 = 0; the loss
is Σ CE(f_i + stop-gradient(r · G_{i-1})), with gradient equilibrium (Yu et al., "Boosted dynamic
neural networks", AAAI 2023). Written out, G_k = Σ_{i≤k} r^(k-i) f_i, the rule `stack` of a bundle.
"""

from __future__ import annotations

from torch import Tensor

from anytime_dnn_ros.forge.rules.sums import Sum
from anytime_dnn_ros.forge.staged import StagedNet
from anytime_dnn_ros.ladder.manifest import CombineSpec


class Boost(Sum):
    """Additive answers.

    Args:
        name: The rule's name.
        net: The net to be trained.
        decay: r, the weight of what was said before, 0..1.
        equilibrium: Off for a net whose stages share no trunk.
        label_smoothing: As for `Sum`.

    Raises:
        ConfigurationError: An option is out of range.
    """

    def __init__(
        self,
        name: str,
        net: StagedNet,
        *,
        decay: float = 0.5,
        equilibrium: bool = True,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(name, net, label_smoothing=label_smoothing)
        self.equilibrium = self.flag('equilibrium', equilibrium)
        self.decay = self.number('decay', decay, 0, 1)

    def losses(self, logits: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """See `Rule`."""
        before = [self.decay * answer.detach() for answer in self.answers(logits)[:-1]]
        corrected = [given.float() + said for given, said in zip(logits[1:], before, strict=True)]
        return self.cross_entropies([logits[0], *corrected], labels)

    def answers(self, logits: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """G_1, G_2, …: the sums, float32 [batch, classes] each."""
        sums = [logits[0].float()]
        for given in logits[1:]:
            sums.append(given.float() + self.decay * sums[-1])
        return tuple(sums)

    def combine(self, num_stages: int) -> CombineSpec:
        """Stacking with the weights (r^(k-1), …, r, 1) in prefix k."""
        powers = [self.decay**i for i in range(num_stages)]
        return CombineSpec('stack', tuple(tuple(powers[k::-1]) for k in range(num_stages)))
