"""The dashboard by itself: what Grafana would not tell, and what a reader relies on."""

import json
import re
import unittest

from watched import DASHBOARD, panels, selectors, targets

GRAFANAS_OWN = {"__rate_interval", "__range"}


class Dashboard(unittest.TestCase):
    def setUp(self):
        self.text = DASHBOARD.read_text()
        self.dashboard = json.loads(self.text)

    def test_ids_are_unique(self):
        ids = [panel["id"] for panel in self.dashboard["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        for panel in panels():
            references = [target["refId"] for target in panel["targets"]]
            self.assertEqual(len(references), len(set(references)), panel["title"])

    def test_titles_are_unique_as_the_runbooks_name_them(self):
        titles = [panel["title"] for panel in self.dashboard["panels"]]
        # A row and a stat may share a name.
        shown = [panel["title"] for panel in panels()]
        self.assertEqual(len(shown), len(set(shown)), shown)
        self.assertLess(40, len(titles))

    def test_every_panel_says_how_to_read_it(self):
        for panel in panels():
            with self.subTest(panel["title"]):
                self.assertGreater(len(panel["description"]), 40)
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                self.assertTrue(panel["targets"])

    def test_queries_go_to_the_chosen_data_source(self):
        for uid in re.findall(r'"uid": "([^"]*)"', self.text):
            self.assertIn(uid, ("${datasource}", self.dashboard["uid"]))
        for panel in panels():
            self.assertEqual(panel["datasource"], {"type": "prometheus", "uid": "${datasource}"}, panel["title"])

    def test_variables_exist_and_are_used(self):
        known = {variable["name"] for variable in self.dashboard["templating"]["list"]}
        used = set(re.findall(r"\$\{?(\w+)", self.text)) - {"1"}
        self.assertEqual(used - {"__all"}, known | GRAFANAS_OWN)

    def test_every_selector_is_of_the_chosen_replicas(self):
        for panel, target in targets():
            for name, braces in selectors(target["expr"]):
                if name != "ALERTS":
                    self.assertIn("job=~'$job', instance=~'$instance'", braces, panel["title"])

    def test_rates_are_over_the_interval_that_fits_the_scrapes(self):
        for panel, target in targets():
            for span in re.findall(r"\[([^]]*)\]", re.sub(r"'[^']*'", "", target["expr"])):
                self.assertIn(span.removeprefix("$"), GRAFANAS_OWN, panel["title"])

    def test_panels_do_not_overlap(self):
        taken = {}
        for panel in self.dashboard["panels"]:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24)
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertIsNone(taken.setdefault((x, y), None), f"{panel['title']} lies on {taken[x, y]}")
                    taken[x, y] = panel["title"]
