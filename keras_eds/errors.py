"""Errors that users of the library may want to catch."""


class EDSError(Exception):
    """Base of every error that this library raises on purpose."""


class BudgetError(EDSError, ValueError):
    """A budget that cannot be read, or that no plan can meet."""


class FieldError(EDSError, ValueError):
    """A model whose embedding tables cannot be found, told apart or changed."""


class PlanError(EDSError, ValueError):
    """A plan that is damaged, or that does not belong to the model."""


class DataError(EDSError, ValueError):
    """Data that a search cannot be run on."""


class ProjectError(EDSError, ValueError):
    """A project directory that belongs to another search, or is damaged."""


class StageError(EDSError, RuntimeError):
    """A stage of a search that failed, for instance with a NaN loss."""


class ExportError(EDSError, RuntimeError):
    """A model that a format for serving cannot hold."""
