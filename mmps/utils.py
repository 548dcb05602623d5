"""What MMEngine's hub asks of a package."""


def register_all_modules() -> None:
    """Importing mmps registers all; MMEngine calls this before it builds a model from an ``mmps::`` config."""
    import mmps  # noqa: F401
