"""The subcommands of `mcnet`, one module each, with `add_parser` and `run`. Heavy imports wait until they run."""
