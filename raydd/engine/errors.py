"""The one exception that means: the input is at fault, say so in a sentence and stop."""


class Refused(ValueError):
    """Work that cannot be done as asked; its text is one sentence for the user.

    The doors print the text and exit with code 2, without a traceback. Everything else
    that goes wrong keeps its traceback.
    """
