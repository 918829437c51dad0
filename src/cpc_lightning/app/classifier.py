"""The Python interface: a classifier like those of scikit-learn, which also says which labels are wrong.

Shapes: N samples, M samples to predict, K classes, C channels, H x W pixels, D features.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import column_or_1d, validate_data

from cpc_lightning.app.batches import batches_of
from cpc_lightning.app.compose import with_own_cleaner
from cpc_lightning.app.endings import quieten
from cpc_lightning.app.given import Given, is_table_of_numbers, take
from cpc_lightning.app.guest import as_guest
from cpc_lightning.app.modes import is_taken
from cpc_lightning.app.overrides import as_override, chosen_device, composed_of, overrides_for, scaled
from cpc_lightning.app.parts import Parts
from cpc_lightning.app.plain_data import plain_value, read_value
from cpc_lightning.app.report import REPORT, gather, write
from cpc_lightning.app.run import run_parts
from cpc_lightning.app.training_set import lay_out
from cpc_lightning.errors import InputError, Stopped, require, written
from cpc_lightning.files import atomic_write
from cpc_lightning.inference.model import TrainedModel
from cpc_lightning.report.run_folder import LAST, read_run_folder
from cpc_lightning.report.verdicts import LABELS, as_frame, read_verdicts
from cpc_lightning.training.checkpoints import BEST, FOLDER, RECORD, read_checkpoint
from cpc_lightning.training.same_run import as_now

FORMAT = 1
"""Of files that `save` writes."""


class CpcClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Trains two networks on labels that may be wrong, and judges each label.

    A run as the command line would start it, with the same settings under the same names, in this process: nothing is
    written but to `output`, no random generator is moved, Ctrl-C raises KeyboardInterrupt. Threads of one process train
    one after another; processes side by side.

    Args:
        cleaner: who judges labels, a choice of conf/cleaner; None: "cpc_awr" for images, "probe" for features.
        backbone: the networks, a choice of conf/backbone; None: by what is given ("mlp" for features, "small_resnet"
            for small images, torchvision's ResNet-18 for others).
        features: for images, the pretrained network whose features are trained on, a choice of conf/features such as
            "torchvision"; None: train on the images themselves.
        epochs: of training; warm-up and milestones of the schedule follow in proportion. None: as the file of conf/
            has it.
        settings: any others by the command line's names: {"training.batch_size": 64, "noise": "symmetric"}.
        random_state: seed of networks, batches and views: a whole number, or a RandomState to draw it from; None: the
            usual one, so that every fit of the same data gives the same model.
        device: "cpu", "gpu" or "mps"; None: a GPU where there is one.
        output: a new folder, for all that a run leaves; None: nothing is kept on disk.
        verbose: whether a progress bar shows how long it takes; None: in notebooks and terminals.

    Attributes:
        classes_: (K,) the classes, of the kind of the labels; of a folder, its folders' names.
        labels_: a data frame, a row for each sample in the order given: the verdict, as in labels.csv.
        summary_: the run in a few numbers, as in summary.json.
        history_: a data frame, a row an epoch, as in metrics.csv.
        model_: the networks with all that comes before them (`inference.model.TrainedModel`).
        n_features_in_: D, after `fit` on features.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from cpc_lightning import CpcClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> classifier = CpcClassifier().fit(X, y)  # doctest: +SKIP
        >>> classifier.find_label_issues()[:10]  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        cleaner: str | None = None,
        backbone: str | None = None,
        features: str | None = None,
        epochs: int | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
        device: str | None = None,
        output: str | Path | None = None,
        verbose: bool | None = None,
    ) -> None:
        """Take the settings, as scikit-learn has it: `fit` checks them."""
        self.cleaner = cleaner
        self.backbone = backbone
        self.features = features
        self.epochs = epochs
        self.settings = settings
        self.random_state = random_state
        self.device = device
        self.output = output
        self.verbose = verbose

    # Training ---------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> CpcClassifier:  # noqa: N803
        """Train on all samples, and judge their labels.

        Args:
            X: what `app.given.take` takes: images (N, H, W) or (N, H, W, C), features (N, D), the name of a folder with
                a folder for each class, N names of image files, a data frame with the columns path and label, a data
                set of torchvision or of Hugging Face.
            y: N labels of any kind; None where X has them.

        Raises:
            InputError: a ValueError, for anything that cannot be used.
            TrainingError: if a loss becomes infinite or NaN, or a worker process or memory is lost.
            KeyboardInterrupt: on Ctrl-C; what the last whole epoch has learnt can be used.
        """
        self._forget()
        if is_table_of_numbers(X):
            X = validate_data(self, X, ensure_min_features=2, ensure_min_samples=2, ensure_all_finite=False)  # noqa: N806
        if y is not None:
            y = column_or_1d(y.detach().cpu().numpy() if isinstance(y, torch.Tensor) else y, warn=True)
        given = take(X, y)
        require(given.folder is not None or given.labels is not None, "y", None, "requires y to be passed: labels")
        folder = self._new_folder()
        with as_guest():
            quieten()
            parts, classes = self._parts(given, folder)
            try:
                summary = run_parts(parts, show=False)
            except (KeyboardInterrupt, SystemExit, Stopped):
                if (folder / LAST).is_file():
                    self._take(folder, classes)
                raise
            self._take(folder, classes, summary, parts)
        return self

    def _new_folder(self) -> Path:
        if self.output is not None:
            folder = Path(self.output).expanduser().absolute()
            require(not is_taken(folder), "output", str(self.output), "is there already: name a new folder")
            return folder
        self._temporary = tempfile.TemporaryDirectory(prefix="cpc_lightning_", ignore_cleanup_errors=True)
        return Path(self._temporary.name)

    def _forget(self) -> None:
        """Drop what an earlier fit has left."""
        for name in (*KEPT, *WITHIN_PROCESS, "_foreign"):
            self.__dict__.pop(name, None)

    def _parts(self, given: Given, folder: Path) -> tuple[Parts, npt.NDArray[Any]]:
        """The parts of the run, ready, and the classes."""
        texts = self._texts(given)
        training_set = lay_out(given, folder, keep=self.output is not None)
        texts += training_set.overrides
        fine = self.settings is None or isinstance(self.settings, Mapping)
        require(fine, "settings", self.settings, "must be a dict of names and values")
        typed = dict(self.settings or {})
        texts = with_own_cleaner([*texts, *(as_override(name, value) for name, value in typed.items())])
        composed = composed_of(texts)
        if self.epochs is not None:
            composed = composed_of([*texts, *scaled(composed, self.epochs, typed, str(folder))])
        settings = composed.settings(str(folder))
        several = "starts several processes, which only the command line does"
        require("strategy" not in settings["trainer"], "trainer", "ddp", several)
        parts = Parts(settings, texts, composed.usual, training_set.dataset).ready()
        return parts, training_set.classes_as(parts.dataset.class_names)

    def _texts(self, given: Given) -> list[str]:
        """Overrides for what is given and for this object's own parameters, as the command line has them."""
        texts = ["logger=[]", "report=false", f"trainer={chosen_device(self.device)}"]
        texts += overrides_for(given, self.features, self.backbone)
        texts += [f"{name}={value}" for name in ("cleaner", "backbone") if (value := getattr(self, name)) is not None]
        texts += [] if self._shows() else ["callbacks=none"]
        return texts + ([] if self.random_state is None else [f"seed={self._seed()}"])

    def _seed(self) -> int:
        state = self.random_state
        if isinstance(state, np.random.RandomState):
            return int(state.randint(2**31))
        require(isinstance(state, Integral), "random_state", state, "must be a whole number, a RandomState or None")
        return int(state)  # type: ignore[arg-type]

    def _shows(self) -> bool:
        return sys.stderr.isatty() or "ipykernel" in sys.modules if self.verbose is None else bool(self.verbose)

    def _take(
        self, folder: Path, classes: npt.NDArray[Any], summary: dict[str, Any] | None = None, parts: Parts | None = None
    ) -> None:
        """Keep what the run in `folder` has left."""
        best = folder / FOLDER / f"{BEST}.ckpt"
        selected = parts is not None and parts.select is not None and best.is_file()
        checkpoint = read_checkpoint(best if selected else folder / LAST, selected=True)
        rows = checkpoint["callbacks"]["EpochTable"]
        kept = {"state_dict": checkpoint["state_dict"], RECORD: checkpoint[RECORD], "callbacks": {"EpochTable": rows}}
        self.classes_ = classes
        self._checkpoint = kept
        self.history_ = pd.DataFrame(rows["rows"])
        if summary is not None:
            self.summary_ = summary
            self.labels_ = as_frame(read_verdicts(folder / LABELS), classes)
        self._run = (folder, parts)
        self._model = self._made_model()

    # Use --------------------------------------------------------------------------------------------------------------

    @property
    def model_(self) -> TrainedModel:
        """The trained networks, with their preprocessing."""
        self._require_fitted()
        if "_model" not in vars(self):  # after pickling
            self._model = self._made_model()
        return self._model

    def _made_model(self) -> TrainedModel:
        settings = as_now(self._checkpoint[RECORD]["config"])
        device = chosen_device(self.device)
        trust = not getattr(self, "_foreign", False)
        return TrainedModel(settings, self._checkpoint, trust).to("cuda" if device == "gpu" else device)

    def predict_proba(self, X: Any) -> npt.NDArray[np.float32]:  # noqa: N803
        """The mean softmax of both networks, (M, K) float32; its columns are those of `classes_`.

        Args:
            X: M samples, as `fit` takes them (a folder's images in the order of `app.given.files_in`); labels that it
                has are not looked at.

        Raises:
            InputError: a ValueError, for samples of another kind or size, or a file that cannot be read.
        """
        self._require_fitted()
        if hasattr(self, "n_features_in_") and is_table_of_numbers(X):
            X = validate_data(self, X, reset=False, ensure_all_finite=False)  # noqa: N806
        given = take(X)
        with as_guest():
            found = [self.model_.probabilities(batch) for batch in batches_of(given, self.model_)]
        result: npt.NDArray[np.float32] = torch.cat(found).numpy()
        return result

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """The most probable class of each sample, (M,); arguments and errors as for `predict_proba`."""
        places = self.predict_proba(X).argmax(axis=1)
        found: npt.NDArray[Any] = self.classes_[places]
        return found

    def find_label_issues(self) -> npt.NDArray[np.int64]:
        """Positions of the samples whose labels look wrong, the worst first: (n,), fewer than N."""
        self._require_fitted()
        self._require_verdict()
        order = self.labels_["rank"].to_numpy().argsort(kind="stable")
        found: npt.NDArray[np.int64] = order[self.labels_["suspected"].to_numpy(dtype=bool)[order]]
        return found

    def report(self, output: str | Path | None = None) -> Path:
        """Build the page that shows the verdict, for a browser.

        Args:
            output: a folder to write it to; None: that of the run (`output` of the classifier), or one that goes with
                this object.

        Returns:
            The page's file.

        Raises:
            InputError: a ValueError, where the images are no longer there: after `load`, pickling, or another fit.
        """
        self._require_fitted()
        self._require_verdict()
        require(hasattr(self, "_run"), "report", "of a loaded classifier", "needs the images: report before saving")
        folder, parts = self._run
        place = Path(folder, REPORT) if output is None else Path(output).expanduser().absolute()
        free = output is None or not is_taken(place)
        require(free, "output", str(output), "is there already: name a new folder")
        with as_guest():
            quieten()
            write(gather(read_run_folder(str(folder)), parts), place)
        return place / "index.html"

    # Keeping ----------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the classifier to a file, of tensors and plain containers: reading it runs no code of others."""
        self._require_fitted()
        settings = {name: value for name, value in self.get_params(deep=False).items() if name != "random_state"}
        settings["output"] = None if self.output is None else str(self.output)
        state = {name: plain_value(value) for name, value in vars(self).items() if name in KEPT}
        with written("path", path), atomic_write(path) as file:
            torch.save({"format": FORMAT, "parameters": plain_value(settings), "state": state}, file)

    @classmethod
    def load(cls, path: str | Path, trust: bool = False) -> CpcClassifier:
        """Read what `save` wrote.

        Args:
            path: of the file.
            trust: whether parts of other libraries that its settings name, such as an extractor of your own, may be
                built to predict with. Without it no code runs but this library's, whoever wrote the file.

        Raises:
            InputError: a ValueError, where there is no such file, or it is of another version.
        """
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            require(saved["format"] == FORMAT, "path", str(path), "was written by another version of this library")
            classifier = cls(**saved["parameters"])
            for name in KEPT:
                if name in saved["state"]:
                    setattr(classifier, name, read_value(saved["state"][name]))
            require(isinstance(getattr(classifier, "_checkpoint", None), dict), "path", str(path), "holds no networks")
            classifier._foreign = not trust
        except InputError:
            raise
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as error:
            why = getattr(error, "strerror", None) or "is no file that save wrote"
            raise InputError("path", str(path), why) from None
        return classifier

    def __getstate__(self) -> dict[str, Any]:
        """Without the folder and the data set, which stay with the process that trained."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in WITHIN_PROCESS}

    def _require_fitted(self) -> None:
        if "_checkpoint" not in vars(self):
            raise NotFittedError(f"This {type(self).__name__} instance is not fitted yet: call fit first.")

    def _require_verdict(self) -> None:
        if "labels_" not in vars(self):
            raise NotFittedError("The fit was interrupted before its verdict on the labels.")

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there are networks to predict with."""
        return "_checkpoint" in vars(self)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator: arrays of two, three and four dimensions, or names of files."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = tags.input_tags.string = True
        tags.target_tags.required = False  # a folder has its labels
        return tags


KEPT = ("classes_", "labels_", "summary_", "history_", "n_features_in_", "feature_names_in_", "_checkpoint")
"""What `save` keeps of a fit."""

WITHIN_PROCESS = ("_model", "_run", "_temporary")
"""What a fit leaves that stays with the process."""
