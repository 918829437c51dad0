"""ProMix: selected labels as they are, debiased guesses for the rest on a head of their own.

Xiao et al., "ProMix: Combating Label Noise via Maximizing Clean Sample Utility", IJCAI 2023, and its published code
(github.com/Justherozen/ProMix, Train_promix.py, utils/utils.py and run.sh), from which the constants are. Class-wise
small-loss selection is the cleaner `small_loss`; the rest is here: matched high-confidence selection, label guessing
by agreement, the auxiliary pseudo head, and the debiasing of logits and guesses.

Where this differs from the code: it steps both networks at once on the same views; they meet in label guessing alone,
and here each has its part of the epoch, as in DivideMix, with its peer fixed (in eval mode there). It mixes images by
mixup and by FMix, which takes masks from images' spectra; here is mixup alone, as a data set may consist of vectors. It
draws a mixture of the selected samples for each head; here is one for both, of a whole batch, in which the others are
mixed among themselves and do not count, but BatchNorm's statistics see them. It gives up the guesses once their weight
has grown (its `beta` becomes 0): a setting here. Its lengths are epochs; here they are shares of all.

Shapes: B batch, K classes, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpc_lightning.cleaning.evidence import Cleaner
from cpc_lightning.cleaning.small_loss import SmallLossCleaner
from cpc_lightning.errors import InputError, require, require_number, require_switch
from cpc_lightning.methods.contrast import mean_over, mix_within, soft_cross_entropy
from cpc_lightning.methods.memory import of_all
from cpc_lightning.methods.method import PENALTY, Beginning, Method, Step
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk, confidence_penalty, eval_mode, probabilities_of
from cpc_lightning.semisup.mixmatch import draw_mixup_lambda, sharpen

SELECTED, REST = 0, 1


class ProMix(Method):
    """L = L_h + L_ap: primary head h and pseudo head h_ap each learn selected labels, h_ap guesses for the rest too.

    Of a head, on the selected: l(weak) + gamma (l(strong) + l(mixed)), l the cross-entropy of logits + a log pi, pi the
    running mean prediction there. Of h_ap, on the rest, with their pi: lambda_u (l(weak) + gamma l(strong)), towards
    softmax(h(weak) - b log pi), sharpened. Predictions are those of h.
    """

    takes_cleaner = True
    needs_cleaner = True
    warmup_settings = (PENALTY,)

    def __init__(
        self,
        matched_above: float = 0.99,
        agreement_share: float = 5 / 12,
        agreement_fill: float = 0.9,
        debias: float = 0.8,
        debias_guesses: float = 0.8,
        bias_momentum: float = 0.9999,
        lambda_u: float = 0.1,
        ramp_share: float = 1 / 12,
        guess_to_the_end: bool = True,
        temperature: float = 0.5,
        mixup_alpha: float = 4.0,
    ) -> None:
        """Take the settings.

        Args:
            matched_above: tau (--tau): a label of which the network is surer than this is selected in that step.
            agreement_share: of all epochs, the last ones in which guesses of which both networks are surer than tau are
                learnt as labels: 250 of 600, that is from epoch 350 on, counted from 0. (--start_expand; the code
                begins with 351, but trains one epoch more than it is told, so that it has 250 as well.)
            agreement_fill: until so much of a batch is selected, the surest first (--threshold).
            debias: a, of logits (--debias_output).
            debias_guesses: b, of guesses (--debias_pl).
            bias_momentum: of pi (--bias_m).
            lambda_u: weight of the guesses, after twice the ramp.
            ramp_share: of all epochs, the first ones over which gamma grows from 0 to 1 (--warmup_ep, 50 of 600).
            guess_to_the_end: whether guesses keep their weight when it has grown, as in the paper; else it then is 0.
            temperature: T of sharpening.
            mixup_alpha: of the Beta distribution of mixup.

        Raises:
            InputError: a setting is out of its range.
        """
        super().__init__()
        require_number("matched_above", matched_above, 0, 1, open_ends=True)
        for name, value in (("agreement_share", agreement_share), ("agreement_fill", agreement_fill),
                            ("bias_momentum", bias_momentum), ("ramp_share", ramp_share)):  # fmt: skip
            require_number(name, value, 0, 1)
        for name, value in (("debias", debias), ("debias_guesses", debias_guesses), ("lambda_u", lambda_u)):
            require_number(name, value, 0)
        require_switch("guess_to_the_end", guess_to_the_end)
        require_number("temperature", temperature, 0, open_ends=True)
        require_number("mixup_alpha", mixup_alpha, 0.01)
        self.matched_above, self.agreement_share, self.agreement_fill = matched_above, agreement_share, agreement_fill
        self.debias, self.debias_guesses, self.bias_momentum = debias, debias_guesses, bias_momentum
        self.lambda_u, self.ramp_share, self.guess_to_the_end = lambda_u, ramp_share, guess_to_the_end
        self.temperature, self.mixup_alpha = temperature, mixup_alpha

    def check_cleaner(self, cleaner: Cleaner) -> None:
        """Require the cleaner whose unlabeled samples are seen all the same, with the same tau."""
        name, expected = type(cleaner).__name__, "must be small_loss, which method=promix brings: leave it out"
        if not isinstance(cleaner, SmallLossCleaner):
            raise InputError("cleaner", name, expected)
        same = f"must be method.matched_above={self.matched_above}"
        require(cleaner.matched_above == self.matched_above, "cleaner.matched_above", cleaner.matched_above, same)

    def begin(self, beginning: Beginning) -> None:
        """Make the pseudo heads, and the mean predictions pi (2 networks, selected and rest, K), uniform at first."""
        classes, self.epochs = beginning.num_classes, beginning.epochs
        self.agreement_from = self.epochs - round(self.agreement_share * self.epochs)
        self.confidence_penalty = beginning.confidence_penalty
        self.heads = nn.ModuleList(nn.Linear(n.classifier.in_features, classes) for n in beginning.networks)
        self.bias: Tensor
        self.register_buffer("bias", torch.full((2, 2, classes), 1 / classes))

    def losses(self, step: Step) -> dict[str, Tensor]:
        """The loss of warm-up, cross-entropy of the primary head; or those of both heads."""
        step.network.train()
        (weak,) = step.weak()
        if step.warmup:
            logits, unused = self.both_heads(step, weak)
            loss = F.cross_entropy(logits, step.labels)
            if self.confidence_penalty:
                loss = loss + self.confidence_penalty * confidence_penalty(logits)
            # Fused SGD fails where a parameter has its first gradient after others have momentum.
            return {"loss": loss + 0.0 * unused.sum()}
        (strong,) = step.strong()
        of_weak, of_strong = self.both_heads(step, weak), self.both_heads(step, strong)
        probabilities = of_weak[0].detach().softmax(dim=1)
        chosen, targets = self.selection(step, weak, of_weak[0].detach())
        mixed, mixed_targets = mix_within(weak, targets, chosen, draw_mixup_lambda(self.mixup_alpha))
        of_mixed, gamma = self.both_heads(step, mixed), self.ramp(step.epoch)
        log_bias = self.bias[step.number].log()
        own = self.debias * log_bias[SELECTED]

        def on(side: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
            return mean_over(side, soft_cross_entropy(logits, targets))

        primary, pseudo = (
            on(chosen, w + own, targets) + gamma * (on(chosen, s + own, targets) + on(chosen, m + own, mixed_targets))
            for w, s, m in zip(of_weak, of_strong, of_mixed, strict=True)
        )
        guesses = sharpen((of_weak[0].detach() - self.debias_guesses * log_bias[REST]).softmax(dim=1), self.temperature)
        rest = self.debias * log_bias[REST]
        guessed = on(~chosen, of_weak[1] + rest, guesses) + gamma * on(~chosen, of_strong[1] + rest, guesses)
        self._seen = probabilities, chosen
        loss = primary + pseudo + self.guess_weight(step.epoch) * guessed
        share = chosen.float().mean()
        return {"loss": loss, "labeled_loss": primary, "unlabeled_loss": guessed, "selected_share": share}

    def both_heads(self, step: Step, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) float32 of the primary and of the pseudo head, from one pass."""
        features, logits = step.network.features_and_logits(images)
        return logits.float(), self.heads[step.number](features).float()

    @torch.no_grad()
    def selection(self, step: Step, weak: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Who is selected (B,) bool, and what is learnt of each (B, K): its label, or what both networks agree on.

        Args:
            step: the step.
            weak: (B, ...) its weak views.
            logits: (B, K) what the primary head says of them.
        """
        probabilities, classes = logits.softmax(dim=1), logits.shape[1]
        given = probabilities.gather(1, step.labels[:, None]).squeeze(1)
        chosen = (step.clean_probability > 0) | (given > self.matched_above)
        targets = F.one_hot(step.labels, classes).float()
        if int(step.epoch) < self.agreement_from:
            return chosen, targets
        with eval_mode(step.peer):
            others = probabilities_of(step.peer, weak)
        torch.clear_autocast_cache()  # as in `EmpiricalVicinalRisk.guess`
        agreed = by_agreement(chosen, probabilities, others, self.matched_above, self.agreement_fill)
        guess = (logits - self.debias_guesses * self.bias[step.number, SELECTED].log()).argmax(dim=1)
        return chosen | agreed, torch.where(agreed[:, None], F.one_hot(guess, classes).float(), targets)

    def ramp(self, epoch: float, length: float = 1.0) -> float:
        """Gamma in `epoch`: it grows by whole epochs, over `length` times the ramp."""
        over = length * self.ramp_share * self.epochs
        return 1.0 if int(epoch) >= over else int(epoch) / over

    def guess_weight(self, epoch: float) -> float:
        """lambda_u, which grows over twice the ramp."""
        grown = self.ramp(epoch, 2.0)
        return 0.0 if grown == 1 and not self.guess_to_the_end else self.lambda_u * grown

    def after_step(self, step: Step) -> None:
        """Move pi towards the mean prediction on the selected and on the rest; where there are none it stays."""
        if step.warmup:
            return
        probabilities, chosen = (of_all(seen) for seen in self._seen)
        for side, members in ((SELECTED, chosen), (REST, ~chosen)):
            count = members.sum()
            mean = (probabilities * members[:, None]).sum(dim=0) / count.clamp(min=1)
            bias = self.bias[step.number, side]
            self.bias[step.number, side] = torch.where(count > 0, torch.lerp(mean, bias, self.bias_momentum), bias)

    def parameters_of(self, number: int) -> list[nn.Parameter]:
        """Those of the network's pseudo head."""
        return [*self.heads[number].parameters()]

    def forwarded(self, risk: EmpiricalVicinalRisk) -> int:
        """A weak view, a strong one, and a mixed one."""
        return 3


def by_agreement(chosen: Tensor, probabilities: Tensor, others: Tensor, above: float, fill: float) -> Tensor:
    """(B,) bool, who joins the chosen: both networks predict the same class and are surer of it than `above`.

    No more than it takes to have `fill` B, rounded down, chosen in all, those of the highest mean certainty.

    Args:
        chosen: (B,) bool.
        probabilities: (B, K) of the network that trains.
        others: (B, K) of its peer.
        above: tau.
        fill: share of the batch.
    """
    (sure, predicted), (sure_too, predicted_too) = probabilities.max(dim=1), others.max(dim=1)
    joining = (predicted == predicted_too) & (sure > above) & (sure_too > above) & ~chosen
    order = torch.argsort(torch.where(joining, -(sure + sure_too), 0.0), stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return joining & (rank < int(fill * len(chosen)) - chosen.sum())
