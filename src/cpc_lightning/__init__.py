"""Train an accurate image classifier from wrongly labeled data, and learn which labels are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpc_lightning.app.classifier import CpcClassifier as CpcClassifier

__all__ = ["CpcClassifier"]


def __getattr__(name: str) -> Any:
    """The Python interface, imported when it is first used: `import cpc_lightning` takes no time."""
    if name == "CpcClassifier":
        from cpc_lightning.app.classifier import CpcClassifier

        return CpcClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
