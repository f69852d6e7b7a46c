"""A sample is counted for whose code it is."""

import unittest

from comparison import profile

REPORT = """
# Overhead  Symbol
    50.00%  [k] tcp_sendmsg
    20.00%  [.] <atoti_grpc_bridge::server::stack::Stack as tower_service::Service<http::Request<T>>>::call
    10.00%  [.] h2::proto::connection::Connection<T,P,B>::poll
     6.00%  [.] __memmove_avx512_unaligned_erms
     5.00%  [.] <hyper::proto::h2::server::H2Stream<F,B,Ex> as core::future::future::Future>::poll
     4.00%  [.] mi_free
     3.00%  [.] core::ptr::drop_in_place<http::header::map::HeaderMap>
     2.00%  [.] clock_gettime
"""


class Profile(unittest.TestCase):
    def test_each_symbol_has_one_group(self):
        shares = profile.shares(REPORT)
        told = {group: round(share, 4) for group, share in shares.items() if share}
        self.assertEqual(told, {
            profile.KERNEL: 0.5, "the bridge's own": 0.2, "HTTP/2 (h2)": 0.1, profile.COPIES: 0.06, "hyper": 0.05,
            profile.MEMORY: 0.04, "headers and bytes (http, bytes)": 0.03, profile.OTHERS: 0.02,
        })


if __name__ == "__main__":
    unittest.main()
