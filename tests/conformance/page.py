"""docs/CONFORMANCE.md: what the suite found, as a page."""

import dataclasses
import difflib
import pathlib
import sys
import textwrap

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "CONFORMANCE.md"
WIDTH = 120

HEAD = """\
# Conformance

What a gRPC client sees of a REST API depends on the bridge between them. These are rules for such a bridge
(`tests/conformance/rules.toml`), and what several bridges do about them: the real programs, asked over the wire, in
front of the same scripted server. `tests/conformance/run --write` writes this page. `tests/conformance/run` fails when
it finds anything else than what is written here, or a rule that this project's bridge does not keep.

✓ the rule is kept, ✗ it is not; beside it is what was answered. Where a rule's source leaves a choice, every choice is
right. The letter behind a rule names its source, at the end of the page; its name, for `--rule`, is in this page's source.
"""

TAIL = """\
## How each bridge was set up

Each has the settings under which it was found to keep the most rules. Settings, not programs: with a script in Envoy,
or functions of one's own around the library, any rule can be kept, and then they are the bridge.

{configurations}

## Another bridge

1. Write an adapter, a module in `tests/conformance/adapters`: the names of its methods and messages for "cancel this
   query" and "read this query", and how it is started. The peers' share `transcoded.proto`.
2. `tests/conformance/run --address HOST:PORT --adapter NAME --upstream-port PORT` drives one that runs already, with
   `http://127.0.0.1:PORT` as its REST server: the suite listens there. `--dead-address` names a second one, whose REST
   server is not there. Calls without a deadline must be limited to {limit} s.
3. With its name in `BRIDGES` (`tests/conformance/suite.py`) it gets a column here.

A rule that is wrong is a bug like any other: it has a source, which can be argued with.
"""


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

    def held(self):
        return sum(cell.held for cell in self.cells.values())


def show(rules, columns):
    """Prints what was found, for people who run it."""
    for rule in rules:
        print(f"{rule['id']}: {rule['title']}")
        for column in columns:
            print(f"    {column.title:32} {column.cells.get(rule['id'], '- not run')}")
    for column in columns:
        print(f"{column.title}: {column.held()} of {len(column.cells)} rules hold")


def settle(table, columns, limit, write):
    """Writes the page, or compares with it; whether that failed."""
    found = render(table, columns, limit)
    if write:
        PAGE.write_text(found, encoding="utf-8")
        return False
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if found == written:
        return False
    lines = difflib.unified_diff(
        written.splitlines(), found.splitlines(), "docs/CONFORMANCE.md", "found", n=0, lineterm="",
    )
    print("error: docs/CONFORMANCE.md is stale; `tests/conformance/run --write` writes it anew", file=sys.stderr)
    print("\n".join(lines), file=sys.stderr)
    return True


def render(table, columns, limit):
    parts = [HEAD, _row("Bridge", "Rules kept"), _line(2)]
    for column in columns:
        parts.append(_row(column.title, f"{column.held()} of {len(column.cells)}"))
    letters = {source: chr(ord("a") + number) for number, source in enumerate(table["sources"])}
    for group, heading in table["groups"].items():
        parts += [f"\n## {heading}\n", _row("Rule", *[column.title for column in columns]), _line(1 + len(columns))]
        for rule in table["rule"]:
            if rule["group"] == group:
                name = f"{rule['title']} [{letters[rule['source']]}](#sources) <!-- {rule['id']} -->"
                parts.append(_row(name, *[str(column.cells[rule["id"]]) for column in columns]))
    parts.append("\n## Sources\n")
    parts += [_wrap(f"- **{letters[source]}**: {text}", "  ") for source, text in table["sources"].items()]
    configurations = "\n".join(_wrap(f"- **{column.title}**: {column.configuration}", "  ") for column in columns)
    parts.append("\n" + TAIL.format(configurations=configurations, limit=limit).rstrip("\n"))
    return "\n".join(parts) + "\n"


def _row(*cells):
    # A bar would end the cell.
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _line(columns):
    return "|" + "---|" * columns


def _wrap(text, indent):
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
