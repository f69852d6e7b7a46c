"""The rules by themselves: promtool has nothing against them, each alert fires when it should and has its runbook."""

import re
import unittest

from watched import OPERATIONS, RULES, RULES_TEST, SCRAPE, panels, promtool, targets

ALERT = re.compile(r"- alert: (\w+)\n(.*?)(?=\n *- alert:|\n *# |\n\n|\Z)", re.DOTALL)


def alerts():
    """Each alert's name and the text of its rule."""
    return dict(ALERT.findall(RULES.read_text()))


def runbooks():
    """The section about each alert, by the anchor that its heading gets."""
    page = OPERATIONS.read_text().split("\n## Alerts\n")[1].split("\n## ")[0]
    return {section.split("\n")[0].lower(): section for section in page.split("\n### ")[1:]}


class Rules(unittest.TestCase):
    def test_promtool_has_nothing_against_them(self):
        for what in [("check", "config", SCRAPE), ("check", "rules", RULES), ("test", "rules", RULES_TEST)]:
            code, printed = promtool(*what)
            self.assertEqual(code, 0, printed)
            self.assertIn("SUCCESS", printed)
            self.assertNotRegex(printed, "(?i)warn|fail|duplicate", printed)

    def test_every_alert_is_seen_to_fire(self):
        tested = set(re.findall(r'alertname="(\w+)"', RULES_TEST.read_text()))
        self.assertEqual(tested, set(alerts()))
        self.assertGreater(len(tested), 20)
        self.assertEqual(RULES.read_text().count("alert:"), len(tested))

    def test_every_alert_is_complete(self):
        for alert, text in alerts().items():
            with self.subTest(alert):
                for needed in ["expr:", "for:", "summary:", "description:"]:
                    self.assertEqual(len(re.findall(rf"^ *{needed}", text, re.MULTILINE)), 1, needed)
                self.assertRegex(text, r"severity: (page|warning)\n")

    def test_every_alert_leads_to_its_runbook(self):
        anchors = runbooks()
        for alert, text in alerts().items():
            with self.subTest(alert):
                [(page, anchor)] = re.findall(r"runbook_url: (\S+)#(\S+)$", text, re.MULTILINE)
                self.assertEqual((page, anchor), ("docs/OPERATIONS.md", alert.lower()))
                self.assertIn(anchor, anchors)
                self.assertIn("**Do**", anchors[anchor].replace("and **do**", "**Do**"))
                pages = "severity: page" in text
                self.assertEqual(pages, "\nPage. " in anchors[anchor], "the page says when it wakes somebody")
        self.assertEqual(set(anchors), {alert.lower() for alert in alerts()}, "no runbook without its alert")

    def test_codes_and_reasons_exist(self):
        """One of several that a pattern names may be misspelt, and the others hide it."""
        status = OPERATIONS.with_name("STATUS.md").read_text()
        known = set(re.findall(r"\b[A-Z][A-Z_]+\b", status))
        queries = [*alerts().values(), *(target["expr"] for _, target in targets())]
        words = {word for query in queries for word in re.findall(r"\b[A-Z][A-Z_]{3,}\b(?!\.md)", query)}
        seen = {word for word in words if not word.startswith("ATOTI_BRIDGE_")} - {"ALERTS"}
        self.assertGreater(len(seen), 10)
        # DATA_LOSS is of OpenTelemetry's list; the bridge gives no such code by itself.
        self.assertEqual(seen - known - {"DATA_LOSS"}, set())

    def test_panels_that_runbooks_name_exist(self):
        named = {title for section in runbooks().values() for title in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", section)}
        self.assertGreater(len(named), 8)
        self.assertEqual({" ".join(title.split()) for title in named} - {panel["title"] for panel in panels()}, set())
