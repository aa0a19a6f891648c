"""What is wrong with bytes, or with a value that is to become some."""


class DecodeFault(ValueError):
    """The bytes are not what they should be. The message says why."""


class EncodeFault(ValueError):
    """The value has no form on the wire. The message says why."""
