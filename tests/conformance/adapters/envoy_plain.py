"""Envoy with its reverse transcoder as its documentation shows it: without what other filters can do beside it."""

from adapters import envoy
from adapters.transcoded import Transcoded


class Adapter(envoy.Adapter):
    title = f"{envoy.Adapter.title}, transcoder alone"
    configuration = (
        "The same without `custom_response`, `transform`, the route for `.` and `..`, and `header_mutation`: the "
        "transcoder, deadlines, and routes for the service alone. The caller sends `{\"status\":\"CANCELLED\"}`. It "
        "shows what the transcoder itself does."
    )
    service = Transcoded.service
    cancel = Transcoded.cancel

    def routes(self):
        first, _, last = super().routes()
        yield first
        yield last

    def filters(self):
        yield next(super().filters())

    @staticmethod
    def upstream_filters():
        yield from ()
