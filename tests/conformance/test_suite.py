"""The suite itself: that it can fail, and that what it is told is understood."""

import unittest
from unittest import mock

import page
import suite
from upstream import Request, Script

TABLE = suite.load_rules()


class Elsewhere:
    connections = 1
    address = ""


class Adapter:
    service = "its.Service"

    @staticmethod
    def status_of(_):
        return "ANOTHER"


# What a bridge that gets everything wrong makes of any rule: every call a success that says nothing, and requests as
# they should not be; every call a failure of a kind that no rule asks for, and nothing sent; or no answer at all.
JUNK = {"content-type": "text/junk", "te": "trailers", "x-secret": "canary", "cookie": "canary"}
WRONG = [
    (suite.Reply("OK", data=b"canary", headers=[("x", "canary" * 2000)], seconds=9.0),
     [Request("POST", "/wrong/..", list(JUNK.items())), Request("POST", "/wrong", [])]),
    (suite.Reply("DATA_LOSS", seconds=0.1), []),
    (suite.Reply("no answer"), []),
]


class Rules(unittest.TestCase):
    def judged(self, rule, reply, requests):
        script = Script(rule["upstream"], requests=list(requests))
        judge = suite.Judge(rule, TABLE["codes"], Adapter, script, Elsewhere)
        key = rule["call"].get("id", f"{rule['id']}--0")
        judge.reply(reply, key)
        judge.upstream(key, [reply])
        return judge

    def test_every_rule_can_fail(self):
        for rule in TABLE["rule"]:
            with self.subTest(rule["id"]), mock.patch("time.monotonic", return_value=1e9):
                self.assertIn(False, [self.judged(rule, *wrong).held for wrong in WRONG])

    def test_every_expectation_can_fail_by_itself(self):
        for rule in TABLE["rule"]:
            for name, value in rule["expect"].items():
                if name in ("detail_holds", "body_if_ok", "code_if_odd"):
                    continue
                alone = {**rule, "expect": {name: value}}
                with self.subTest(rule["id"], expectation=name), mock.patch("time.monotonic", return_value=1e9):
                    if name == "method":
                        self.assertNotEqual(value, "POST")
                    self.assertIn(False, [self.judged(alone, *wrong).held for wrong in WRONG])

    def test_what_is_not_understood_is_refused(self):
        text = '[[rule]]\nid="a"\ntitle="a"\ngroup="status"\nsource="code"\nexpect={code=["OK"],reqests=1}\n'
        text = '[codes]\n[groups]\nstatus="s"\n[sources]\ncode="c"\n' + text
        with mock.patch("pathlib.Path.read_text", return_value=text), self.assertRaisesRegex(ValueError, "reqests"):
            suite.load_rules()

    def test_the_page_shows_every_rule_and_counts(self):
        cells = {rule["id"]: page.Cell(True, ["OK"]) for rule in TABLE["rule"]}
        cells["status-404"] = page.Cell(False, ["UNIMPLEMENTED"])
        text = page.render(TABLE, [page.Column("a bridge", "as it comes", cells)], 3)
        for rule in TABLE["rule"]:
            self.assertIn(f"<!-- {rule['id']} -->", text)
        self.assertIn("| ✗ UNIMPLEMENTED |", text)
        self.assertIn(f"| a bridge | {len(cells) - 1} of {len(cells)} |", text)


if __name__ == "__main__":
    unittest.main()
