"""The one family of errors: each message says what is wrong, where, and how to mend it."""


class AnytimeError(Exception):
    """Base of every error this package raises on purpose."""


class BundleError(AnytimeError):
    """A ladder bundle is missing, damaged or does not fit its schema."""


class EngineError(AnytimeError):
    """An inference engine cannot load or run a stage."""


class ImageError(AnytimeError):
    """An incoming image cannot be used; `kind` names the reason for counters.

    Attributes:
        kind: Short, stable name of the reason, e.g. `unknown_encoding`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class ConfigurationError(AnytimeError):
    """A parameter, launch argument or command-line option has an unusable value."""


class MissingDependencyError(AnytimeError):
    """An optional package is needed for what was asked and is not installed."""
