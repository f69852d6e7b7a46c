"""What callgrind writes is read as its manual says it."""

import unittest

from comparison.callgrind import Profile

# A function that allocates twice directly, and once by growing; mimalloc calls itself meanwhile.
WRITTEN = """\
# callgrind format
version: 1
positions: line
events: Ir
fl=(1) src/main.rs
fn=(1) main
16 400
+2 20
fi=(2) library.rs
* 5
cfn=(2) mi_malloc_aligned
calls=2 0
16 300
cfn=(3) mi_realloc_aligned
calls=1 0
-1 90

fn=(2)
0 300

fn=(3)
0 40
cfn=(2)
calls=1 0
0 50

fn=(4) _mi_theap_realloc_zero
cfn=(2)
calls=7 0
0 70

totals: 765
"""


class Callgrind(unittest.TestCase):
    def read(self, text=WRITTEN):
        return Profile(text.splitlines())

    def test_a_run_has_its_instructions(self):
        self.assertEqual(self.read().instructions, 765)

    def test_a_function_has_what_is_its_own_and_not_what_it_calls(self):
        self.assertEqual(self.read().own, {"main": 425, "mi_malloc_aligned": 300, "mi_realloc_aligned": 40})

    def test_what_the_allocator_calls_itself_is_no_allocation(self):
        self.assertEqual(self.read().allocations, 3)

    def test_an_allocator_by_another_name_is_not_one_that_costs_nothing(self):
        with self.assertRaisesRegex(ValueError, "another allocator"):
            self.read(WRITTEN.replace("mi_", "je_"))

    def test_a_run_that_was_cut_short_is_none(self):
        with self.assertRaisesRegex(ValueError, "has not come to its end"):
            self.read(WRITTEN.replace("totals: 765\n", ""))


if __name__ == "__main__":
    unittest.main()
