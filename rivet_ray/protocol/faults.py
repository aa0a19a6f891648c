"""What is wrong with bytes, or with a value that is to become some."""


class DecodeFault(ValueError):
    """The bytes are not what they should be. The message says why."""


class EncodeFault(ValueError):
    """The value has no form on the wire. The message says why."""


class IntegerFault(EncodeFault):
    """The value holds an integer that a reader whose numbers are doubles would change."""

    def __init__(self, value: int) -> None:
        super().__init__(f"the integer {value} is not exact as a double")
        self.value = value


class HeavyFault(DecodeFault):
    """The bytes hold more values than their reader takes."""
