"""Label smoothing: every label is believed, but for a share that goes to all classes alike.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, Section 7; Lukasik et al., "Does
Label Smoothing Mitigate Label Noise?", ICML 2020, for noisy labels.

Shapes: B batch, K classes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from cpc_lightning.cleaning.gmm import GmmCleaner
from cpc_lightning.errors import require_number
from cpc_lightning.methods.method import Method, Step


class LabelSmoothing(Method):
    """One network, cross-entropy on (1 - a) one-hot(label) + a / K (Lukasik et al., Eq. 2).

    At the end labels are ranked by a mixture over losses.
    """

    trains_one = True
    weak_views_alone = True

    def __init__(self, smoothing: float = 0.1) -> None:
        """Take the setting.

        Args:
            smoothing: a, in [0, 1). 0 is plain cross-entropy.

        Raises:
            InputError: the setting is out of its range.
        """
        super().__init__()
        require_number("smoothing", smoothing, 0, 1 - 1e-6)
        self.smoothing, self.judge = smoothing, GmmCleaner(class_aware=False)

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Cross-entropy with smoothed labels, on one weak view each."""
        step.network.train()
        (images,) = step.weak()
        return {"loss": F.cross_entropy(step.network(images).float(), step.labels, label_smoothing=self.smoothing)}
