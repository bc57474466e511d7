"""What is wrong when an exported graph and its torch module disagree."""


class ParityError(RuntimeError):
    """The exported graph does not compute what the torch model computes."""
