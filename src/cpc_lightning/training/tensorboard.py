"""The logger for TensorBoard: the epoch is the axis of everything, and it draws what stage 1 finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torchvision.utils import make_grid

from cpc_lightning.training.dashboard import BINS, Histograms, Suspect


class EpochTensorBoard(TensorBoardLogger):
    """Lightning's logger, whose step is the epoch: what Lightning counts are the steps of four optimizers."""

    called = "TensorBoard"
    troubles = (OSError, ValueError)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics of an epoch, from 0."""
        rest = {name: value for name, value in metrics.items() if name != "epoch"}
        super().log_metrics(rest, int(metrics["epoch"]) if "epoch" in metrics else step)

    def draw_histograms(self, histograms: Histograms) -> None:
        """Draw the losses and the clean probabilities."""
        drawn = {"losses": histograms.losses, "clean_probability": histograms.clean_probabilities}
        for name, values in drawn.items():
            if values is not None:
                tag = f"{name}/network_{histograms.network}"
                self.experiment.add_histogram(tag, values, histograms.epoch, bins=BINS)

    def show_suspects(self, suspects: Sequence[Suspect], epoch: int) -> None:
        """Show their pictures, eight a row, and below them a table in the same order."""
        pictures = make_grid(torch.stack([suspect.image for suspect in suspects]), nrow=8)
        self.experiment.add_image("suspicious_images", pictures, epoch)
        rows = [("index", "noisy_label", "suggested_label", "confidence", "clean_probability", "true_label")]
        for suspect in suspects:
            numbers = f"{suspect.confidence:.3f}", f"{suspect.clean_probability:.3f}"
            rows.append((str(suspect.index), suspect.given, suspect.suggested, *numbers, suspect.true or ""))
        lines = [" | ".join(map(inert, row)) for row in rows]
        self.experiment.add_text("suspicious_labels", "\n".join([lines[0], "|".join(["---"] * 6), *lines[1:]]), epoch)


def inert(text: str) -> str:
    """`text` as a cell of a Markdown table, with nothing in it that means something there."""
    signs = {sign: f"&#{ord(sign)};" for sign in "&<>|\\`*_[]!~"}
    return "".join(signs.get(sign, sign) for sign in text)
