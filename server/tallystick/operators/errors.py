"""What is wrong with the words of an operator."""

from tallystick.kernel.errors import BadInput


class UnusableWords(BadInput):
    """An operator's name or reason that is empty, too long or no single line."""

    is_for_operators = True
    title = "A name or a reason is missing"
    next_step = "Write your name, and the reason in one line."
