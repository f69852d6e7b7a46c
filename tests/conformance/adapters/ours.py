"""This project's bridge, as its program serves."""

import json
import os

from adapters import LIMIT_SECONDS, ROOT, Base


class Adapter(Base):
    title = "this bridge"
    configuration = (
        "`serve` with its defaults, save `--upstream-timeout`, which is the limit of a call without a deadline "
        f"({LIMIT_SECONDS} s instead of 10 s, to keep the run short). Reads are `GetQuery`, cancels `CancelQuery` "
        "without `wait`."
    )
    imports, proto = (ROOT / "proto",), "atoti/queryhistory/v1/query_history.proto"
    service = "atoti.queryhistory.v1.QueryHistoryService"
    cancel = cancel_by_id = ("CancelQuery", {"query_id": "{id}"})
    read = ("GetQuery", {"query_id": "{id}"})
    read_status, status_prefix = ("query", "status"), "QUERY_STATUS_"

    def start(self, upstream):
        process, log = self.spawn(
            os.environ["BRIDGE"], "serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--drain-delay=0s",
            "--log-format=json", f"--upstream-url=http://{upstream}", f"--upstream-timeout={LIMIT_SECONDS}s",
        )

        def listening():
            for line in log.read_text(encoding="utf-8").splitlines():
                if line.startswith("{") and line.endswith("}") and json.loads(line)["message"] == "listening":
                    return json.loads(line)["grpc.address"]
            return None

        return self.eventually("the bridge", process, log, listening)
