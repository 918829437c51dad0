"""Writes durations for people: "41 s", "3 min 20 s", "5 h 12 min"."""

from __future__ import annotations


def spoken(seconds: float) -> str:
    """`seconds` in the two largest units that tell something: "41 s", "3 min 20 s", "5 h 12 min", "71 h".

    Seconds are left out from ten minutes on, minutes from ten hours on.
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if whole < 600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 600:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    return f"{round(whole / 3600)} h"
