"""docs/CONFORMANCE.md: what the suite found, as a page."""

import dataclasses
import pathlib
import sys

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "CONFORMANCE.md"


@dataclasses.dataclass
class Cell:
    """Whether a rule holds for a bridge, and what the bridge answered."""

    held: bool
    words: list

    def __str__(self):
        return f"{'✓' if self.held else '✗'} {', '.join(self.words)}"


@dataclasses.dataclass
class Column:
    """A bridge: its heading, how it was configured, and its cells by rule."""

    title: str
    configuration: str
    cells: dict


def show(rules, columns):
    """Prints what was found, for people who run it."""
    for rule in rules:
        print(f"{rule['id']}: {rule['title']}")
        for column in columns:
            print(f"    {column.title:20} {column.cells.get(rule['id'], '- not run')}")
    for column in columns:
        print(f"{column.title}: {sum(cell.held for cell in column.cells.values())} of {len(column.cells)} rules hold")


def settle(table, columns, write):
    return []
