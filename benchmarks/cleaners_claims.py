"""What the paper claims, and what this project claims, of the cleaners that `cleaners.py` compares."""

from __future__ import annotations

from dataclasses import dataclass

PLAIN, LONG = "none", "none, equal time"
ACCURACY = "test_accuracy_last"


@dataclass(frozen=True)
class Claim:
    """First lies above second, each a choice and a measure; differences are shown times `scale`."""

    text: str
    first: tuple[str, str]
    second: tuple[str, str]
    scale: float = 1.0


CLAIMS = (
    Claim("prototypes tell wrong labels better than the mixture that teaches them (Figure 3), agn",
          ("cpc_agn", "cleaner_auc_cpc"), ("cpc_agn", "cleaner_auc_gmm"), 100),
    Claim("prototypes tell wrong labels better than the mixture that teaches them (Figure 3), awr",
          ("cpc_awr", "cleaner_auc_cpc"), ("cpc_awr", "cleaner_auc_gmm"), 100),
    Claim("prototypes tell them better than the mixture alone does, agn", ("cpc_agn", "cleaner_auc_cpc"),
          ("gmm_agn", "cleaner_auc_gmm"), 100),
    Claim("prototypes tell them better than the mixture alone does, awr", ("cpc_awr", "cleaner_auc_cpc"),
          ("gmm_awr", "cleaner_auc_gmm"), 100),
    Claim("training with prototypes beats the mixture (Table 3), agn", ("cpc_agn", ACCURACY), ("gmm_agn", ACCURACY)),
    Claim("training with prototypes beats the mixture (Table 3), awr", ("cpc_awr", ACCURACY), ("gmm_awr", ACCURACY)),
    Claim("prototypes with a mixture for each class beat those with one for all", ("cpc_awr", ACCURACY),
          ("cpc_agn", ACCURACY)),
    Claim("cpc_awr beats plain training, equal epochs", ("cpc_awr", ACCURACY), (PLAIN, ACCURACY)),
    Claim("cpc_awr as for own data beats cpc_awr", ("cpc_awr, own data", ACCURACY), ("cpc_awr", ACCURACY)),
    Claim("cpc_awr as for own data beats plain training, equal epochs", ("cpc_awr, own data", ACCURACY),
          (PLAIN, ACCURACY)),
    Claim("cpc_awr as for own data beats plain training, equal time", ("cpc_awr, own data", ACCURACY),
          (LONG, ACCURACY)),
    *(
        Claim(f"{name} as for own data, divided once it pays, beats {of}",
              (f"{name}, own data, paying", ACCURACY), (other, ACCURACY))
        for name in ("probe", "cpc_awr")
        for of, other in (("plain training, equal epochs", PLAIN), ("plain training, equal time", LONG),
                          ("cpc_awr as in the paper", "cpc_awr"))
    ),
    Claim("cpc_awr beats plain training, equal time", ("cpc_awr", ACCURACY), (LONG, ACCURACY)),
    Claim("cpc_agn beats plain training, equal time", ("cpc_agn", ACCURACY), (LONG, ACCURACY)),
    *(
        Claim(f"{name}, a later cleaner, beats cpc_awr", (name, ACCURACY), ("cpc_awr", ACCURACY))
        for name in ("uniform", "knn", "wrong_events", "mixture_2d", "probe")
    ),
    *(
        Claim(f"{name}, from a backbone that learnt from the images alone, beats cpc_awr",
              (f"{name}, pretrained", ACCURACY), ("cpc_awr", ACCURACY))
        for name in ("cpc_awr", "cpc_agn", "knn", "probe")
    ),
    *(
        Claim(f"{name}, a later cleaner, beats cpc_awr, both as for own data", (f"{name}, own data", ACCURACY),
              ("cpc_awr, own data", ACCURACY))
        for name in ("uniform", "knn", "wrong_events", "mixture_2d", "probe")
    ),
)  # fmt: skip
