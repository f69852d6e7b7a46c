"""What transcoders have in common: they serve the suite's own definition, annotated with google.api.http."""

from adapters import HERE, Base

PREFIX = "/activeviam/query-history/rest/v1/query/"


class Transcoded(Base):
    imports, proto = (HERE,), "transcoded.proto"
    service = "conformance.v1.QueryHistory"
    # google.api.http cannot say what a body always is, so the caller sends it.
    cancel = ("CancelQuery", {"query_id": "{id}", "patch": {"status": "CANCELLED"}})
    cancel_by_id = ("CancelQuery", {"query_id": "{id}"})
    read = ("GetQuery", {"query_id": "{id}"})
    read_status = ("status",)
