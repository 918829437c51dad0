"""Draws the house's plan from the imports: rooms, floors, and who imports whom (docs/figures/plan.svg).

    python docs/tools/plan.py

A room lies one floor above the highest room that it imports. All of it comes from the code, and a test holds
the committed drawing against it.
"""

from __future__ import annotations

from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
PACKAGE = "cpc_lightning"
PICTURE = ROOT / "docs" / "figures" / "plan.svg"
BOX, GAP, FLOOR = 116, 34, 96
"""Sizes in the drawing's units: a box's width, what lies between two boxes, and a floor's height."""


def imports() -> dict[str, set[str]]:
    """Each room (a package or module right below the package) and the rooms that it imports."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    rooms = sorted(graph.find_children(PACKAGE) - {f"{PACKAGE}.conf"})  # conf holds yaml files
    rooms = [name.removeprefix(f"{PACKAGE}.") for name in rooms]
    above: dict[str, set[str]] = {room: set() for room in rooms}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            source, target = (name.split(".")[1] if "." in name else "" for name in (module, imported))
            if source in above and target in above and source != target:
                above[source].add(target)
    return above


def floors(above: dict[str, set[str]]) -> list[list[str]]:
    """Rooms by floor, from the ground up; each right above the highest room that it imports."""
    level: dict[str, int] = {}
    while len(level) < len(above):
        ready = [room for room in above if room not in level and above[room] <= level.keys()]
        if not ready:
            raise ValueError(f"rooms import each other in a circle: {sorted(above.keys() - level.keys())}")
        for room in ready:
            level[room] = 1 + max((level[other] for other in above[room]), default=-1)
    return [sorted(room for room in level if level[room] == number) for number in range(max(level.values()) + 1)]


def needed(above: dict[str, set[str]]) -> set[tuple[str, str]]:
    """The arrows to draw: imports that do not follow from others."""

    def reach(room: str) -> set[str]:
        return above[room].union(*(reach(other) for other in above[room]))

    return {
        (room, other)
        for room, others in above.items()
        for other in others
        if not any(other in reach(between) for between in others)
    }


def drawing() -> str:
    """The plan as SVG."""
    above = imports()
    storeys = floors(above)
    width = (BOX + GAP) * max(map(len, storeys))
    height = FLOOR * len(storeys) + 20
    place = {}
    for number, rooms in enumerate(storeys):
        left = (width - len(rooms) * BOX - (len(rooms) - 1) * GAP) / 2
        for position, room in enumerate(rooms):
            place[room] = (left + position * (BOX + GAP), height - FLOOR * (number + 1))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif"',
        '     role="img" aria-label="Rooms of the package; arrows point to what a room imports">',
        f'  <rect width="{width}" height="{height}" fill="#ffffff"/>',
        '  <defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="6" markerHeight="6"',
        '    orient="auto">',
        '    <path d="M0 0L10 5L0 10z" fill="#667"/></marker></defs>',
        '  <g stroke="#667" stroke-width="1.2" fill="none" marker-end="url(#tip)">',
    ]
    for room, other in sorted(needed(above)):
        (x, y), (to_x, to_y) = place[room], place[other]
        x, y, to_x = x + BOX / 2, y + 48, to_x + BOX / 2
        lines.append(f'    <path d="M{x:g} {y:g}C{x:g} {y + 30:g} {to_x:g} {to_y - 30:g} {to_x:g} {to_y:g}"/>')
    lines.append("  </g>")
    for room, (x, y) in sorted(place.items()):
        lines.append(f'  <rect x="{x:g}" y="{y:g}" width="{BOX}" height="48" rx="7" fill="#e8eef9" stroke="#3f51b5"/>')
        lines.append(f'  <text x="{x + BOX / 2:g}" y="{y + 29:g}" text-anchor="middle" font-size="15">{room}</text>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(drawing())
