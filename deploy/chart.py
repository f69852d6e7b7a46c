"""Renders the chart with real helm, for the tests."""

import os
import pathlib
import re
import subprocess

import yaml

CHART = pathlib.Path(os.environ["CHART"])
FULL_VALUES = os.environ["FULL_VALUES"]
HELM = os.environ["HELM"]
# What the last traces get at drain: the chart's helpers are the one place where it is written down.
FLUSH_SECONDS = int(
    re.search(r'define "bridge.telemetryFlushSeconds" -}}(\d+){{', (CHART / "templates/_helpers.tpl").read_text())[1]
)


class Refused(Exception):
    """What helm said when it did not render."""


def seconds(duration):
    """Of durations as they are rendered."""
    return int(re.fullmatch(r"(\d+)s", duration)[1])


def render(*values, chart=CHART, release="bridge", kubernetes="1.27.0"):
    """The text of all manifests. A value is `key=value` for --set-json, or the path of a file."""
    options = [word for value in values for word in (["--set-json", value] if "=" in value else ["--values", value])]
    said = subprocess.run(
        [HELM, "template", release, str(chart), "--namespace=risk", f"--kube-version={kubernetes}", *options],
        capture_output=True, text=True, timeout=60,
    )
    if said.returncode != 0:
        raise Refused(said.stderr)
    return said.stdout


class Rendered:
    """Manifests, to be asked."""

    def __init__(self, text):
        self.all = [document for document in yaml.safe_load_all(text) if document]

    def kinds(self, kind):
        return {document["metadata"]["name"]: document for document in self.all if document["kind"] == kind}

    def one(self, kind):
        (document,) = self.kinds(kind).values()
        return document

    @property
    def pod(self):
        return self.one("Deployment")["spec"]["template"]["spec"]

    @property
    def container(self):
        (container,) = self.pod["containers"]
        return container

    @property
    def environment(self):
        """Variables with a value of their own."""
        return {variable["name"]: variable["value"] for variable in self.container["env"] if "value" in variable}
