from bsm_hello import HelloRemover

from bsm_core.testing import parametrize_with_checks


@parametrize_with_checks("bsm-hello")
def test_conformance(check):
    check()


def test_a_greeting_goes_and_all_else_stays():
    step = HelloRemover()
    assert step.process("Hello, my bag is torn. Hello?") == "my bag is torn. Hello?"
    assert step.process("Highly recommended") == "Highly recommended"
