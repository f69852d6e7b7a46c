"""What a call runs through is counted once, and what else has been run is not."""

import unittest

from comparison import code
from comparison.callgrind import executed


def written(calls):
    """A beginning of 500 rounds; a call of four instructions, in three lines, the last of which is another page;
    one more for every tenth call; and a function that it calls."""
    return f"""\
# callgrind format
positions: instr line
events: Ir
ob=(1) program
fn=(1) main
0x1000 7 500
fn=(2) a call
0x1f00 20 {calls}
0x1fb0 20 {calls}
0x1fb4 +1 {calls}
0x2000 * {calls}
0x3000 22 {calls // 10}
cfn=(3) copy
calls={calls} 0x9000
0x1fb8 21 {8 * calls}

fn=(3)
0x9000 0 {8 * calls}
0x9004 0 {calls}
totals: {12 * calls + 500}
""".splitlines()


class Code(unittest.TestCase):
    def test_an_address_has_its_own_executions_and_not_those_of_what_it_calls(self):
        counts = executed(written(100))
        self.assertEqual(counts, {0x1000: 500, 0x1f00: 100, 0x1fb0: 100, 0x1fb4: 100, 0x2000: 100, 0x3000: 10,
                                  0x9000: 800, 0x9004: 100})

    def test_the_beginning_and_what_is_seldom_are_no_part_of_it(self):
        size = code.size(executed(written(100)), executed(written(300)), 200)
        self.assertEqual(size, {"instructions": 6, "lines": 4, "pages": 3})


if __name__ == "__main__":
    unittest.main()
