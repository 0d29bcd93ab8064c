"""What can be wrong with an evaluation that a person asked for."""


class EvaluationError(ValueError):
    """The person's to mend; its message says what was wrong and what to do."""
