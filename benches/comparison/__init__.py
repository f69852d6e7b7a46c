"""Measures bridges and proxies beside each other, see benches/compare."""
