"""What a refusal must look like."""

import pytest


def refused(error, *tokens):
    """The call raises `error`, and its message has every token, a regular expression."""
    pattern = "".join(f"(?=.*{token})" for token in tokens)
    return pytest.raises(error, match=f"(?s)^{pattern}")
