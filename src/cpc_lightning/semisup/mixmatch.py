"""MixMatch as DivideMix uses it: co-guessing, co-refinement, sharpening, mixup.

Shapes: B batch, V views, K classes, M mixed rows, C channels, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """p^(1/T), renormalised over the classes (MixMatch, Eq. 7).

    Args:
        probabilities: (B, K), each row with a positive entry; rows need not sum to 1.
        temperature: T > 0; 1 leaves the distribution as it is, towards 0 it becomes one-hot.

    Returns:
        (B, K), rows sum to 1.
    """
    # In logs: p^(1/T) itself underflows to 0/0 for small T, softmax subtracts the largest exponent first.
    return torch.softmax(probabilities.log() / temperature, dim=-1)


def co_guess(probabilities: Tensor, temperature: float) -> Tensor:
    """Guessed targets of unlabeled samples: the mean softmax over networks and views, sharpened.

    Args:
        probabilities: (2V, B, K) softmax of both networks on V weak views.
        temperature: sharpening T.

    Returns:
        (B, K) targets.
    """
    return sharpen(probabilities.mean(dim=0), temperature)


def co_refine(targets: Tensor, clean_probability: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """Refined targets of labeled samples: w y + (1 - w) mean softmax over the views, sharpened.

    Args:
        targets: (B, K) given labels y, one-hot.
        clean_probability: (B,) w in [0, 1].
        probabilities: (V, B, K) softmax of the trained network on V weak views.
        temperature: sharpening T.

    Returns:
        (B, K) targets.
    """
    w = clean_probability.unsqueeze(1)
    return sharpen(w * targets + (1 - w) * probabilities.mean(dim=0), temperature)


def draw_mixup_lambda(alpha: float, generator: torch.Generator | None = None) -> float:
    """max(l, 1 - l) with l ~ Beta(alpha, alpha), in [0.5, 1], so that a mixed row stays nearer to its own image.

    Args:
        alpha: of the Beta distribution. Below 0.01 both gammas behind a draw may underflow, which yields 0.5.
        generator: a CPU generator. The draw never touches another device, so that none is waited for.
    """
    drawn = draw_share(alpha, generator)
    return max(drawn, 1 - drawn)


def draw_share(alpha: float, generator: torch.Generator | None = None) -> float:
    """L ~ Beta(alpha, alpha), in [0, 1]; arguments as in `draw_mixup_lambda`."""
    # torch.distributions takes no generator; this is the call that its Beta makes.
    return float(torch._sample_dirichlet(torch.tensor([alpha, alpha], dtype=torch.float64), generator)[0])


def mixup(images: Tensor, targets: Tensor, mixup_lambda: float, permutation: Tensor) -> tuple[Tensor, Tensor]:
    """Row i becomes lambda times row i plus (1 - lambda) times row permutation[i], in images and targets (Eq. 13).

    Args:
        images: (M, ...) float.
        targets: (M, K).
        mixup_lambda: in [0, 1].
        permutation: (R,) int64 partners in 0..M-1, R <= M. Only the first R rows are mixed and returned.

    Returns:
        (R, ...) images and (R, K) targets.
    """
    rows = len(permutation)
    mixed_images = mixup_lambda * images[:rows] + (1 - mixup_lambda) * images[permutation]
    mixed_targets = mixup_lambda * targets[:rows] + (1 - mixup_lambda) * targets[permutation]
    return mixed_images, mixed_targets
